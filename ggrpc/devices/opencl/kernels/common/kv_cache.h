// Reads rows of KV caches: SIXTEEN(type, row, i) are the elements 16 i to 16 i + 15. A
// block of a quantized type has 32 elements.

#include "floats.h"

#define SIXTEEN(type, row, i) OF(SIXTEEN, type)(row, i)
#define SIXTEEN_F32(row, i) LOAD16_F32((row) + 64 * (i))
#define SIXTEEN_F16(row, i) LOAD16_F16((row) + 32 * (i))
#define SIXTEEN_BF16(row, i) LOAD16_BF16((row) + 32 * (i))
#define SIXTEEN_Q8_0(row, i) q8_0((row) + (i) / 2 * 34, (i) % 2)
#define SIXTEEN_Q4_0(row, i) q4_0((row) + (i) / 2 * 18, (i) % 2)
#define SIXTEEN_Q4_1(row, i) q4_1((row) + (i) / 2 * 20, (i) % 2)
#define SIXTEEN_Q5_0(row, i) q5_0((row) + (i) / 2 * 22, (i) % 2)
#define SIXTEEN_Q5_1(row, i) q5_1((row) + (i) / 2 * 24, (i) % 2)
#define SIXTEEN_IQ4_NL(row, i) iq4_nl((row) + (i) / 2 * 18, (i) % 2)

static inline float16 q8_0(Bytes b, int second) {
    return convert_float16(vload16(second, b + 2)) * LOAD_F16(b);
}

// The low nibbles of 16 bytes, or the high nibbles.
static inline uchar16 nibbles(Bytes b, int second) {
    uchar16 bytes = vload16(0, (global uchar *)b);
    return second ? bytes >> (uchar)4 : bytes & (uchar)15;
}

// 16 for each of 16 bits at `b` that is set, else 0.
static inline int16 fifth_bits(Bytes b, int second) {
    const int16 lane = (int16)(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    int16 bits = ((global ushort *)b)[second];
    return (bits >> lane & 1) << 4;
}

static inline float16 q4_0(Bytes b, int second) {
    return (convert_float16(nibbles(b + 2, second)) - 8) * LOAD_F16(b);
}

static inline float16 q4_1(Bytes b, int second) {
    return convert_float16(nibbles(b + 4, second)) * LOAD_F16(b) + LOAD_F16(b + 2);
}

static inline float16 q5_0(Bytes b, int second) {
    int16 q = convert_int16(nibbles(b + 6, second)) | fifth_bits(b + 2, second);
    return convert_float16(q - 16) * LOAD_F16(b);
}

static inline float16 q5_1(Bytes b, int second) {
    int16 q = convert_int16(nibbles(b + 8, second)) | fifth_bits(b + 4, second);
    return convert_float16(q) * LOAD_F16(b) + LOAD_F16(b + 2);
}

constant char iq4_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                1,    13,   25,  38,  53,  69,  89,  113};

static inline float16 iq4_nl(Bytes b, int second) {
    uchar q[16];
    float v[16];
    vstore16(nibbles(b + 2, second), 0, q);
    for (int i = 0; i < 16; i++) v[i] = iq4_values[q[i]];
    return vload16(0, v) * LOAD_F16(b);
}
