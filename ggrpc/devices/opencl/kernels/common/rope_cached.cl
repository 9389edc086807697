// ROPE of queries and keys, and SET_ROWS of the rotated keys and of values to the caches.

#include "rows.h"
#include "rope.h"
#include "copy_row.h"
#include "set_row.h"

// The work-groups for queries come first, then those for keys, then those for values.
// ROPE has a row for each head of each token, SET_ROWS for each token of each head.
#define KERNEL(name, rotation)                                                           \
    kernel void name(Bytes x_, ulong x_at, Bytes y_, ulong y_at, Bytes v_, ulong v_at,   \
                     Bytes w_, ulong w_at, global const float *table, long4 ne,          \
                     long4 x_nb, long4 y_nb, long4 v_ne, long4 v_nb, long4 w_nb,         \
                     long pairs, long first, SET(keys), SET(values), global int *fault,  \
                     int key_node, int value_node) {                                     \
        long group = get_group_id(0), queries = ne.y * ne.z * ne.w;                      \
        long keyed = queries + keys_ne.y * keys_ne.z;                                    \
        if (group < queries) {                                                           \
            long4 at = row_at(group, ne);                                                \
            ROPE(rotation, x_, x_at, x_nb, y_, y_at, y_nb, at, ne.x)                     \
        } else if (group < keyed) {                                                      \
            long4 to = row_at(group - queries, keys_ne), at = to.xzyw;                   \
            ROPE(rotation, v_, v_at, v_nb, w_, w_at, w_nb, at, v_ne.x)                   \
            barrier(CLK_GLOBAL_MEM_FENCE);                                               \
            SET_ROW(keys, to, fault, key_node);                                          \
        } else {                                                                         \
            SET_ROW(values, row_at(group - keyed, values_ne), fault, value_node);        \
        }                                                                                \
    }
KERNEL(normal, rotate_normal)
KERNEL(neox, rotate_neox)
