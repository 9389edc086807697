// SOFT_MAX of F32 rows with contiguous elements.

#include "rows.h"
#include "soft_max.h"

kernel void soft_max(Bytes x_, ulong x_at, Bytes mask_, ulong mask_at, Bytes sinks_,
                     ulong sinks_at, Bytes y_, ulong y_at, long4 ne, long4 x_nb,
                     long4 mask_ne, long4 mask_nb, long4 y_nb,
                     global const float *slopes, float scale) {
    local float each[MAX_WORK_ITEMS];
    long4 at = row_number(ne);
    Bytes mask = row_of(mask_, mask_at, mask_nb,
                        (long4)(0, at.y, at.z % mask_ne.z, at.w % mask_ne.w));
    soft_max_row(floats_of(x_, x_at, x_nb, at), floats_of(y_, y_at, y_nb, at), ne.x, scale,
                 mask, slopes[at.z], (Floats)(sinks_ + sinks_at) + at.z, each);
}
