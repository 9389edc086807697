// MUL_MAT_ID for gate and up of few tokens, and the GLU of both, on CPUs.

#include "matvec_several.cl"
#include "rows.h"

// Work-groups: bands of rows of both matrices; positions in ids.
kernel void experts_gated(Packed gate, ulong gate_at, Packed up, ulong up_at, long4 w_ne,
                          long4 gate_nb, long4 up_nb, const global char *x,
                          const global float *scales, const global float *sums,
                          long padded, long rows, Bytes ids, ulong ids_at, long4 ids_ne,
                          long4 ids_nb, Bytes g, ulong g_at, Bytes u, ulong u_at, Bytes y,
                          ulong y_at, long4 g_nb, long4 u_nb, long4 y_nb, long band,
                          float slope, float limit, float shift, global int *fault,
                          int number) {
    long slot = get_group_id(1) % ids_ne.x, token = get_group_id(1) / ids_ne.x;
    long id = *(global const int *)(ids + ids_at + slot * ids_nb.x + token * ids_nb.y);
    if (!is_index(id, w_ne.z, fault, number)) return;
    long row = token * rows + slot % rows, first = get_group_id(0) * band;
    long4 at = (long4)(0, slot, token, 0);
    gated_band(gate + gate_at + id * gate_nb.z, up + up_at + id * up_nb.z, gate_nb.y,
               up_nb.y, x + row * padded, scales + row * (padded / 32),
               sums + row * (padded / SUB), w_ne.x, floats_of(g, g_at, g_nb, at),
               floats_of(u, u_at, u_nb, at), floats_of(y, y_at, y_nb, at), first,
               min(first + band, w_ne.y), slope, limit, shift);
}
