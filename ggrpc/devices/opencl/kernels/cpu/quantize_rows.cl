// Quantizes rows of float32: see quantize_row.h.

#include "quantize_row.h"

kernel void quantize_rows(Packed x, ulong x_at, long4 ne, long4 nb, long padded,
                          global int *q, global float *scales, global float *sums32,
                          global float *sums16) {
    long row = get_group_id(0);
    Packed from = x + x_at + row % ne.y * nb.y + row / ne.y % ne.z * nb.z +
                  row / (ne.y * ne.z) * nb.w;
    long k = row < ne.y * ne.z * ne.w ? ne.x : 0;
    quantize_row(from, k, row, padded, q, scales, sums32, sums16);
}
