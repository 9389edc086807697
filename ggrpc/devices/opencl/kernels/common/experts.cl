// ADD_ID, and the grouping of choices by expert.

#include "rows.h"

// y[t, j] = a[t, j] + b[ids[t, j]], of F32 rows with contiguous elements.
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

// Groups the elements of ids by their value, an expert. Those of an expert are
// choices[starts[expert]] to choices[ends[expert] - 1], as positions in ids. Each group
// starts at a multiple of `tile`; positions of padding are -1. starts[experts] is the end
// of the last group. One work-group runs this.
kernel void group_by_expert(Bytes ids_, ulong ids_at, long4 ne, long4 nb, long experts,
                            long tile, long size, global int *starts, global int *ends,
                            global int *choices, global int *fault, int number) {
#define ID(i) *(global const int *)(ids + (i) % ne.x * nb.x + (i) / ne.x * nb.y)
    Bytes ids = ids_ + ids_at;
    long n = ne.x * ne.y;
    for EACH(i, experts) ends[i] = 0;
    for EACH(i, size) choices[i] = -1;
    barrier(CLK_GLOBAL_MEM_FENCE);
    for EACH(i, n)
        if (is_index(ID(i), experts, fault, number)) atomic_inc(ends + ID(i));
    barrier(CLK_GLOBAL_MEM_FENCE);
    if (get_local_id(0) == 0) {
        long at = 0;
        for (long i = 0; i < experts; i++) {
            long count = ends[i];
            starts[i] = ends[i] = at;
            at += (count + tile - 1) / tile * tile;
        }
        starts[experts] = at;
    }
    barrier(CLK_GLOBAL_MEM_FENCE);
    for EACH(i, n)
        if (ID(i) >= 0 && ID(i) < experts) choices[atomic_inc(ends + ID(i))] = i;
}
