// MUL_MAT_ID of quantized matrices with grouped choices, on CPUs: see experts_quantize.cl.

#include "matmat.cl"
#include "rows.h"

// Work-groups: panels of 16 rows of a matrix; experts. A tile of the product is contiguous
// until its rows are copied to their places in y.
kernel void experts_matmat(Packed w, ulong w_at, long4 w_ne, long4 w_nb,
                           const global int *x, const global float *scales,
                           const global float *sums, long padded,
                           const global int *starts, const global int *ends,
                           const global int *choices, long used, Bytes y, ulong y_at,
                           long4 y_nb, local int16 *numbers, local float16 *scale,
                           local float16 *minimum) {
    long first = get_group_id(0) * 16, expert = get_group_id(1);
    long start = starts[expert], end = ends[expert];
    if (start == end) return;
    Panel p = {numbers, scale, minimum, 0, min(16L, w_ne.y - first), 16, false};
    Packed panel = w + w_at + expert * w_nb.z + first * w_nb.y;
    float tile[TILE * 16];
    for (long from = 0; from < w_ne.x; from += CHUNK) {
        long columns = min((long)CHUNK, w_ne.x - from);
        fill_panel(panel + from / STEP * STEP_BYTES, w_nb.y, p.count, columns, numbers,
                   scale, minimum);
        p.subs = (columns + SUB - 1) / SUB;
        p.more = from > 0;
        for (long t = start; t < end; t += TILE) {
            int tokens = min((long)TILE, end - t);
            Floats out[TILE];
            for (int j = 0; j < tokens; j++) {
                long4 at = (long4)(0, choices[t + j] % used, choices[t + j] / used, 0);
                out[j] = floats_of(y, y_at, y_nb, at) + first;
                if (p.more)
                    for (int i = 0; i < p.count; i++) tile[16 * j + i] = out[j][i];
            }
            multiply(&p, x + t * (padded / 4) + from / 4 * TILE,
                     scales + t * (padded / 32) + from / 32 * TILE,
                     sums + t * (padded / SUB) + from / SUB * TILE, tokens,
                     (global float *)(ulong)tile);
            for (int j = 0; j < tokens; j++)
                for (int i = 0; i < p.count; i++) out[j][i] = tile[16 * j + i];
        }
    }
}
