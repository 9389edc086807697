// MUL_MAT and MUL_MAT_ID with few rows of b, on GPUs.
//
// A work-group multiplies ROWS rows of the matrix with up to TOKENS rows of b. Its LOCAL
// work-items share the pieces of a row; adjacent work-items read adjacent pieces.

#include "dequant_gpu.h"
#include "rows.h"

#define SUMS (ROWS * TOKENS)

// Adds up the sums of all work-items into those of work-item 0.
static inline void reduce(local float *sums) {
    int me = get_local_id(0);
    for (int n = LOCAL / 2; n > 0; n /= 2) {
        barrier(CLK_LOCAL_MEM_FENCE);
        if (me < n)
            for (int i = 0; i < SUMS; i++) sums[i * LOCAL + me] += sums[i * LOCAL + me + n];
    }
    barrier(CLK_LOCAL_MEM_FENCE);
}

// sums[(row * TOKENS + token) * LOCAL] = row . token. Rows and tokens past the end repeat
// the last one.
static inline void multiply(Packed w, long stride, int rows, const Floats *x, long k,
                            local float *sums) {
    float sum[SUMS];
    for (int i = 0; i < SUMS; i++) sum[i] = 0;
    for EACH(piece, (k + 15) / 16) {
        float8 a[TOKENS], b[TOKENS];
        for (int t = 0; t < TOKENS; t++) take_at(x[t], piece, k, a + t, b + t);
        for (int r = 0; r < ROWS; r++) {
            float8 u, v;
            unpack_at(w + min(r, rows - 1) * stride, piece, k, &u, &v);
            for (int t = 0; t < TOKENS; t++) {
                float8 products = u * a[t] + v * b[t];
                float4 four = products.lo + products.hi;
                float2 two = four.lo + four.hi;
                sum[r * TOKENS + t] += two.x + two.y;
            }
        }
    }
    for (int i = 0; i < SUMS; i++) sums[i * LOCAL + get_local_id(0)] = sum[i];
    reduce(sums);
}

// Work-groups: groups of rows of a matrix; groups of rows of b; matrices.
kernel void matvec(Packed a, ulong a_at, long4 a_ne, long4 a_nb, Bytes b, ulong b_at,
                   long4 b_ne, long4 b_nb, Bytes y, ulong y_at, long4 y_nb) {
    local float sums[SUMS * LOCAL];
    long first = get_group_id(0) * ROWS, token = get_group_id(1) * TOKENS;
    long i2 = get_group_id(2) % a_ne.z, i3 = get_group_id(2) / a_ne.z;
    long r2 = b_ne.z / a_ne.z, r3 = b_ne.w / a_ne.w;
    int rows = (int)min((long)ROWS, a_ne.y - first);
    int tokens = (int)min((long)TOKENS, b_ne.y * r2 * r3 - token);
    Floats x[TOKENS], to[TOKENS];
    for (int t = 0; t < TOKENS; t++) {
        long n = token + min(t, tokens - 1);
        long4 j = (long4)(0, n % b_ne.y, n / b_ne.y % r2 + i2 * r2,
                          n / (b_ne.y * r2) + i3 * r3);
        x[t] = floats_of(b, b_at, b_nb, j);
        to[t] = floats_of(y, y_at, y_nb, j) + first;
    }
    Packed w = a + a_at + first * a_nb.y + i2 * a_nb.z + i3 * a_nb.w;
    multiply(w, a_nb.y, rows, x, a_ne.x, sums);
    for (int t = 0; t < tokens; t++)
        for EACH(r, rows) to[t][r] = sums[(r * TOKENS + t) * LOCAL];
}

#if TOKENS == 1
// y[t, j] = a[ids[t, j]] b[t, j % b_ne.y]. Work-groups: groups of rows of a matrix; rows
// of y.
kernel void matvec_id(Packed a, ulong a_at, long4 a_ne, long4 a_nb, Bytes b, ulong b_at,
                      long4 b_ne, long4 b_nb, Bytes ids, ulong ids_at, long4 ids_ne,
                      long4 ids_nb, Bytes y, ulong y_at, long4 y_nb, global int *fault,
                      int number) {
    local float sums[SUMS * LOCAL];
    long first = get_group_id(0) * ROWS;
    long j = get_group_id(1) % ids_ne.x, token = get_group_id(1) / ids_ne.x;
    long id = *(global const int *)(ids + ids_at + j * ids_nb.x + token * ids_nb.y);
    if (!is_index(id, a_ne.z, fault, number)) return;
    int rows = (int)min((long)ROWS, a_ne.y - first);
    Floats x = floats_of(b, b_at, b_nb, (long4)(0, j % b_ne.y, token, 0));
    Floats to = floats_of(y, y_at, y_nb, (long4)(0, j, token, 0)) + first;
    Packed w = a + a_at + first * a_nb.y + id * a_nb.z;
    multiply(w, a_nb.y, rows, &x, a_ne.x, sums);
    for EACH(r, rows) to[r] = sums[r * LOCAL];
}
#endif
