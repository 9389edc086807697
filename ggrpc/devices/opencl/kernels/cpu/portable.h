// For all other CPUs.

#define OUTER static __attribute__((noinline, min_vector_width(512)))
#define INLINE static inline __attribute__((always_inline))

typedef int16 Dots;
#define DOTS_HOLD 0x7fffffff
#define WHOLE(dots) (dots)
#define FLOAT_SUMS 4
#define SIGNED_OFFSET 128
#define SIGNED_DOT DOT

INLINE Dots DOT(Dots acc, uchar64 w, char64 x) {
    int32 pairs = AS(int32, CONVERT(short64, w) * CONVERT(short64, x));
    int32 sums = ((pairs << 16) >> 16) + (pairs >> 16);
    return acc + sums.even + sums.odd;
}

// Converts infinities and NaN too.
INLINE float16 HALVES(short16 h) {
    int16 bits = CONVERT(int16, h);
    int16 magnitude = bits << 13 & 0x0fffe000;
    int16 endless = (magnitude >= 0x0f800000) & 0x7f800000;
    int16 value = AS(int16, AS(float16, magnitude) * 0x1p112f);
    return AS(float16, value | endless | (bits & (int)0x80000000));
}

INLINE uchar64 look_up(constant uchar *table, uchar64 nibbles) {
    union {
        uchar64 all;
        uchar each[64];
    } v = {nibbles};
    for (int i = 0; i < 64; i++) v.each[i] = table[v.each[i]];
    return v.all;
}
