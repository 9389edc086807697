// Unpacks 16 elements of a matrix of type TYPE (a ggml_type) to float, on GPUs, in plain
// OpenCL C 1.2.
//
// A piece is 8 elements from `place` on, and the 8 elements that are GAP further on, which
// most types store in the same bytes. A block has BLOCK elements in BYTES bytes. For the
// formats see ggml's structs.

#include "type_numbers.h"

typedef const global uchar *Packed;

#if TYPE == F32
#define BLOCK 16
#define BYTES 64
#define GAP 8
#define PLAIN
#elif TYPE == F16 || TYPE == BF16
#define BLOCK 16
#define BYTES 32
#define GAP 8
#define PLAIN
#elif TYPE == Q4_0 || TYPE == IQ4_NL
#define BLOCK 32
#define BYTES 18
#define GAP 16
#define NIBBLES 2
#elif TYPE == Q4_1
#define BLOCK 32
#define BYTES 20
#define GAP 16
#define NIBBLES 4
#elif TYPE == Q5_0
#define BLOCK 32
#define BYTES 22
#define GAP 16
#define HIGH_BITS 2
#define NIBBLES 6
#elif TYPE == Q5_1
#define BLOCK 32
#define BYTES 24
#define GAP 16
#define HIGH_BITS 4
#define NIBBLES 8
#elif TYPE == Q8_0
#define BLOCK 32
#define BYTES 34
#define GAP 8
#elif TYPE == MXFP4
#define BLOCK 32
#define BYTES 17
#define GAP 16
#define NIBBLES 1
#elif TYPE == Q2_K
#define BLOCK 256
#define BYTES 84
#define GAP 32
#elif TYPE == Q3_K
#define BLOCK 256
#define BYTES 110
#define GAP 32
#elif TYPE == Q4_K
#define BLOCK 256
#define BYTES 144
#define GAP 32
#define NIBBLES 16
#elif TYPE == Q5_K
#define BLOCK 256
#define BYTES 176
#define GAP 32
#define NIBBLES 48
#elif TYPE == Q6_K
#define BLOCK 256
#define BYTES 210
#define GAP 64
#define NIBBLES 0
#elif TYPE == IQ4_XS
#define BLOCK 256
#define BYTES 136
#define GAP 16
#define NIBBLES 8
#endif

#define PIECES (BLOCK / 16)

// The index in its block of the first element of a piece.
static inline int place(int piece) {
    return piece / (GAP / 8) * 2 * GAP + piece % (GAP / 8) * 8;
}

static inline float half_at(Packed p) {
    return vload_half(0, (global const half *)p);
}

// Loads 8 bytes. The blocks of all types but MXFP4 start at even addresses.
static inline uchar8 load8(Packed p) {
#if TYPE == MXFP4
    return vload8(0, p);
#else
    return as_uchar8(vload4(0, (global const ushort *)p));
#endif
}

#ifdef HIGH_BITS
// 16 for each of 8 bits that is set, else 0.
static inline uchar8 sixteens(uint bits) {
    uint8 each = (uint8)(bits) >> (uint8)(0, 1, 2, 3, 4, 5, 6, 7);
    return convert_uchar8((each & 1) << 4);
}
#elif TYPE == Q4_K || TYPE == Q5_K
// A 6-bit scale and minimum, of 8 each: see ggml's get_scale_min_k4.
static inline int2 six_bits(Packed s, int i) {
    if (i < 4) return (int2)(s[i] & 63, s[i + 4] & 63);
    return (int2)((s[i + 4] & 15) | s[i - 4] >> 6 << 4, s[i + 4] >> 4 | s[i] >> 6 << 4);
}
#endif

#if TYPE == IQ4_NL || TYPE == IQ4_XS
// The table of values for nibbles, one byte each.
#define FIRST_EIGHT 0xf6eaddcfbfad9881ul
#define LAST_EIGHT 0x7159453526190d01ul
#elif TYPE == MXFP4
#define FIRST_EIGHT 0x0c08060403020100ul
#define LAST_EIGHT 0xf4f8fafcfdfeff00ul
#endif

#ifdef FIRST_EIGHT
static inline float8 meant(uchar8 nibbles) {
    ulong8 n = convert_ulong8(nibbles);
    ulong8 table = n > 7 ? (ulong8)(LAST_EIGHT) : (ulong8)(FIRST_EIGHT);
    return convert_float8(as_char8(convert_uchar8(table >> (n & 7) * 8 & 255)));
}
#endif

#ifdef PLAIN
// Loads the first `count` elements of a piece of a float type, up to 16; the rest is 0.
static inline void unpack_some(Packed block, int count, float8 *a, float8 *b) {
    float v[16];
    for (int i = 0; i < 16; i++) {
        v[i] = 0;
        if (i < count)
#if TYPE == F32
            v[i] = ((global const float *)block)[i];
#elif TYPE == F16
            v[i] = half_at(block + 2 * i);
#else
            v[i] = as_float((uint)((global const ushort *)block)[i] << 16);
#endif
    }
    *a = vload8(0, v);
    *b = vload8(1, v);
}
#endif

#if TYPE == F32
static inline void unpack(Packed block, int piece, float8 *a, float8 *b) {
    *a = vload8(0, (global const float *)block);
    *b = vload8(1, (global const float *)block);
}
#elif TYPE == F16
static inline void unpack(Packed block, int piece, float8 *a, float8 *b) {
    *a = vload_half8(0, (global const half *)block);
    *b = vload_half8(1, (global const half *)block);
}
#elif TYPE == BF16
static inline void unpack(Packed block, int piece, float8 *a, float8 *b) {
    *a = as_float8(convert_uint8(vload8(0, (global const ushort *)block)) << 16);
    *b = as_float8(convert_uint8(vload8(1, (global const ushort *)block)) << 16);
}
#elif TYPE == Q8_0
static inline void unpack(Packed block, int piece, float8 *a, float8 *b) {
    float scale = half_at(block);
    Packed numbers = block + 2 + 16 * piece;
    *a = scale * convert_float8(as_char8(load8(numbers)));
    *b = scale * convert_float8(as_char8(load8(numbers + 8)));
}
#elif TYPE == Q2_K
static inline void unpack(Packed block, int piece, float8 *a, float8 *b) {
    int first = place(piece) / 16;
    uchar one = block[first], other = block[first + 2];
    float scale = half_at(block + 80), minimum = half_at(block + 82);
    uchar8 pairs = load8(block + 16 + 32 * (piece / 8) + 8 * (piece % 4));
    pairs >>= (uchar)(piece / 4 % 2 * 4);
    *a = scale * (one & 15) * convert_float8(pairs & (uchar)3) - minimum * (one >> 4);
    *b = scale * (other & 15) * convert_float8(pairs >> (uchar)2 & (uchar)3)
         - minimum * (other >> 4);
}
#elif TYPE == Q3_K
// The i-th of 16 6-bit scales: 8 bytes hold the low 4 bits, and 4 bytes the high bits.
static inline float scale_of(Packed block, int i) {
    int low = block[96 + i % 8] >> i / 8 * 4 & 15;
    int high = block[104 + i % 4] >> i / 4 * 2 & 3;
    return half_at(block + 108) * ((low | high << 4) - 32);
}
static inline void unpack(Packed block, int piece, float8 *a, float8 *b) {
    int first = place(piece) / 16, pair = piece / 4 % 2, bit = piece / 4 * 2;
    uchar8 pairs = load8(block + 32 + 32 * (piece / 8) + 8 * (piece % 4));
    uchar8 high = load8(block + 8 * (piece % 4)) >> (uchar)bit;
    pairs >>= (uchar)(pair * 4);
    uchar8 one = (pairs & (uchar)3) | (high & (uchar)1) << (uchar)2;
    uchar8 other = (pairs >> (uchar)2 & (uchar)3) | (high & (uchar)2) << (uchar)1;
    *a = scale_of(block, first) * (convert_float8(one) - 4);
    *b = scale_of(block, first + 2) * (convert_float8(other) - 4);
}
#else
// Types of nibbles: 8 elements in the low nibbles of a piece's bytes, 8 in the high ones.
static inline void unpack(Packed block, int piece, float8 *a, float8 *b) {
    uchar8 bytes = load8(block + NIBBLES + 8 * piece);
    uchar8 low = bytes & (uchar)15, high = bytes >> (uchar)4;
#if TYPE == Q4_0
    float scale = half_at(block);
    *a = scale * (convert_float8(low) - 8);
    *b = scale * (convert_float8(high) - 8);
#elif TYPE == Q4_1
    float scale = half_at(block), least = half_at(block + 2);
    *a = scale * convert_float8(low) + least;
    *b = scale * convert_float8(high) + least;
#elif TYPE == Q5_0 || TYPE == Q5_1
    global const ushort *bits = (global const ushort *)(block + HIGH_BITS);
    float scale = half_at(block);
    low |= sixteens(bits[0] >> 8 * piece);
    high |= sixteens(bits[1] >> 8 * piece);
#if TYPE == Q5_0
    *a = scale * (convert_float8(low) - 16);
    *b = scale * (convert_float8(high) - 16);
#else
    float least = half_at(block + 2);
    *a = scale * convert_float8(low) + least;
    *b = scale * convert_float8(high) + least;
#endif
#elif TYPE == IQ4_NL
    float scale = half_at(block);
    *a = scale * meant(low);
    *b = scale * meant(high);
#elif TYPE == MXFP4
    // 2^(e - 128), because the values in the table are doubled.
    uint e = block[0];
    float scale = as_float(e < 2 ? 0x00200000u << e : (e - 1) << 23);
    *a = scale * meant(low);
    *b = scale * meant(high);
#elif TYPE == IQ4_XS
    int i = piece / 2;
    int six = (block[4 + i / 2] >> i % 2 * 4 & 15) | (block[2 + i / 4] >> i % 4 * 2 & 3) << 4;
    float scale = half_at(block) * (six - 32);
    *a = scale * meant(low);
    *b = scale * meant(high);
#elif TYPE == Q4_K || TYPE == Q5_K
    float scale = half_at(block), minimum = half_at(block + 2);
    int2 one = six_bits(block + 4, piece / 4 * 2);
    int2 other = six_bits(block + 4, piece / 4 * 2 + 1);
#if TYPE == Q5_K
    uchar8 bits = load8(block + 16 + piece % 4 * 8) >> (uchar)(piece / 4 * 2);
    low |= (bits & (uchar)1) << (uchar)4;
    high |= (bits & (uchar)2) << (uchar)3;
#endif
    *a = scale * one.x * convert_float8(low) - minimum * one.y;
    *b = scale * other.x * convert_float8(high) - minimum * other.y;
#elif TYPE == Q6_K
    float scale = half_at(block + 208);
    global const char *scales = (global const char *)block + 192 + place(piece) / 16;
    uchar8 bits = load8(block + 128 + piece / 8 * 32 + piece % 4 * 8);
    bits >>= (uchar)(piece / 4 % 2 * 2);
    low |= (bits & (uchar)3) << (uchar)4;
    high |= bits & (uchar)0x30;
    *a = scale * scales[0] * (convert_float8(low) - 32);
    *b = scale * scales[4] * (convert_float8(high) - 32);
#endif
}
#endif

// Unpacks piece `number` of a row of k elements.
static inline void unpack_at(Packed row, long number, long k, float8 *a, float8 *b) {
    Packed block = row + number / PIECES * BYTES;
#ifdef PLAIN
    if (16 * (number + 1) > k) {
        unpack_some(block, (int)(k - 16 * number), a, b);
        return;
    }
#endif
    unpack(block, (int)(number % PIECES), a, b);
}

// Loads the elements of b that are multiplied with a piece.
static inline void take_at(global const float *x, long number, long k, float8 *a,
                           float8 *b) {
#ifdef PLAIN
    if (16 * (number + 1) > k) {
        float v[16];
        for (int i = 0; i < 16; i++) v[i] = 16 * number + i < k ? x[16 * number + i] : 0;
        *a = vload8(0, v);
        *b = vload8(1, v);
        return;
    }
#endif
    x += number / PIECES * BLOCK + place((int)(number % PIECES));
    *a = vload8(0, x);
    *b = vload8(0, x + GAP);
}
