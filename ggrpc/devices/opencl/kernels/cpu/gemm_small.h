// Products of a float matrix with up to TILE rows of float32.

#include "load_float.h"

#define AT_ONCE (TILE <= FLOAT_SUMS ? TILE : 4)

// Loads the last `count` elements of a row; the rest is 0.
INLINE float16 last_of(Packed x, int count) {
    union {
        float16 all;
        float each[16];
    } v = {};
    for (int i = 0; i < count; i++) v.each[i] = ((const global float *)x)[i];
    return v.all;
}

// Multiplies one row of the matrix with each row of x.
INLINE void times_each(Packed w, const Packed *x, long k, float *sums) {
#pragma unroll
    for (int first = 0; first < TILE; first += AT_ONCE) {
        float16 acc[AT_ONCE] = {};
        long i = 0;
        for (; i + 16 <= k; i += 16) {
            float16 v = load16(w + BYTES * i);
#pragma unroll
            for (int t = 0; t < AT_ONCE; t++)
                acc[t] = acc[t] + v * LOOSE(float16, x[first + t] + 4 * i);
        }
        if (i < k) {
            float16 v = up_to_sixteen(w + BYTES * i, k - i);
#pragma unroll
            for (int t = 0; t < AT_ONCE; t++)
                acc[t] = acc[t] + v * last_of(x[first + t] + 4 * i, k - i);
        }
#pragma unroll
        for (int t = 0; t < AT_ONCE; t++) sums[first + t] = total(acc[t]);
    }
}

#define AHEAD 4096 // bytes from the row that is multiplied to the one prefetched

// Multiplies the rows `first` to `end` - 1 with `count` rows of x. If `more`, the products
// are added to y.
OUTER void rows_times_each(Packed w, long stride, long first, long end, const Packed *x,
                           int count, long k, global float **y, bool more) {
    long bytes = BYTES * k, ahead = max(1L, AHEAD / max(1L, bytes)) * stride;
    for (long i = first; i < end; i++) {
        float sums[TILE];
        fetch(w + i * stride + ahead, bytes);
        times_each(w + i * stride, x, k, sums);
#pragma unroll
        for (int t = 0; t < TILE; t++)
            if (t < count) y[t][i] = more ? y[t][i] + sums[t] : sums[t];
    }
}
