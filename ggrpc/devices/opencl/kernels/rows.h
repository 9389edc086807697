// Rows of tensors, a work-group for each. `ne` and `nb` are ggml's, in a long4.

typedef global char *Bytes;

// The work-items of a group share the elements of a row.
#define EACH(i, n) (long i = get_local_id(0); i < (n); i += get_local_size(0))

// Which row of a tensor of these dimensions the group has: its i1, i2, i3.
static inline long4 row_number(long4 ne) {
    long at = get_group_id(0), rest = at / ne.y;
    return (long4)(0, at % ne.y, rest % ne.z, rest / ne.z);
}

static inline Bytes row_of(Bytes base, ulong at, long4 nb, long4 i) {
    return base + at + i.y * nb.y + i.z * nb.z + i.w * nb.w;
}
