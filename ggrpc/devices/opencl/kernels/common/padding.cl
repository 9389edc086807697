// PAD with zeros, of F32 rows with contiguous elements.

#include "rows.h"

// `first` is the index in y of the first element of x.
kernel void pad(Bytes x_, ulong x_at, Bytes y_, ulong y_at, long4 ne, long4 x_ne,
                long4 x_nb, long4 y_nb, long4 first) {
    long4 at = row_number(ne), from = at - first;
    Floats x = floats_of(x_, x_at, x_nb, from), y = floats_of(y_, y_at, y_nb, at);
    bool outside = from.y < 0 || from.y >= x_ne.y || from.z < 0 || from.z >= x_ne.z ||
                   from.w < 0 || from.w >= x_ne.w;
    for EACH(i, ne.x) {
        long j = i - first.x;
        y[i] = outside || j < 0 || j >= x_ne.x ? 0 : x[j];
    }
}
