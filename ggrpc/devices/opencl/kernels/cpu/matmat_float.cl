// MUL_MAT of float matrices with many rows, on CPUs.
//
// A work-group converts a panel of 32 rows of a matrix and CHUNK columns, transposed, so
// that the elements of 16 rows are adjacent. It multiplies the panel with all rows of b for
// this matrix, TILE at a time.

#include "load_float.h"
#include "rows_of_b.h"
#include "transpose.h"

// Fills 16 rows of a panel, of which the matrix has `count`.
INLINE void fill_side(Packed w, long stride, int count, long k, local float16 *panel) {
    Packed row[16];
    for (int r = 0; r < 16; r++) row[r] = w + clamp(r, 0, count - 1) * stride;
    for (long i = 0; i < k; i += 16) {
        int16 v[16];
        if (i + 16 <= k)
#pragma unroll
            for (int r = 0; r < 16; r++) v[r] = AS(int16, load16(row[r] + BYTES * i));
        else
            for (int r = 0; r < 16; r++)
                v[r] = AS(int16, up_to_sixteen(row[r] + BYTES * i, k - i));
        transpose(v);
#pragma unroll
        for (int j = 0; j < 16; j++) panel[2 * (i + j)] = AS(float16, v[j]);
    }
}

OUTER void fill_panel(Packed w, long stride, int count, long k, local float16 *panel) {
    fill_side(w, stride, min(count, 16), k, panel);
    if (count > 16) fill_side(w + 16 * stride, stride, count - 16, k, panel + 1);
}

// The halves of a panel, and the rows of b, that are multiplied at once.
#define SIDES_AT_ONCE (2 * TILE <= FLOAT_SUMS ? 2 : 1)
#define ROWS_AT_ONCE (TILE < FLOAT_SUMS ? TILE : FLOAT_SUMS) // divides TILE

// Stores fewer than 16 sums, or adds them if `more`.
OUTER void put_some(global float *to, const float *sums, int rows, bool more) {
    for (int r = 0; r < rows; r++) to[r] = more ? to[r] + sums[r] : sums[r];
}

// Multiplies some rows of b, and stores the sums to y or adds them if `more`. The panel has
// `count` rows.
INLINE void multiply_some(const local float16 *panel, const Packed *x, long k, int count,
                          global float **y, int first, int tokens, bool more) {
    float16 acc[SIDES_AT_ONCE][ROWS_AT_ONCE] = {};
    for (long i = 0; i < k; i++)
#pragma unroll
        for (int t = 0; t < ROWS_AT_ONCE; t++) {
            float16 b = ((const global float *)x[t])[i];
#pragma unroll
            for (int side = 0; side < SIDES_AT_ONCE; side++)
                acc[side][t] = acc[side][t] + panel[2 * i + side] * b;
        }
#pragma unroll
    for (int side = 0; side < SIDES_AT_ONCE; side++)
#pragma unroll
        for (int t = 0; t < ROWS_AT_ONCE; t++) {
            float16 sums = acc[side][t];
            global float *to = y[t] + first + 16 * side;
            int rows = t < tokens ? count - 16 * side : 0;
            if (rows >= 16)
                SET_LOOSE(float16, to, more ? LOOSE(float16, to) + sums : sums);
            else
                put_some(to, (const float *)&sums, rows, more);
        }
}

OUTER void multiply(const local float16 *panel, const Packed *x, long k, int count,
                    global float **y, int tokens, bool more) {
    for (int side = 0; side < 2; side += SIDES_AT_ONCE)
        for (int t = 0; t < tokens; t += ROWS_AT_ONCE)
            multiply_some(panel + side, x + t, k, count - 16 * side, y + t, 16 * side,
                          tokens - t, more);
}

// Work-groups: panels of 32 rows of a matrix; matrices of a.
kernel void matmat_float(Packed a, ulong a_at, long4 a_ne, long4 a_nb, Packed b, ulong b_at,
                         long4 b_ne, long4 b_nb, global char *y, ulong y_at, long4 y_nb,
                         local float16 *panel) {
    long first = get_group_id(0) * 32;
    long i2 = get_group_id(1) % a_ne.z, i3 = get_group_id(1) / a_ne.z;
    long r2 = b_ne.z / a_ne.z, r3 = b_ne.w / a_ne.w;
    long tokens = b_ne.y * r2 * r3;
    int count = min(32L, a_ne.y - first);
    Packed w = a + a_at + first * a_nb.y + i2 * a_nb.z + i3 * a_nb.w;
    Packed from = b + b_at + i2 * r2 * b_nb.z + i3 * r3 * b_nb.w;
    global char *to = y + y_at + 4 * first + i2 * r2 * y_nb.z + i3 * r3 * y_nb.w;
    for (long start = 0; start < a_ne.x; start += CHUNK) {
        long columns = min((long)CHUNK, a_ne.x - start);
        fill_panel(w + BYTES * start, a_nb.y, count, columns, panel);
        for (long token = 0; token < tokens; token += TILE) {
            Packed x[TILE];
            global float *out[TILE];
            rows_from(token, tokens, r2, from + 4 * start, b_ne, b_nb, x, to, y_nb, out);
            multiply(panel, x, columns, count, out, min((long)TILE, tokens - token),
                     start > 0);
        }
    }
}
