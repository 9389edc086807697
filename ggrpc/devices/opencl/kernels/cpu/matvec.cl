// Products of a quantized matrix with one row, on CPUs: see quantize_row.h.

#include "blocks.h"

// The int8 of a step, in the ORDER of the unpacked elements.
INLINE void ordered(const global char *x, char64 *v) {
#pragma unroll
    for (int i = 0; i < REGISTERS; i += 2) {
        ulong8 a = AS(ulong8, LOOSE(uchar64, x + 64 * i));
        ulong8 b = AS(ulong8, LOOSE(uchar64, x + 64 * i + 64));
#if ORDER == HALVED
        v[i] = AS(char64, SHUFFLE(a, b, 0, 1, 4, 5, 8, 9, 12, 13));
        v[i + 1] = AS(char64, SHUFFLE(a, b, 2, 3, 6, 7, 10, 11, 14, 15));
#elif ORDER == ALTERNATE
        v[i] = AS(char64, SHUFFLE(a, b, 0, 1, 2, 3, 8, 9, 10, 11));
        v[i + 1] = AS(char64, SHUFFLE(a, b, 4, 5, 6, 7, 12, 13, 14, 15));
#else
        v[i] = AS(char64, a);
        v[i + 1] = AS(char64, b);
#endif
    }
}

#define FOURS(s, i)                                                                     \
    SHUFFLE(s, s, i, i, i, i, i + 1, i + 1, i + 1, i + 1, i + 2, i + 2, i + 2, i + 2,   \
            i + 3, i + 3, i + 3, i + 3)
#define EIGHTS(s, i, j) SHUFFLE(s, s, i, i, i, i, i, i, i, i, j, j, j, j, j, j, j, j)

// Copies the factor of each SUB elements of a step to the lanes that hold their products.
INLINE void to_lanes(float16 s, float16 *lanes) {
#if ORDER == HALVED
#if SUBS == 4
    // Each four lanes hold all four factors: no value crosses between lanes of 128 bits.
    lanes[0] = lanes[1] =
        SHUFFLE(s, s, 0, 0, 0, 0, 5, 5, 5, 5, 10, 10, 10, 10, 15, 15, 15, 15);
#else
    lanes[0] = lanes[1] = FOURS(s, 0);
    lanes[2] = lanes[3] = FOURS(s, 4);
#endif
#elif ORDER == ALTERNATE
    lanes[0] = EIGHTS(s, 0, 2);
    lanes[1] = EIGHTS(s, 1, 3);
    lanes[2] = EIGHTS(s, 4, 6);
    lanes[3] = EIGHTS(s, 5, 7);
#elif SUB == 32
    lanes[0] = EIGHTS(s, 0, 1);
    lanes[1] = EIGHTS(s, 2, 3);
#else
    lanes[0] = FOURS(s, 0);
    lanes[1] = FOURS(s, 4);
    lanes[2] = FOURS(s, 8);
    lanes[3] = FOURS(s, 12);
#endif
}

// The scales of the int8, one for each SUB elements.
INLINE float16 scales_of(const global float *scales) {
#if STEP == 128
    float4 s = LOOSE(float4, scales);
    return (float16)(s, s, s, s);
#else
    float8 s = LOOSE(float8, scales);
#if SUB == 32
    return (float16)(s, s);
#else
    return SHUFFLE(s, s, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
#endif
#endif
}

// Corrects a sum for values that are too large by an offset or minimum: subtracts `factors`
// times the sums of SUB int8.
INLINE void take(float16 factors, const global float *sums, float16 *acc) {
#if SUBS == 16
    *acc = *acc - factors * LOOSE(float16, sums);
#elif SUBS == 8
    acc->lo = acc->lo - factors.lo * LOOSE(float8, sums);
#else
    acc->lo.lo = acc->lo.lo - factors.lo.lo * LOOSE(float4, sums);
#endif
}

// Adds a step of ROWS rows, which start at w[0] and so on, to their sums.
INLINE void add_step(const Packed *w, long at, const global char *x,
                     const global float *scale, const global float *sums, float16 *acc) {
    char64 v[REGISTERS];
    Dots start[REGISTERS] = {};
    ordered(x, v);
#if defined IS_SIGNED && OFFSET
    // The same numbers that CPUs compute whose instruction takes signed values.
#pragma unroll
    for (int i = 0; i < REGISTERS; i++)
        start[i] = -DOT(start[i], (uchar64)(OFFSET), v[i]);
#endif
    float16 s = scales_of(scale);
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        Packed p = w[r] + at;
        uchar64 u[REGISTERS];
        float16 factors = scales(p) * s, lanes[REGISTERS];
        unpack(p, u);
        to_lanes(factors, lanes);
#if ORDER == HALVED
#pragma unroll
        for (int i = 0; i < REGISTERS; i += 2) {
#if AT_ONCE > 1
            Dots part = PRODUCTS(start[i] + start[i + 1], u[i], v[i]);
            int16 dots = WHOLE(PRODUCTS(part, u[i + 1], v[i + 1]));
#else
            int16 dots = WHOLE(PRODUCTS(start[i], u[i], v[i])) +
                         WHOLE(PRODUCTS(start[i + 1], u[i + 1], v[i + 1]));
#endif
            acc[r] = acc[r] + CONVERT(float16, dots) * lanes[i];
        }
#else
#pragma unroll
        for (int i = 0; i < REGISTERS; i++) {
            int16 dots = WHOLE(PRODUCTS(start[i], u[i], v[i]));
            acc[r] = acc[r] + CONVERT(float16, dots) * lanes[i];
        }
#endif
#ifdef HAS_MINIMA
        take(minima(p) * s, sums, &acc[r]);
#elif OFFSET && !defined IS_SIGNED
        take(factors * OFFSET, sums, &acc[r]);
#endif
    }
}

// Multiplies up to ROWS rows, `stride` bytes apart, of which `count` exist. Their results
// are `part` elements apart.
INLINE void some_rows(Packed w, long stride, int count, const global char *x,
                      const global float *scales, const global float *sums, long k,
                      long part, global float *y) {
    Packed row[ROWS];
    float16 acc[ROWS];
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        row[r] = w + min(r, count - 1) * stride;
        acc[r] = 0;
    }
    long steps = k / STEP;
    for (long i = 0; i < steps; i++) {
#pragma unroll
        for (int r = 0; r < ROWS; r++) fetch(row[r] + i * STEP_BYTES + AHEAD, STEP_BYTES);
        add_step(row, i * STEP_BYTES, x, scales, sums, acc);
        x += STEP;
        scales += STEP / 32;
        sums += SUBS;
    }
    if (k % STEP) {
        uchar copy[ROWS][STEP_BYTES];
        for (int r = 0; r < ROWS; r++) row[r] = last_step(row[r], k, copy[r]);
        add_step(row, 0, x, scales, sums, acc);
    }
#pragma unroll
    for (int r = 0; r < ROWS; r++)
        if (r < count) y[r * part] = total(acc[r]);
}

// Multiplies the rows `first` to `end` - 1. Those that are read side by side are far apart,
// so that each is followed by the next row of its own: processors prefetch what is read in
// order, but not rows that alternate within a page.
OUTER void rows_times(Packed w, long stride, long first, long end, const global char *x,
                      const global float *scales, const global float *sums, long k,
                      global float *y) {
    long n = end - first, part = (n + ROWS - 1) / ROWS;
    w += first * stride;
    y += first;
    for (long i = 0; i < part; i++)
        some_rows(w + i * stride, part * stride, (n - i + part - 1) / part, x, scales, sums,
                  k, part, y + i);
}

kernel void matvec(Packed w, ulong w_at, long stride, const global char *x,
                   const global float *scales, const global float *sums, long k, long n,
                   global char *y, ulong y_at, long band) {
    long first = get_group_id(0) * band, end = min(first + band, n);
    global float *out = (global float *)(y + y_at);
    rows_times(w + w_at, stride, first, end, x, scales, sums, k, out);
}
