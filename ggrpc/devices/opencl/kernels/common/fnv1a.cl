// FNV-1a hashes of chunks of SIZE bytes. Each work-item hashes GROUP chunks side by side.
// On a CPU, one work-item processes all groups, so that its memory stays in the L1 cache.
// ggrpc/devices/block_hash.py explains the method.

#include "simd.h"

#define GROUP 32
#define SECTION 128  // bytes whose sums fit 32 bits
#define PAIRS (SECTION / 2)
#define LOW_PRIME ((ushort)0xB3)
#define BYTE ((ushort)0xFF)

typedef ushort8 loose_ushort8 __attribute__((aligned(1)));

// Interleave the elements of two vectors, within each half of them.
#define FIRST(a, b) \
    SHUFFLE(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 8, 24, 9, 25, 10, 26, 11, 27)
#define SECOND(a, b) \
    SHUFFLE(a, b, 4, 20, 5, 21, 6, 22, 7, 23, 12, 28, 13, 29, 14, 30, 15, 31)

// x[0] * y[0] + x[1] * y[1], and so on.
#if CPU && defined(__AVX2__)
#define DOT_PAIRS(x, y) __builtin_ia32_pmaddwd256(x, y)
#else
#define DOT_PAIRS(x, y) dot_pairs(x, y)
INLINE int8 dot_pairs(short16 x, short16 y) {
    return CONVERT(int8, x.even) * CONVERT(int8, y.even) +
           CONVERT(int8, x.odd) * CONVERT(int8, y.odd);
}
#endif

// One of the three rounds that transpose 8 elements of each of 16 chunks.
INLINE void turn(ushort16 *v) {
    ushort16 w[8];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        w[2 * i] = FIRST(v[i], v[i + 4]);
        w[2 * i + 1] = SECOND(v[i], v[i + 4]);
    }
#pragma unroll
    for (int i = 0; i < 8; i++) v[i] = w[i];
}

// Transposes a group: the first two bytes of each chunk, then the next two, and so on.
INLINE void to_columns(Packed data, global ushort16 *columns) {
    for (int at = 0; at < SIZE; at += sizeof(ushort8))
        for (int side = 0; side < 2; side++) {
            Packed p = data + side * 16 * SIZE + at;
            ushort16 v[8];
#pragma unroll
            for (int i = 0; i < 8; i++) {
                v[i].lo = LOOSE(ushort8, p + i * SIZE);
                v[i].hi = LOOSE(ushort8, p + (i + 8) * SIZE);
            }
            turn(v);
            turn(v);
            turn(v);
#pragma unroll
            for (int i = 0; i < 8; i++) columns[at + 2 * i + side] = v[i];
        }
}

// The low bytes of the hashes that start with `starts`, for each value of the two bits
// from `bit` on. The upper half of a ushort never affects the lower half.
INLINE void to_lows(const global ushort32 *columns, uchar32 starts, int bit,
                    global uchar32 *ends, size_t pitch) {
    ushort32 low[4];
#pragma unroll
    for (int k = 0; k < 4; k++) low[k] = CONVERT(ushort32, starts) | (ushort)(k << bit);
    for (int i = 0; i < SIZE / 2; i++) {
        ushort32 bytes = columns[i], next = bytes >> (ushort)8;
#pragma unroll
        for (int k = 0; k < 4; k++)
            low[k] = ((low[k] ^ bytes) * LOW_PRIME ^ next) * LOW_PRIME;
    }
#pragma unroll
    for (int k = 0; k < 4; k++) ends[k * pitch] = CONVERT(uchar32, low[k]);
}

// Adds up the sums of four 16-bit digits.
INLINE void add_digits(ulong8 *whole, const int8 *sums) {
#pragma unroll
    for (int k = 0; k < 4; k++)
        *whole += AS(ulong8, CONVERT(long8, sums[k])) << (ulong)(16 * k);
}

// The hash of each chunk in half a group: h = lift * h + sum(power * change) for each
// section, where `change` is how a byte changes the low byte of the hash. `powers` has four
// signed 16-bit digits for each byte of a section; those of two bytes are adjacent.
INLINE void to_hashes(const global ushort16 *columns, uchar16 starts, constant uint *powers,
                      ulong lift, global ulong8 *hashes) {
    ushort16 low = CONVERT(ushort16, starts);
    ulong8 lo = CONVERT(ulong8, low.lo), hi = CONVERT(ulong8, low.hi);
    for (int section = 0; section < SIZE / SECTION; section++) {
        int8 first[4] = {0}, second[4] = {0};
        for (int i = 0; i < PAIRS; i++) {
            ushort16 bytes = columns[2 * (section * PAIRS + i)];
            ushort16 changed = (low ^ bytes) & BYTE;
            short16 one = AS(short16, changed - low);
            low = changed * LOW_PRIME & BYTE;
            changed = low ^ bytes >> (ushort)8;
            short16 two = AS(short16, changed - low);
            low = changed * LOW_PRIME & BYTE;
#pragma unroll
            for (int k = 0; k < 4; k++) {
                short16 power = AS(short16, (uint8)(powers[4 * i + k]));
                first[k] += DOT_PAIRS(FIRST(one, two), power);
                second[k] += DOT_PAIRS(SECOND(one, two), power);
            }
        }
        ulong8 a = 0, b = 0;
        add_digits(&a, first);
        add_digits(&b, second);
        lo = lo * lift + SHUFFLE(a, b, 0, 1, 2, 3, 8, 9, 10, 11);
        hi = hi * lift + SHUFFLE(a, b, 4, 5, 6, 7, 12, 13, 14, 15);
    }
    hashes[0] = lo;
    hashes[1] = hi;
}

#if CPU
// Sets three bits of each start from the end of the chunk before. The highest of them was
// not tried, because it just flips the same bit of the end.
INLINE void settle(uint value, int bit, const global uchar *ends, global uchar *starts) {
    for (int i = 0; i < GROUP; i++) {
        uint three = value >> bit & 7;
        starts[i] |= three << bit;
        value = ends[(three & 3) * GROUP + i] ^ (three & 4) << bit;
    }
}

// The hash of all groups, which starts with `value`. The other buffers are scratch memory
// for one group. `power` is the factor of a hash for each chunk that follows.
kernel void hash(Packed data, ulong groups, constant uint *powers, ulong lift, ulong power,
                 global ushort32 *columns, global uchar32 *starts, global uchar32 *ends,
                 global ulong8 *hashes, global ulong *value) {
    const global uchar *start = (const global uchar *)starts;
    const global uchar16 *sides = (const global uchar16 *)starts;
    const global ulong *chunk = (const global ulong *)hashes;
    ulong so_far = *value;
    for (; groups > 0; groups--, data += GROUP * SIZE) {
        fetch(data + GROUP * SIZE, GROUP * SIZE);
        to_columns(data, (global ushort16 *)columns);
        *starts = 0;
        for (int bit = 0; bit < 8; bit += 3) {
            to_lows(columns, *starts, bit, ends, 1);
            settle(so_far, bit, (const global uchar *)ends, (global uchar *)starts);
        }
        for (int side = 0; side < 2; side++)
            to_hashes((const global ushort16 *)columns + side, sides[side], powers, lift,
                      hashes + 2 * side);
        for (int i = 0; i < GROUP; i++)
            so_far = so_far * power + chunk[i] - start[i] * power;
    }
    *value = so_far;
}
#else
kernel void columns(Packed data, global ushort16 *columns) {
    size_t group = get_global_id(0);
    to_columns(data + group * GROUP * SIZE, columns + group * SIZE);
}

kernel void lows(const global ushort32 *columns, const global uchar32 *starts, int bit,
                 global uchar32 *ends) {
    size_t group = get_global_id(0);
    to_lows(columns + group * SIZE / 2, starts[group], bit, ends + group,
            get_global_size(0));
}

kernel void hashes(const global ushort16 *columns, const global uchar16 *starts,
                   constant uint *powers, ulong lift, global ulong8 *hashes) {
    size_t side = get_global_id(0);
    to_hashes(columns + side / 2 * SIZE + side % 2, starts[side], powers, lift,
              hashes + 2 * side);
}
#endif
