// Quantizes rows of float32 to int8 with a scale for each block of 32 elements.
//
// TILE rows are interleaved: four int8 of the first row, four of the second, and so on,
// then the next four of each. So a step of a product reads contiguous memory. The scales,
// and the sums of each 32 and each 16 int8, are interleaved too. A row has `padded`
// elements; the padding is 0, and so are rows that fill the last tile.

#include "simd.h"

// The arguments of kernels that can also quantize their result.
#ifdef QUANTIZE
#define QUANTIZED_OUTPUTS                                                              \
    , long padded, global int *bytes, global float *byte_scales, global float *sums32, \
        global float *sums16
#else
#define QUANTIZED_OUTPUTS
#endif

#define TO_INTEGER 12582912.0f // 1.5 * 2^23; adding it rounds to nearest even

// The largest absolute value. Positive floats compare like their bits. No function is
// called for this, because CPUs differ in how vectors are passed.
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

// Quantizes the blocks `begin` to `end` - 1 of row number `row`, which has k floats.
OUTER void quantize_blocks(Packed from, long k, long row, long padded, global int *q,
                           global float *scales, global float *sums32,
                           global float *sums16, long begin, long end) {
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

// Quantizes a whole row.
static void quantize_row(Packed from, long k, long row, long padded, global int *q,
                         global float *scales, global float *sums32,
                         global float *sums16) {
    quantize_blocks(from, k, row, padded, q, scales, sums32, sums16, 0, padded / 32);
}
