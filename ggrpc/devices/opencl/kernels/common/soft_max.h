// SOFT_MAX of one row: exp(x * scale + slope * mask), divided by the sum.

#include "floats.h"

#ifdef MASK
#define BIAS16(i) + slope * LOAD16(MASK, mask + (i) * SIZE(MASK))
#define BIAS(i) + slope * LOAD(MASK, mask + (i) * SIZE(MASK))
#else
#define BIAS16(i)
#define BIAS(i)
#endif

// `mask` is used if MASK is defined, `sink` if SINKS is: a score that only adds to the sum.
static void soft_max_row(Floats x, Floats y, long n, float scale, Bytes mask, float slope,
                         Floats sink, local float *each) {
    float16 widest = -INFINITY, wide = 0;
    float largest = -INFINITY, total = 0;
    for EACH_16(i, n) {
        float16 score = vload16(0, x + i) * scale BIAS16(i);
        vstore16(score, 0, y + i);
        widest = fmax(widest, score);
    }
    for EACH_LAST(i, n) {
        float score = x[i] * scale BIAS(i);
        y[i] = score;
        largest = fmax(largest, score);
    }
    largest = group_max(fmax(largest, max_of_16(widest)), each);
#ifdef SINKS
    largest = fmax(largest, *sink);
#endif
    for EACH_16(i, n) {
        float16 weight = exp(vload16(0, y + i) - largest);
        vstore16(weight, 0, y + i);
        wide += weight;
    }
    for EACH_LAST(i, n) {
        float weight = exp(y[i] - largest);
        y[i] = weight;
        total += weight;
    }
    total = group_sum(total + sum_of_16(wide), each);
#ifdef SINKS
    total += exp(*sink - largest);
#endif
    for EACH_16(i, n) vstore16(vload16(0, y + i) / total, 0, y + i);
    for EACH_LAST(i, n) y[i] /= total;
}
