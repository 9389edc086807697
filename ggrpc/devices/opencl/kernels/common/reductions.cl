// SUM_ROWS, MEAN, CUMSUM, ARGMAX and ARGSORT of F32 rows with contiguous elements.

#include "rows.h"

kernel void sum_rows(Bytes x_, ulong x_at, Bytes y_, ulong y_at, long4 ne, long4 x_nb,
                     long4 y_nb, float scale) {
    local float each[MAX_WORK_ITEMS];
    long4 at = row_number(ne);
    float sum = row_sum(floats_of(x_, x_at, x_nb, at), ne.x, each);
    if (get_local_id(0) == 0) *floats_of(y_, y_at, y_nb, at) = sum * scale;
}

// Sequential, so that it adds in the same order as ggml.
kernel void cumsum(Bytes x_, ulong x_at, Bytes y_, ulong y_at, long4 ne, long4 x_nb,
                   long4 y_nb) {
    long4 at = row_number(ne);
    Floats x = floats_of(x_, x_at, x_nb, at), y = floats_of(y_, y_at, y_nb, at);
    float sum = 0;
    if (get_local_id(0) == 0)
        for (long i = 0; i < ne.x; i++) y[i] = sum += x[i];
}

// The index of the largest element; of equal ones, the last.
kernel void argmax(Bytes x_, ulong x_at, Bytes y, ulong y_at, long4 ne, long4 x_nb,
                   long4 y_nb) {
    local float each[MAX_WORK_ITEMS];
    local int found;
    long4 at = row_number(ne);
    Floats x = floats_of(x_, x_at, x_nb, at);
    float16 wide = -INFINITY;
    float one = -INFINITY;
    for EACH_16(i, ne.x) wide = fmax(wide, vload16(0, x + i));
    for EACH_LAST(i, ne.x) one = fmax(one, x[i]);
    float largest = group_max(fmax(one, max_of_16(wide)), each);
    if (get_local_id(0) == 0) found = 0;
    barrier(CLK_LOCAL_MEM_FENCE);
    for EACH(i, ne.x)
        if (x[i] == largest) atomic_max(&found, (int)i);
    barrier(CLK_LOCAL_MEM_FENCE);
    if (get_local_id(0) == 0) *(global int *)(y + y_at + at.y * y_nb.x) = found;
}

#ifdef DESCENDING
// Maps floats to ints with the same order. NaN is the largest.
#define KEY(x) key_of(DESCENDING ? -(x) : (x))

static inline int key_of(float x) {
    int bits = as_int(x);
    if (isnan(x)) return INT_MAX;
    return bits < 0 ? -(bits & INT_MAX) : bits;  // -0 equals 0
}

static inline int16 keys_of(float16 x) {
    int16 bits = as_int16(DESCENDING ? -x : x);
    int16 keys = select(bits, -(bits & INT_MAX), bits < 0);
    return select(keys, (int16)INT_MAX, isnan(x));
}

// The number of elements that are sorted before element i: the smaller ones, and equal
// ones with a smaller index.
static inline int rank_of(Floats x, long i, long n) {
    const int16 lane = (int16)(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    int key = KEY(x[i]);
    int16 before = 0;
    long j = 0;
    for (; j + 16 <= n; j += 16) {
        int16 keys = keys_of(vload16(0, x + j));
        before -= keys < key || (keys == key && lane + (int)j < (int)i);
    }
    int8 a = before.lo + before.hi;
    int4 b = a.lo + a.hi;
    int rank = b.x + b.y + b.z + b.w;
    for (; j < n; j++) {
        int other = KEY(x[j]);
        rank += other < key || (other == key && j < i);
    }
    return rank;
}

// The indices of the first k elements in sorted order.
kernel void argsort(Bytes x_, ulong x_at, Bytes y_, ulong y_at, long4 ne, long4 x_nb,
                    long4 y_nb, long k) {
    long4 at = row_number(ne);
    Floats x = floats_of(x_, x_at, x_nb, at);
    global int *y = (global int *)row_of(y_, y_at, y_nb, at);
    for EACH(i, ne.x) {
        int rank = rank_of(x, i, ne.x);
        if (SWAPPED && k > 1 && rank < 2) rank = 1 - rank;
        if (rank < k) y[rank] = i;
    }
}
#endif
