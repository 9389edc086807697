// Rows of float32 as blocks of 32 bytes with a scale, as products of quantized matrices
// take them.
//
// TILE rows lie side by side: four bytes of the first, of the second, ...; then the next
// four of each. So what a step of a product needs of them is contiguous. Likewise the
// scales, and the sums of the bytes for each 32 and each 16. `padded` elements a row: what
// the tensor lacks is 0, and so are rows that only fill the last tile.

#include "simd.h"

// What a kernel is given where it rounds beside what else it does.
#ifdef QUANTIZE
#define QUANTIZED_OUTPUTS                                                                           \
    , long padded, global int *bytes, global float *byte_scales, global float *sums32,  \
        global float *sums16
#else
#define QUANTIZED_OUTPUTS
#endif

#define TO_INTEGER 12582912.0f // 1.5 * 2^23: adding it rounds to nearest even

// What is furthest from 0. Of positive numbers the bits are in the same order, and no
// function is called whose vectors another processor passes otherwise.
INLINE float largest(float16 a, float16 b) {
    int16 x = AS(int16, a) & 0x7fffffff, y = AS(int16, b) & 0x7fffffff;
    int16 m = x > y ? x : y;
    int8 n = m.lo > m.hi ? m.lo : m.hi;
    int4 o = n.lo > n.hi ? n.lo : n.hi;
    int2 p = o.lo > o.hi ? o.lo : o.hi;
    return AS(float, p.x > p.y ? p.x : p.y);
}

INLINE void put(global int *q, float16 shifted) {
    int4 bytes = AS(int4, CONVERT(char16, AS(int16, shifted)));
    q[0] = bytes.x;
    q[TILE] = bytes.y;
    q[2 * TILE] = bytes.z;
    q[3 * TILE] = bytes.w;
}

INLINE float16 padded_sixteen(Packed row, long at, long k) {
    return at < k ? LOOSE(float16, row + 4 * at) : (float16)(0);
}

// Some blocks of 32 of row number `row` of what is rounded: k floats.
OUTER void round_blocks(Packed from, long k, long row, long padded, global int *q,
                        global float *scales, global float *sums32, global float *sums16,
                        long begin, long end) {
    long lane = row % TILE, first = row - lane;
    q += first * (padded / 4) + lane;
    scales += first * (padded / 32) + lane;
    sums32 += first * (padded / 32) + lane;
    sums16 += first * (padded / 16) + lane;
    for (long i = begin; i < end; i++) {
        float16 a = padded_sixteen(from, 32 * i, k), b = padded_sixteen(from, 32 * i + 16, k);
        float most = largest(a, b), scale = most / 127;
        float inverse = most > 0 ? 127 / most : 0;
        a = a * inverse + TO_INTEGER;
        b = b * inverse + TO_INTEGER;
        put(q + 8 * i * TILE, a);
        put(q + (8 * i + 4) * TILE, b);
        float one = total(a - TO_INTEGER), other = total(b - TO_INTEGER);
        scales[i * TILE] = scale;
        sums32[i * TILE] = one + other;
        sums16[2 * i * TILE] = one;
        sums16[(2 * i + 1) * TILE] = other;
    }
}

// All of them.
static void round_row(Packed from, long k, long row, long padded, global int *q,
                      global float *scales, global float *sums32, global float *sums16) {
    round_blocks(from, k, row, padded, q, scales, sums32, sums16, 0, padded / 32);
}
