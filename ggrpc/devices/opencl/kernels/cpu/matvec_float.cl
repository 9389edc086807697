// Products of a float matrix with one row of float32, on CPUs.

#include "load_float.h"

// Multiplies up to ROWS rows, `stride` bytes apart, of which `count` exist. Their results
// are `part` elements apart.
INLINE void some_rows(Packed w, long stride, int count, Packed x, long k, long part,
                      global float *y) {
    Packed row[ROWS];
    float16 acc[ROWS];
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        row[r] = w + min(r, count - 1) * stride;
        acc[r] = 0;
    }
    long whole = k & ~15L;
    for (long i = 0; i < whole; i += 16) {
        float16 v = LOOSE(float16, x + 4 * i);
#pragma unroll
        for (int r = 0; r < ROWS; r++)
            acc[r] = acc[r] + load16(row[r] + BYTES * i) * v;
    }
    for (long i = whole; i < k; i++) {
        float16 v = (float16)(((const global float *)x)[i], (float8)(0), (float4)(0),
                              (float2)(0), 0);
        for (int r = 0; r < ROWS; r++)
            acc[r] = acc[r] + up_to_sixteen(row[r] + BYTES * i, 1) * v;
    }
#pragma unroll
    for (int r = 0; r < ROWS; r++)
        if (r < count) y[r * part] = total(acc[r]);
}

// Multiplies the rows `first` to `end` - 1. Those that are read side by side are far apart,
// so that each is followed by the next row of its own: processors prefetch what is read in
// order, but not rows that alternate within a page.
OUTER void rows_times(Packed w, long stride, long first, long end, Packed x, long k,
                      global float *y) {
    long n = end - first, part = (n + ROWS - 1) / ROWS;
    w += first * stride;
    y += first;
    for (long i = 0; i < part; i++)
        some_rows(w + i * stride, part * stride, (n - i + part - 1) / part, x, k, part,
                  y + i);
}

// Work-groups: bands of rows of a matrix; matrices of a.
kernel void matvec_float(Packed a, ulong a_at, long4 a_ne, long4 a_nb, Packed b, ulong b_at,
                         long4 b_nb, global char *y, ulong y_at, long4 y_nb, long band) {
    long first = get_group_id(0) * band, end = min(first + band, a_ne.y);
    long i2 = get_group_id(1) % a_ne.z, i3 = get_group_id(1) / a_ne.z;
    Packed w = a + a_at + i2 * a_nb.z + i3 * a_nb.w;
    Packed x = b + b_at + i2 * b_nb.z + i3 * b_nb.w;
    global float *out = (global float *)(y + y_at + i2 * y_nb.z + i3 * y_nb.w);
    rows_times(w, a_nb.y, first, end, x, a_ne.x, out);
}
