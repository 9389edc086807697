// Copies of rows FROM one float type TO another.

#include "rows.h"

#define SIZE_F32 4
#define SIZE_F16 2
#define LOAD_F32(p) (*(global const float *)(p))
#define LOAD_F16(p) vload_half(0, (global const half *)(p))
#define STORE_F32(v, p) *(global float *)(p) = (v)
#define STORE_F16(v, p) vstore_half_rte((v), 0, (global half *)(p))
#define LOAD16_F32(p) vload16(0, (global const float *)(p))
#define LOAD16_F16(p) vload_half16(0, (global const half *)(p))
#define STORE16_F32(v, p) vstore16((v), 0, (global float *)(p))
#define STORE16_F16(v, p) vstore_half16_rte((v), 0, (global half *)(p))
#define OF_(name, type) name##_##type
#define OF(name, type) OF_(name, type)

static void copy_row(Bytes x, Bytes y, long n, long x_step, long y_step) {
    if (x_step == OF(SIZE, FROM) && y_step == OF(SIZE, TO)) {
        for EACH_16(i, n)
            OF(STORE16, TO)(OF(LOAD16, FROM)(x + i * x_step), y + i * y_step);
        for EACH_LAST(i, n)
            OF(STORE, TO)(OF(LOAD, FROM)(x + i * x_step), y + i * y_step);
    } else {
        for EACH(i, n) OF(STORE, TO)(OF(LOAD, FROM)(x + i * x_step), y + i * y_step);
    }
}

kernel void copy(Bytes x, ulong x_at, Bytes y, ulong y_at, long4 ne, long4 x_nb,
                 long4 y_nb) {
    long4 at = row_number(ne);
    copy_row(row_of(x, x_at, x_nb, at), row_of(y, y_at, y_nb, at), ne.x, x_nb.x,
             y_nb.x);
}

#ifdef INDEX
#define I32 int
#define I64 long

kernel void set_rows(Bytes x, ulong x_at, Bytes rows, ulong rows_at, Bytes y, ulong y_at,
                     long4 ne, long4 x_nb, long4 rows_ne, long4 rows_nb, long4 y_ne,
                     long4 y_nb, global int *fault, int number) {
    long4 at = row_number(ne);
    // Rows repeat along the two outer dimensions of x: see ggml_set_rows.
    long4 of = (long4)(0, at.y, at.z % rows_ne.y, at.w % rows_ne.z);
    long row = *(global const INDEX *)(rows + rows_at + of.y * rows_nb.x
                                       + of.z * rows_nb.y + of.w * rows_nb.z);
    if (row < 0 || row >= y_ne.y) {
        if (get_local_id(0) == 0 && atomic_cmpxchg(fault, 0, number) == 0)
            fault[1] = row;
        return;
    }
    copy_row(row_of(x, x_at, x_nb, at), row_of(y, y_at, y_nb, (long4)(0, row, at.zw)),
             ne.x, x_nb.x, y_nb.x);
}
#endif
