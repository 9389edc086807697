// MUL_MAT_ID of float matrices for few tokens, on CPUs.

#include "matvec_float.cl"
#include "rows.h"

// Work-groups: bands of rows of a matrix; positions in ids.
kernel void experts_matvec_float(Packed w, ulong w_at, long4 w_ne, long4 w_nb, Packed b,
                                 ulong b_at, long4 b_ne, long4 b_nb, Bytes ids,
                                 ulong ids_at, long4 ids_ne, long4 ids_nb, Bytes y,
                                 ulong y_at, long4 y_nb, long band, global int *fault,
                                 int number) {
    long slot = get_group_id(1) % ids_ne.x, token = get_group_id(1) / ids_ne.x;
    long id = *(global const int *)(ids + ids_at + slot * ids_nb.x + token * ids_nb.y);
    if (!is_index(id, w_ne.z, fault, number)) return;
    long first = get_group_id(0) * band, end = min(first + band, w_ne.y);
    Packed matrix = w + w_at + id * w_nb.z;
    Packed x = b + b_at + slot % b_ne.y * b_nb.y + token * b_nb.z;
    Floats out = floats_of(y, y_at, y_nb, (long4)(0, slot, token, 0));
    rows_times(matrix, w_nb.y, first, end, x, w_ne.x, out);
}
