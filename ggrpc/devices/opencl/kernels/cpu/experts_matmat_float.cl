// MUL_MAT_ID of float matrices with grouped choices, on CPUs: see experts.cl.

#include "matmat_float.cl"
#include "rows.h"

// Work-groups: panels of 32 rows of a matrix; experts.
kernel void experts_matmat_float(Packed w, ulong w_at, long4 w_ne, long4 w_nb, Packed b,
                                 ulong b_at, long4 b_ne, long4 b_nb,
                                 const global int *starts, const global int *ends,
                                 const global int *choices, long used, Bytes y, ulong y_at,
                                 long4 y_nb, local float16 *panel) {
    long first = get_group_id(0) * 32, expert = get_group_id(1);
    long begin = starts[expert], end = ends[expert];
    if (begin == end) return;
    int count = min(32L, w_ne.y - first);
    Packed matrix = w + w_at + expert * w_nb.z + first * w_nb.y;
    for (long start = 0; start < w_ne.x; start += CHUNK) {
        long columns = min((long)CHUNK, w_ne.x - start);
        fill_panel(matrix + BYTES * start, w_nb.y, count, columns, panel);
        for (long token = begin; token < end; token += TILE) {
            Packed x[TILE];
            global float *out[TILE];
            for (int t = 0; t < TILE; t++) {
                long choice = choices[min(token + t, end - 1)];
                long slot = choice % used, from = choice / used;
                x[t] = b + b_at + 4 * start + slot % b_ne.y * b_nb.y + from * b_nb.z;
                out[t] = floats_of(y, y_at, y_nb, (long4)(0, slot, from, 0)) + first;
            }
            multiply(panel, x, columns, count, out, min((long)TILE, end - token), start > 0);
        }
    }
}
