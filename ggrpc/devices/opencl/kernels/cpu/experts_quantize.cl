// Rows of float32 as quantize_row.h leaves them, grouped by the expert that each is for.

#include "quantize_row.h"

kernel void experts_quantize(Packed b, ulong b_at, long4 ne, long4 nb,
                            const global int *starts, const global int *places,
                            long experts, long used, long padded, global int *q,
                            global float *scales, global float *sums32,
                            global float *sums16) {
    long row = get_group_id(0), place = places[row];
    if (row >= starts[experts]) return;
    Packed from = b + b_at + place % used % ne.y * nb.y + place / used * nb.z;
    round_row(from, place < 0 ? 0 : ne.x, row, padded, q, scales, sums32, sums16);
}
