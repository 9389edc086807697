// MUL_MAT of float matrices with up to TILE rows of b, on CPUs. For so few rows, filling a
// panel as in matmat_float.cl would take longer than it saves.

#include "gemm_small.h"
#include "rows_of_b.h"

#define CHUNK 2048 // columns, so that the rows of b fit the L2 cache

// Work-groups: bands of rows of a matrix; matrices of a.
kernel void matfew_float(Packed a, ulong a_at, long4 a_ne, long4 a_nb, Packed b, ulong b_at,
                         long4 b_ne, long4 b_nb, global char *y, ulong y_at, long4 y_nb,
                         long band) {
    long begin = get_group_id(0) * band, end = min(begin + band, a_ne.y);
    long i2 = get_group_id(1) % a_ne.z, i3 = get_group_id(1) / a_ne.z;
    long r2 = b_ne.z / a_ne.z, r3 = b_ne.w / a_ne.w, count = b_ne.y * r2 * r3;
    Packed w = a + a_at + i2 * a_nb.z + i3 * a_nb.w, x[TILE];
    global float *out[TILE];
    rows_from(0, count, r2, b + b_at + i2 * r2 * b_nb.z + i3 * r3 * b_nb.w, b_ne, b_nb, x,
              y + y_at + i2 * r2 * y_nb.z + i3 * r3 * y_nb.w, y_nb, out);
    for (long at = 0; at < a_ne.x; at += CHUNK) {
        rows_times_each(w + BYTES * at, a_nb.y, begin, end, x, count,
                        min((long)CHUNK, a_ne.x - at), out, at > 0);
        for (int t = 0; t < TILE; t++) x[t] += 4 * CHUNK;
    }
}
