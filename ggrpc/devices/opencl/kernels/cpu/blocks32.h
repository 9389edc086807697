// Types with blocks of 32 elements; a step is four blocks.
//
// A type defines the BYTES of a block; OFFSET, as an element is scale * (value - OFFSET),
// plus a minimum if HAS_MINIMA is defined; the LARGEST value; the positions of its NIBBLES
// and fifth bits. `unpack` returns the values of a step in the fastest ORDER. For the
// formats see ggml's structs.

#define STEP 128
#define SUB 32
#define REGISTERS 2

#if TYPE == Q8_0
#define ORDER NATURAL
#else
#define ORDER HALVED
#endif

#if TYPE == Q4_0
#define BYTES 18
#define NIBBLES 2
#define OFFSET 8
#define LARGEST 15
#elif TYPE == Q4_1
#define BYTES 20
#define NIBBLES 4
#define OFFSET 0
#define LARGEST 15
#define HAS_MINIMA
#elif TYPE == Q5_0
#define BYTES 22
#define HIGH_BITS 2
#define NIBBLES 6
#define OFFSET 16
#define LARGEST 31
#elif TYPE == Q5_1
#define BYTES 24
#define HIGH_BITS 4
#define NIBBLES 8
#define OFFSET 0
#define LARGEST 31
#define HAS_MINIMA
#elif TYPE == Q8_0
#define BYTES 34
#define IS_SIGNED
#elif TYPE == IQ4_NL
#define BYTES 18
#define NIBBLES 2
#define IS_SIGNED
#elif TYPE == MXFP4
#define BYTES 17
#define NIBBLES 1
#define OFFSET 12
#define LARGEST 24
#endif

#define STEP_BYTES (4 * BYTES)

#include "numbers.h"

// The half floats at an offset in each of four blocks, repeated to fill all lanes.
INLINE float16 halves_of(Packed p) {
    ulong bits = LOOSE(ushort, p) | (ulong)LOOSE(ushort, p + BYTES) << 16 |
                 (ulong)LOOSE(ushort, p + 2 * BYTES) << 32 |
                 (ulong)LOOSE(ushort, p + 3 * BYTES) << 48;
    ulong4 copies = bits;
    return HALVES(AS(short16, copies));
}

#if TYPE == MXFP4
// 2^(e - 128), because the values in the table are doubled.
INLINE float16 scales(Packed p) {
    uint4 e = (uint4)(p[0], p[BYTES], p[2 * BYTES], p[3 * BYTES]);
    uint4 few = AS(uint4, e < 2u);
    float4 s = AS(float4, (few & (uint4)(0x00200000u) << e) | (~few & (e - 1) << 23));
    return (float16)(s, s, s, s);
}
#else
INLINE float16 scales(Packed p) { return halves_of(p); }
#endif

#ifdef HAS_MINIMA
INLINE float16 minima(Packed p) { return -halves_of(p + 2); }
#endif

#if TYPE == Q8_0
INLINE void unpack(Packed p, uchar64 *w) {
#pragma unroll
    for (int i = 0; i < 2; i++) {
        Packed q = p + 2 + 2 * BYTES * i;
        w[i] = join(LOOSE(uchar32, q), LOOSE(uchar32, q + BYTES)) ^ (uchar64)(OFFSET);
    }
}
#else
INLINE void unpack(Packed p, uchar64 *w) {
    uchar64 bytes = quarters(p + NIBBLES, BYTES);
    w[0] = low_nibbles(bytes);
    w[1] = high_nibbles(bytes);
#ifdef HIGH_BITS
    Packed h = p + HIGH_BITS;
    ulong a = LOOSE(uint, h), b = LOOSE(uint, h + BYTES);
    ulong c = LOOSE(uint, h + 2 * BYTES), d = LOOSE(uint, h + 3 * BYTES);
    w[0] |= of_bits((a & 0xffff) | (b & 0xffff) << 16 | (c & 0xffff) << 32 | d << 48, 16);
    w[1] |= of_bits(a >> 16 | (b >> 16) << 16 | (c >> 16) << 32 | (d >> 16) << 48, 16);
#elif TYPE == IQ4_NL || TYPE == MXFP4
    w[0] = look_up(table, w[0]);
    w[1] = look_up(table, w[1]);
#endif
}
#endif
