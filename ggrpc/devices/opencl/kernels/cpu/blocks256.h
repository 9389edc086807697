// Types with blocks of 256 elements; a step is one block.
//
// They define the same as in blocks32.h. SUB elements share a scale.

#define STEP 256
#define REGISTERS 4

#if TYPE == Q2_K
#define STEP_BYTES 84
#define SUB 16
#define ORDER NATURAL
#define OFFSET 0
#define LARGEST 3
#define HAS_MINIMA
#elif TYPE == Q3_K
#define STEP_BYTES 110
#define SUB 16
#define ORDER NATURAL
#define OFFSET 4
#define LARGEST 7
#elif TYPE == Q4_K
#define STEP_BYTES 144
#define SUB 32
#define ORDER ALTERNATE
#define OFFSET 0
#define LARGEST 15
#define HAS_MINIMA
#elif TYPE == Q5_K
#define STEP_BYTES 176
#define SUB 32
#define ORDER ALTERNATE
#define OFFSET 0
#define LARGEST 31
#define HAS_MINIMA
#elif TYPE == Q6_K
#define STEP_BYTES 210
#define SUB 16
#define ORDER NATURAL
#define OFFSET 32
#define LARGEST 63
#elif TYPE == IQ4_XS
#define STEP_BYTES 136
#define SUB 32
#define ORDER HALVED
#define IS_SIGNED
#endif

#include "numbers.h"

#if TYPE == Q2_K || TYPE == Q3_K
// Two bits of each of 32 bytes: those at `shift`, then those two bits higher.
INLINE uchar64 bit_pairs(uchar64 bytes, int shift) {
    ushort32 shifts = words(shift, shift + 2);
    return AS(uchar64, AS(ushort32, bytes) >> shifts) &
           (uchar64)(3);
}
#endif

#if TYPE == Q2_K
INLINE float16 scales(Packed p) {
    return CONVERT(float16, LOOSE(uchar16, p) & (uchar)15) * half_at(p + 80);
}
INLINE float16 minima(Packed p) {
    return CONVERT(float16, LOOSE(uchar16, p) >> (uchar)4) * half_at(p + 82);
}
INLINE void unpack(Packed p, uchar64 *w) {
#pragma unroll
    for (int i = 0; i < 2; i++) {
        uchar64 bytes = twice(p + 16 + 32 * i);
        w[2 * i] = bit_pairs(bytes, 0);
        w[2 * i + 1] = bit_pairs(bytes, 4);
    }
}
#elif TYPE == Q3_K
// 16 6-bit scales: 8 bytes hold the low 4 bits, and 4 bytes the high bits.
INLINE float16 scales(Packed p) {
    ulong low = LOOSE(ulong, p + 96), high = LOOSE(uint, p + 104);
    const ulong nibbles = 0x0f0f0f0f0f0f0f0f, pairs = 0x0303030303030303;
    ulong a = (low & nibbles) | ((high | high >> 2 << 32) & pairs) << 4;
    ulong b = (low >> 4 & nibbles) | ((high >> 4 | high >> 6 << 32) & pairs) << 4;
    ulong2 both = (ulong2)(a, b);
    return (CONVERT(float16, AS(uchar16, both)) - 32) * half_at(p + 108);
}
INLINE void unpack(Packed p, uchar64 *w) {
    uchar64 high = twice(p);
#pragma unroll
    for (int i = 0; i < 4; i++) {
        uchar64 bit = join((uchar32)(1 << 2 * i), (uchar32)(2 << 2 * i));
        uchar64 bytes = twice(p + 32 + 32 * (i / 2));
        w[i] = bit_pairs(bytes, 4 * (i % 2)) | flagged(high & bit, 4);
    }
}
#elif TYPE == Q4_K || TYPE == Q5_K
// 8 scales and 8 minima of 6 bits. 8 bytes hold four of each in their low 6 bits. The
// others are split: low bits in the nibbles of 4 bytes, high bits at the top of those 8.
INLINE uint4 six_bits(Packed p) {
    ulong first = LOOSE(ulong, p + 4), rest = LOOSE(uint, p + 12);
    ulong last = ((rest | rest >> 4 << 32) & 0x0f0f0f0f0f0f0f0f) |
                 (first >> 2 & 0x3030303030303030);
    return AS(uint4, (ulong2)(first & 0x3f3f3f3f3f3f3f3f, last));
}
INLINE float16 numbers_of(uint2 bytes) {
    float8 numbers = CONVERT(float8, AS(uchar8, bytes));
    return (float16)(numbers, numbers);
}
INLINE float16 scales(Packed p) { return numbers_of(six_bits(p).even) * half_at(p); }
INLINE float16 minima(Packed p) { return numbers_of(six_bits(p).odd) * half_at(p + 2); }
INLINE void unpack(Packed p, uchar64 *w) {
    Packed q = p + STEP_BYTES - 128;
#pragma unroll
    for (int i = 0; i < 2; i++) {
        uchar64 bytes = LOOSE(uchar64, q + 64 * i);
        w[2 * i] = low_nibbles(bytes);
        w[2 * i + 1] = high_nibbles(bytes);
    }
#if TYPE == Q5_K
    uchar64 high = twice(p + 16);
#pragma unroll
    for (int i = 0; i < 4; i++) {
        int first = 4 * (i / 2) + i % 2;
        uchar64 bit = join((uchar32)(1 << first), (uchar32)(4 << first));
        w[i] |= flagged(high & bit, 16);
    }
#endif
}
#elif TYPE == Q6_K
INLINE float16 scales(Packed p) {
    return CONVERT(float16, AS(char16, LOOSE(uchar16, p + 192))) * half_at(p + 208);
}
INLINE void unpack(Packed p, uchar64 *w) {
    const uchar64 pairs = (uchar64)(0x30);
#pragma unroll
    for (int i = 0; i < 2; i++) {
        uchar64 low = LOOSE(uchar64, p + 64 * i);
        ushort32 high = AS(ushort32, twice(p + 128 + 32 * i));
        ushort32 a = high << words(4, 2), b = high >> words(0, 2);
        w[2 * i] = low_nibbles(low) | (AS(uchar64, a) & pairs);
        w[2 * i + 1] = high_nibbles(low) | (AS(uchar64, b) & pairs);
    }
}
#elif TYPE == IQ4_XS
INLINE float16 scales(Packed p) {
    uint low = LOOSE(uint, p + 4), high = LOOSE(ushort, p + 2);
    uint8 at = (uint8)(0, 1, 2, 3, 4, 5, 6, 7);
    uint8 numbers = ((uint8)(low) >> 4 * at & 15) | ((uint8)(high) >> 2 * at & 3) << 4;
    float8 s = CONVERT(float8, numbers) - 32;
    return (float16)(s, s) * half_at(p);
}
INLINE void unpack(Packed p, uchar64 *w) {
#pragma unroll
    for (int i = 0; i < 2; i++) {
        uchar64 bytes = LOOSE(uchar64, p + 8 + 64 * i);
        w[2 * i] = look_up(table, low_nibbles(bytes));
        w[2 * i + 1] = look_up(table, high_nibbles(bytes));
    }
}
#endif
