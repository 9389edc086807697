// Quantizes rows of float32 in the order of their experts: see quantize_row.h.

#include "quantize_row.h"

kernel void experts_quantize(Packed b, ulong b_at, long4 ne, long4 nb,
                             const global int *starts, const global int *choices,
                             long experts, long used, long padded, global int *q,
                             global float *scales, global float *sums32,
                             global float *sums16) {
    long row = get_group_id(0), choice = choices[row];
    if (row >= starts[experts]) return;
    Packed from = b + b_at + choice % used % ne.y * nb.y + choice / used * nb.z;
    quantize_row(from, choice < 0 ? 0 : ne.x, row, padded, q, scales, sums32, sums16);
}
