// Copies of rows FROM one float type TO another, all of them or those that are named.

#include "floats.h"
#include "rows.h"

static void copy_row(Bytes x, Bytes y, long n, long x_step, long y_step) {
    if (x_step == SIZE(FROM) && y_step == SIZE(TO)) {
        for EACH_16(i, n) STORE16(TO, LOAD16(FROM, x + i * x_step), y + i * y_step);
        for EACH_LAST(i, n) STORE(TO, LOAD(FROM, x + i * x_step), y + i * y_step);
    } else {
        for EACH(i, n) STORE(TO, LOAD(FROM, x + i * x_step), y + i * y_step);
    }
}

kernel void copy(Bytes x, ulong x_at, Bytes y, ulong y_at, long4 ne, long4 x_nb,
                 long4 y_nb) {
    long4 at = row_number(ne);
    copy_row(row_of(x, x_at, x_nb, at), row_of(y, y_at, y_nb, at), ne.x, x_nb.x,
             y_nb.x);
}

// y = x, as often as it goes into y.
kernel void repeat(Bytes x, ulong x_at, Bytes y, ulong y_at, long4 ne, long4 x_ne,
                   long4 x_nb, long4 y_nb) {
    long4 at = row_number(ne);
    Bytes from = row_of(x, x_at, x_nb, at % x_ne), to = row_of(y, y_at, y_nb, at);
    for (long i = 0; i < ne.x; i += x_ne.x)
        copy_row(from, to + i * y_nb.x, x_ne.x, x_nb.x, y_nb.x);
}

kernel void get_rows(Bytes x, ulong x_at, Bytes rows, ulong rows_at, Bytes y, ulong y_at,
                     long4 ne, long4 x_ne, long4 x_nb, long4 rows_nb, long4 y_nb,
                     global int *fault, int number) {
    long4 at = row_number(ne);
    long row = *(global const int *)(rows + rows_at + at.y * rows_nb.x
                                     + at.z * rows_nb.y + at.w * rows_nb.z);
    if (!is_index(row, x_ne.y, fault, number)) return;
    copy_row(row_of(x, x_at, x_nb, (long4)(0, row, at.zw)), row_of(y, y_at, y_nb, at),
             ne.x, x_nb.x, y_nb.x);
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
    if (!is_index(row, y_ne.y, fault, number)) return;
    copy_row(row_of(x, x_at, x_nb, at), row_of(y, y_at, y_nb, (long4)(0, row, at.zw)),
             ne.x, x_nb.x, y_nb.x);
}
#endif
