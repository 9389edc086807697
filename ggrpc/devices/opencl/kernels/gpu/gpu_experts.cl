// Sorts the choices of experts by expert, in one work-group, for gpu_matmat.cl.
//
// `pairs` becomes the positions of all choices in ids, sorted by expert. `tiles` becomes
// their tiles, of up to TOKENS choices of one expert: (expert, index of the first in
// `pairs`, count, 0). The count of unused tiles is 0.

#include "rows.h"

static inline long id_at(Bytes ids, long4 ne, long4 nb, long pair) {
    return *(global const int *)(ids + pair % ne.x * nb.x + pair / ne.x * nb.y);
}

kernel void sort(Bytes ids_, ulong ids_at, long4 ne, long4 nb, long experts, long count,
                 global int *ends, global int4 *tiles, global int *pairs,
                 global int *fault, int number) {
    Bytes ids = ids_ + ids_at;
    long all = ne.x * ne.y;
    for EACH(pair, all) is_index(id_at(ids, ne, nb, pair), experts, fault, number);
    for EACH(expert, experts) {
        int rows = 0;
        for (long pair = 0; pair < all; pair++) rows += id_at(ids, ne, nb, pair) == expert;
        ends[expert] = rows;
    }
    for EACH(i, count) tiles[i] = 0;
    barrier(CLK_GLOBAL_MEM_FENCE);
    if (get_local_id(0) == 0) {
        int end = 0, tile = 0;
        for (long expert = 0; expert < experts; expert++) {
            int start = end;
            end += ends[expert];
            ends[expert] = end;
            for (int at = start; at < end; at += TOKENS)
                tiles[tile++] = (int4)(expert, at, min(TOKENS, end - at), 0);
        }
    }
    barrier(CLK_GLOBAL_MEM_FENCE);
    for EACH(expert, experts) {
        int at = expert ? ends[expert - 1] : 0;
        for (long pair = 0; pair < all; pair++)
            if (id_at(ids, ne, nb, pair) == expert) pairs[at++] = pair;
    }
}
