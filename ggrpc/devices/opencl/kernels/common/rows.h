// Rows of tensors, one work-group per row. `ne` and `nb` are those of ggml.

typedef global char *Bytes;
typedef global float *Floats;

// The work-items of a work-group share the elements of a row: 16 at a time, and the last
// n % 16 elements one by one.
#define EACH(i, n) (long i = get_local_id(0); i < (n); i += get_local_size(0))
#define EACH_16(i, n) (long i = 16 * get_local_id(0); i + 16 <= (n); \
                       i += 16 * get_local_size(0))
#define EACH_LAST(i, n) (long i = ((n) & ~15L) + get_local_id(0); i < (n); \
                         i += get_local_size(0))

// All work-items of a launch share n tasks: see `Traits.groups`.
#define EACH_SHARED(i, n) (long i = get_global_id(0); i < (n); i += get_global_size(0))

// The indices i1, i2 and i3 of a row of a tensor with these dimensions.
static inline long4 row_at(long number, long4 ne) {
    long rest = number / ne.y;
    return (long4)(0, number % ne.y, rest % ne.z, rest / ne.z);
}

// The indices of the row of the current work-group.
static inline long4 row_number(long4 ne) {
    return row_at(get_group_id(0), ne);
}

static inline Bytes row_of(Bytes base, ulong at, long4 nb, long4 i) {
    return base + at + i.y * nb.y + i.z * nb.z + i.w * nb.w;
}

static inline Floats floats_of(Bytes base, ulong at, long4 nb, long4 i) {
    return (Floats)row_of(base, at, nb, i);
}

// Whether an index is in range. The first one that is not is recorded: see
// `OpenClProgram`.
static inline bool is_index(long index, long n, global int *fault, int number) {
    if (index >= 0 && index < n) return true;
    if (atomic_cmpxchg(fault, 0, number) == 0) fault[1] = index;
    return false;
}

static inline float sum_of_16(float16 x) {
    float8 a = x.lo + x.hi;
    float4 b = a.lo + a.hi;
    return (b.x + b.z) + (b.y + b.w);
}

static inline float max_of_16(float16 x) {
    float8 a = fmax(x.lo, x.hi);
    float4 b = fmax(a.lo, a.hi);
    return fmax(fmax(b.x, b.z), fmax(b.y, b.w));
}

// Reduces one value of each work-item of a work-group.
#define GROUP_REDUCE(name, op)                                   \
    static inline float name(float x, local float *each) {       \
        int n = get_local_size(0), me = get_local_id(0);         \
        if (n == 1) return x;                                    \
        barrier(CLK_LOCAL_MEM_FENCE);                            \
        each[me] = x;                                            \
        barrier(CLK_LOCAL_MEM_FENCE);                            \
        float all = each[0];                                     \
        for (int i = 1; i < n; i++) all = op(all, each[i]);      \
        return all;                                              \
    }
#define PLUS(a, b) ((a) + (b))
GROUP_REDUCE(group_sum, PLUS)
GROUP_REDUCE(group_max, fmax)

#define MAX_WORK_ITEMS 256

// The sum of a row. `each` has one float for each work-item.
static inline float row_sum(Floats x, long n, local float *each) {
    float16 wide = 0;
    float one = 0;
    for EACH_16(i, n) wide += vload16(0, x + i);
    for EACH_LAST(i, n) one += x[i];
    return group_sum(one + sum_of_16(wide), each);
}
