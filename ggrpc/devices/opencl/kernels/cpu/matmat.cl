// MUL_MAT of a quantized matrix with many rows, on CPUs: see quantize_row.h.
//
// A work-group unpacks a panel of 16 rows of the matrix and CHUNK columns; four elements of
// the first row are followed by four of the second, and so on. It multiplies the panel with
// all rows of b, a tile at a time. The panel is an argument, because PoCL's optimizer loses
// local memory that a kernel declares in functions that are not inlined.

#include "blocks.h"
#include "transpose.h"

// The position in a step of the four elements that `unpack` stores to a lane.
INLINE int place(int i, int lane) {
#if ORDER == HALVED
    return (4 * (i / 2) + lane / 4) * 8 + i % 2 * 4 + lane % 4;
#elif ORDER == ALTERNATE
    return (4 * (i / 2) + i % 2 + 2 * (lane / 8)) * 8 + lane % 8;
#else
    return 16 * i + lane;
#endif
}

// Unpacks a step of 16 rows, which start at w[0] and so on.
INLINE void unpack_step(const Packed *w, long at, local int16 *numbers,
                        local float16 *scale, local float16 *minimum) {
    uchar64 u[16][REGISTERS];
    int16 s[16];
#ifdef HAS_MINIMA
    int16 m[16];
#endif
    for (int r = 0; r < 16; r++) {
        Packed p = w[r] + at;
        float16 factors = scales(p);
        unpack(p, u[r]);
        s[r] = AS(int16, factors);
#ifdef HAS_MINIMA
        m[r] = AS(int16, minima(p));
#endif
    }
    for (int i = 0; i < REGISTERS; i++) {
        int16 v[16];
#pragma unroll
        for (int r = 0; r < 16; r++) v[r] = AS(int16, u[r][i]);
        transpose(v);
#pragma unroll
        for (int lane = 0; lane < 16; lane++) numbers[place(i, lane)] = v[lane];
    }
    transpose(s);
    for (int i = 0; i < SUBS; i++) scale[i] = AS(float16, s[i]);
#ifdef HAS_MINIMA
    transpose(m);
    for (int i = 0; i < SUBS; i++) minimum[i] = AS(float16, m[i]);
#endif
}

OUTER void fill_panel(Packed w, long stride, int count, long k, local int16 *numbers,
                      local float16 *scale, local float16 *minimum) {
    Packed row[16];
    for (int r = 0; r < 16; r++) row[r] = w + min(r, count - 1) * stride;
    long steps = k / STEP;
    for (long i = 0; i < steps; i++) {
        unpack_step(row, i * STEP_BYTES, numbers, scale, minimum);
        numbers += STEP / 4;
        scale += SUBS;
        minimum += SUBS;
    }
    if (k % STEP) {
        uchar copy[16][STEP_BYTES];
        for (int r = 0; r < 16; r++) row[r] = last_step(row[r], k, copy[r]);
        unpack_step(row, 0, numbers, scale, minimum);
    }
}

// A panel, and where its products are stored.
typedef struct {
    const local int16 *numbers;
    const local float16 *scale, *minimum;
    long subs; // groups of SUB columns
    int count; // rows of the matrix
    long pitch; // distance between rows of y, in floats
    bool more; // whether the products are added to y
} Panel;

INLINE void load_or_zero(const Panel *p, const global float *y, int tokens, float16 *acc) {
    union {
        float16 all[TILE];
        float each[TILE][16];
    } v = {};
    if (p->more)
        for (int t = 0; t < tokens; t++)
            for (int r = 0; r < p->count; r++) v.each[t][r] = y[t * p->pitch + r];
#pragma unroll
    for (int t = 0; t < TILE; t++) acc[t] = v.all[t];
}

INLINE void store(const Panel *p, const float16 *acc, int tokens, global float *y) {
    if (tokens == TILE && p->count == 16) {
#pragma unroll
        for (int t = 0; t < TILE; t++) SET_LOOSE(float16, y + t * p->pitch, acc[t]);
        return;
    }
    union {
        float16 all[TILE];
        float each[TILE][16];
    } v;
#pragma unroll
    for (int t = 0; t < TILE; t++) v.all[t] = acc[t];
    for (int t = 0; t < tokens; t++)
        for (int r = 0; r < p->count; r++) y[t * p->pitch + r] = v.each[t][r];
}

OUTER void multiply(const Panel *p, const global int *x, const global float *scale,
                    const global float *sums, int tokens, global float *y) {
    float16 acc[TILE];
    load_or_zero(p, y, tokens, acc);
    for (long i = 0; i < p->subs; i++) {
        int16 dots[TILE] = {};
#pragma unroll
        for (int first = 0; first < SUB / 4; first += AT_ONCE) {
            Dots some[TILE] = {};
#pragma unroll
            for (int four = first; four < first + AT_ONCE; four++) {
                uchar64 w = AS(uchar64, p->numbers[i * (SUB / 4) + four]);
#pragma unroll
                for (int t = 0; t < TILE; t++) {
                    char64 bytes = AS(char64, (int16)(x[four * TILE + t]));
                    some[t] = PRODUCTS(some[t], w, bytes);
                }
            }
#pragma unroll
            for (int t = 0; t < TILE; t++) dots[t] = dots[t] + WHOLE(some[t]);
        }
        float16 s = p->scale[i];
#pragma unroll
        for (int t = 0; t < TILE; t++) {
            float by = scale[i * SUB / 32 * TILE + t];
            float16 product = CONVERT(float16, dots[t]) - (float16)(OFFSET * sums[t]);
            acc[t] = acc[t] + product * (s * by);
#ifdef HAS_MINIMA
            acc[t] = acc[t] - p->minimum[i] * (by * sums[t]);
#endif
        }
        x += SUB / 4 * TILE;
        sums += TILE;
    }
    store(p, acc, tokens, y);
}

kernel void matmat(Packed w, ulong w_at, long stride, const global int *x,
                   const global float *scales, const global float *sums, long padded,
                   long k, long n, long tokens, global char *y, ulong y_at, long pitch,
                   local int16 *numbers, local float16 *scale, local float16 *minimum) {
    long first = get_group_id(0) * 16;
    Panel p = {numbers, scale, minimum, 0, min(16L, n - first), pitch, false};
    global float *out = (global float *)(y + y_at) + first;
    for (long from = 0; from < k; from += CHUNK) {
        long columns = min((long)CHUNK, k - from);
        fill_panel(w + w_at + first * stride + from / STEP * STEP_BYTES, stride, p.count,
                   columns, numbers, scale, minimum);
        p.subs = (columns + SUB - 1) / SUB;
        p.more = from > 0;
        for (long t = 0; t < tokens; t += TILE)
            multiply(&p, x + t * (padded / 4) + from / 4 * TILE,
                     scales + t * (padded / 32) + from / 32 * TILE,
                     sums + t * (padded / SUB) + from / SUB * TILE,
                     min((long)TILE, tokens - t), out + t * pitch);
    }
}
