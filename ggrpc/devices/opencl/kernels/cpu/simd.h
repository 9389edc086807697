// Vectors of 512 bits on CPUs, and the exact dot product of int8 for products of quantized
// matrices.
//
// With VNNI or AVX2, OUTER functions, and the functions inlined into them, are compiled for
// CPUs with these instructions. Kernels are not, so these functions must not be inlined
// into kernels, unless the compiler goes by way of SPIR: then all is compiled for the CPU of
// this machine. Otherwise the same code computes the same numbers on any CPU.

#pragma once

typedef uchar uchar32 __attribute__((ext_vector_type(32)));
typedef uchar uchar64 __attribute__((ext_vector_type(64)));
typedef char char32 __attribute__((ext_vector_type(32)));
typedef char char64 __attribute__((ext_vector_type(64)));
typedef short short32 __attribute__((ext_vector_type(32)));
typedef short short64 __attribute__((ext_vector_type(64)));
typedef ushort ushort32 __attribute__((ext_vector_type(32)));
typedef int int32 __attribute__((ext_vector_type(32)));

// The same types without alignment.
typedef uchar16 loose_uchar16 __attribute__((aligned(1)));
typedef uchar32 loose_uchar32 __attribute__((aligned(1)));
typedef uchar64 loose_uchar64 __attribute__((aligned(1)));
typedef ushort loose_ushort __attribute__((aligned(1)));
typedef uint loose_uint __attribute__((aligned(1)));
typedef ulong loose_ulong __attribute__((aligned(1)));
typedef float4 loose_float4 __attribute__((aligned(4)));
typedef float8 loose_float8 __attribute__((aligned(4)));
typedef float16 loose_float16 __attribute__((aligned(4)));

typedef const global uchar *Packed;

#define LOOSE(type, p) (*(const global loose_##type *)(p))
#define SET_LOOSE(type, p, v) (*(global loose_##type *)(p) = (v))
#define AS(type, v) __builtin_astype(v, type)
#define CONVERT(type, v) __builtin_convertvector(v, type)
#define SHUFFLE __builtin_shufflevector

// Dots: 16 sums of four products each, perhaps in parts, which hold up to DOTS_HOLD.
// DOT(acc, w, x): acc[i] + the sum over j < 4 of w[4i + j] x[4i + j].
// WHOLE(dots): the sums as int.
// SIGNED_DOT(acc, w, x): the same for signed w, to which SIGNED_OFFSET was added.
// FLOAT_SUMS: the number of float16 sums that fit the registers during a product.
// HALVES(h): converts half floats to float.
// look_up(table, nibbles): the value of each nibble in a table of 16.
#if defined(__SPIR__) && (defined(VNNI) || defined(AVX2))
#include "intrinsics.h"
#endif
#if defined(VNNI)
#include "vnni.h"
#elif defined(AVX2)
#include "avx2.h"
#else
#include "portable.h"
#endif

// Prefetches bytes into the cache: on some processors, hardware prefetching stops at page
// boundaries and does not use all of the memory bandwidth. The address may be invalid.
INLINE void fetch(Packed p, long count) {
    for (long i = 0; i < count; i += 64) __builtin_prefetch((const void *)(ulong)(p + i));
}

INLINE uchar64 join(uchar32 a, uchar32 b) {
    return AS(uchar64, SHUFFLE(AS(ulong4, a), AS(ulong4, b), 0, 1, 2, 3, 4, 5, 6, 7));
}

INLINE uchar64 twice(Packed p) {
    uchar32 bytes = LOOSE(uchar32, p);
    return join(bytes, bytes);
}

// Loads 16 bytes from each of four addresses, `stride` bytes apart.
INLINE uchar64 quarters(Packed p, int stride) {
    ulong2 a = AS(ulong2, LOOSE(uchar16, p));
    ulong2 b = AS(ulong2, LOOSE(uchar16, p + stride));
    ulong2 c = AS(ulong2, LOOSE(uchar16, p + 2 * stride));
    ulong2 d = AS(ulong2, LOOSE(uchar16, p + 3 * stride));
    return AS(uchar64, (ulong8)(a, b, c, d));
}

INLINE uchar64 low_nibbles(uchar64 bytes) {
    return bytes & (uchar64)(15);
}

INLINE uchar64 high_nibbles(uchar64 bytes) {
    return AS(uchar64, AS(ushort32, bytes) >> (ushort32)(4)) & (uchar64)(15);
}

// `value` for each byte that is not 0, else 0.
INLINE uchar64 flagged(uchar64 bytes, uchar value) {
    return AS(uchar64, bytes != (uchar64)(0)) & (uchar64)(value);
}

// `value` for each bit that is set, else 0.
INLINE uchar64 of_bits(ulong bits, uchar value) {
    const uchar8 powers = (uchar8)(1, 2, 4, 8, 16, 32, 64, 128);
    const ulong8 each = AS(ulong, powers);
    uchar8 b = AS(uchar8, bits);
    uchar64 bytes = SHUFFLE(
        b, b, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 3, 3,
        3, 3, 3, 3, 3, 3, 4, 4, 4, 4, 4, 4, 4, 4, 5, 5, 5, 5, 5, 5, 5, 5, 6, 6, 6, 6, 6, 6,
        6, 6, 7, 7, 7, 7, 7, 7, 7, 7);
    return flagged(bytes & AS(uchar64, each), value);
}

// Fills the first half with a and the second half with b.
INLINE ushort32 words(ushort a, ushort b) {
    const ushort16 low = a, high = b;
    return AS(ushort32, join(AS(uchar32, low), AS(uchar32, high)));
}

// A half float as float, in all lanes.
INLINE float16 half_at(Packed p) {
    return HALVES((short16)((short)LOOSE(ushort, p)));
}

INLINE float total(float16 v) {
    float8 a = v.lo + v.hi;
    float4 b = a.lo + a.hi;
    return (b.x + b.z) + (b.y + b.w);
}
