// For CPUs with AVX2, FMA and F16C. Products of bytes are added in pairs, as shorts, which
// would overflow for unsigned bytes above 128.

#ifdef __SPIR__
#define OUTER static inline __attribute__((always_inline))
#define INLINE static inline __attribute__((always_inline))
#else
#define TARGET target("avx2,fma,f16c")
#define OUTER static __attribute__((noinline, TARGET))
#define INLINE static inline __attribute__((always_inline, TARGET))
#endif

typedef short32 Dots;
#define DOTS_HOLD 0x7fff
#define EACH_HALF(type, f, a, b) (type)(f((a).lo, (b).lo), f((a).hi, (b).hi))

INLINE Dots DOT(Dots acc, uchar64 w, char64 x) {
    char64 bytes = AS(char64, w);
    return acc + EACH_HALF(Dots, __builtin_ia32_pmaddubsw256, bytes, x);
}

INLINE int16 WHOLE(Dots dots) {
    const Dots ones = 1;
    return EACH_HALF(int16, __builtin_ia32_pmaddwd256, dots, ones);
}

// The instruction multiplies unsigned with signed bytes, so the signs of w move to x.
#define FLOAT_SUMS 6
#define SIGNED_OFFSET 0
INLINE Dots SIGNED_DOT(Dots acc, uchar64 w, char64 x) {
    char64 numbers = AS(char64, w);
    char64 sizes = EACH_HALF(char64, __builtin_ia32_psignb256, numbers, numbers);
    char64 turned = EACH_HALF(char64, __builtin_ia32_psignb256, x, numbers);
    return DOT(acc, AS(uchar64, sizes), turned);
}

#ifndef HALVES
INLINE float16 HALVES(short16 h) {
    return (float16)(__builtin_ia32_vcvtph2ps256(h.lo), __builtin_ia32_vcvtph2ps256(h.hi));
}
#endif

INLINE uchar64 look_up(constant uchar *table, uchar64 nibbles) {
    ulong2 t = *(constant ulong2 *)table;
    char32 copies = AS(char32, (ulong4)(t, t));
    char64 both = AS(char64, nibbles);
    return AS(uchar64, (char64)(__builtin_ia32_pshufb256(copies, both.lo),
                                __builtin_ia32_pshufb256(copies, both.hi)));
}
