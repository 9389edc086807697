// For CPUs with AVX-512 VNNI: dot products of four bytes in one instruction.

#ifdef __SPIR__
#define OUTER static inline __attribute__((always_inline))
#define INLINE static inline __attribute__((always_inline))
#define DOT(acc, w, x) __builtin_ia32_vpdpbusd512(acc, AS(char64, w), AS(char64, x))
#else
#define TARGET target("avx512vnni,avx512f,avx512bw,avx512vl,avx512dq")
#define OUTER static __attribute__((noinline, min_vector_width(512), TARGET))
#define INLINE static inline __attribute__((always_inline, TARGET))
#define DOT(acc, w, x) __builtin_ia32_vpdpbusd512(acc, AS(int16, w), AS(int16, x))
#define HALVES(h) __builtin_ia32_vcvtph2ps512_mask(h, (float16)(0.0f), 0xffff, 4)
#endif

typedef int16 Dots;
#define DOTS_HOLD 0x7fffffff
#define WHOLE(dots) (dots)
#define FLOAT_SUMS 16
#define SIGNED_OFFSET 128
#define SIGNED_DOT DOT

INLINE uchar64 look_up(constant uchar *table, uchar64 nibbles) {
    ulong2 t = *(constant ulong2 *)table;
    char64 copies = AS(char64, (ulong8)(t, t, t, t));
    return AS(uchar64, __builtin_ia32_pshufb512(copies, AS(char64, nibbles)));
}
