// SOFT_MAX of dense F32 rows: exp(x * scale + slope * mask), as parts of their sum.

#include "floats.h"
#include "rows.h"

kernel void soft_max(Bytes x_, ulong x_at, Bytes mask_, ulong mask_at, Bytes sinks_,
                     ulong sinks_at, Bytes y_, ulong y_at, long4 ne, long4 x_nb,
                     long4 mask_ne, long4 mask_nb, long4 y_nb,
                     global const float *slopes, float scale) {
    local float each[MOST_WORK_ITEMS];
    long4 at = row_number(ne);
    Floats x = floats_of(x_, x_at, x_nb, at), y = floats_of(y_, y_at, y_nb, at);
    float16 widest = -INFINITY, wide = 0;
    float largest = -INFINITY, total = 0;
#ifdef MASK
    Bytes mask = row_of(mask_, mask_at, mask_nb,
                        (long4)(0, at.y, at.z % mask_ne.z, at.w % mask_ne.w));
    float slope = slopes[at.z];
#define BIAS16(i) + slope * LOAD16(MASK, mask + (i) * SIZE(MASK))
#define BIAS(i) + slope * LOAD(MASK, mask + (i) * SIZE(MASK))
#else
#define BIAS16(i)
#define BIAS(i)
#endif
    for EACH_16(i, ne.x) {
        float16 score = vload16(0, x + i) * scale BIAS16(i);
        vstore16(score, 0, y + i);
        widest = fmax(widest, score);
    }
    for EACH_LAST(i, ne.x) {
        float score = x[i] * scale BIAS(i);
        y[i] = score;
        largest = fmax(largest, score);
    }
    largest = group_max(fmax(largest, max_of_16(widest)), each);
#ifdef SINKS
    float sink = ((Floats)(sinks_ + sinks_at))[at.z];
    largest = fmax(largest, sink);
#endif
    for EACH_16(i, ne.x) {
        float16 weight = exp(vload16(0, y + i) - largest);
        vstore16(weight, 0, y + i);
        wide += weight;
    }
    for EACH_LAST(i, ne.x) {
        float weight = exp(y[i] - largest);
        y[i] = weight;
        total += weight;
    }
    total = group_sum(total + sum_of_16(wide), each);
#ifdef SINKS
    total += exp(sink - largest);
#endif
    for EACH_16(i, ne.x) vstore16(vload16(0, y + i) / total, 0, y + i);
    for EACH_LAST(i, ne.x) y[i] /= total;
}
