// y[t, j] = a[t, j] + b[ids[t, j]], of dense F32 rows.

#include "rows.h"

kernel void add_id(Bytes a_, ulong a_at, Bytes b_, ulong b_at, Bytes ids, ulong ids_at,
                   Bytes y_, ulong y_at, long4 ne, long4 a_nb, long4 b_ne, long4 b_nb,
                   long4 ids_nb, long4 y_nb, global int *fault, int number) {
    long4 at = row_number(ne);
    long id = *(global const int *)(ids + ids_at + at.y * ids_nb.x + at.z * ids_nb.y);
    if (!is_index(id, b_ne.y, fault, number)) return;
    Floats a = floats_of(a_, a_at, a_nb, at), y = floats_of(y_, y_at, y_nb, at);
    Floats b = floats_of(b_, b_at, b_nb, (long4)(0, id, 0, 0));
    for EACH_16(i, ne.x) vstore16(vload16(0, a + i) + vload16(0, b + i), 0, y + i);
    for EACH_LAST(i, ne.x) y[i] = a[i] + b[i];
}
