// Copies of rows FROM one type TO another, all of them or those that are named.

#include "rows.h"
#include "caches.h"

#ifdef PACKS
#include "packing.h"

// Blocks of 32.
static void copy_row(Bytes x, Bytes y, long n, long x_step, long y_step) {
    for EACH(i, n / 32) OF(pack, TO)((Floats)x + 32 * i, y + i * y_step);
}
#elif defined UNPACKS
static void copy_row(Bytes x, Bytes y, long n, long x_step, long y_step) {
    for EACH(i, n / 16) vstore16(SIXTEEN(FROM, x, i), i, (Floats)y);
}
#else
static void copy_row(Bytes x, Bytes y, long n, long x_step, long y_step) {
    if (x_step == SIZE(FROM) && y_step == SIZE(TO)) {
        for EACH_16(i, n) STORE16(TO, LOAD16(FROM, x + i * x_step), y + i * y_step);
        for EACH_LAST(i, n) STORE(TO, LOAD(FROM, x + i * x_step), y + i * y_step);
    } else {
        for EACH(i, n) STORE(TO, LOAD(FROM, x + i * x_step), y + i * y_step);
    }
}
#endif

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

// A row of x to where its index says.
static void set_row(Bytes x, Bytes rows, Bytes y, long4 at, long n, long4 x_nb,
                    long4 rows_ne, long4 rows_nb, long4 y_ne, long4 y_nb,
                    global int *fault, int number) {
    // Rows repeat along the two outer dimensions of x: see ggml_set_rows.
    long4 of = (long4)(0, at.y, at.z % rows_ne.y, at.w % rows_ne.z);
    long row = *(global const INDEX *)(rows + of.y * rows_nb.x + of.z * rows_nb.y
                                       + of.w * rows_nb.z);
    if (!is_index(row, y_ne.y, fault, number)) return;
    copy_row(row_of(x, 0, x_nb, at), row_of(y, 0, y_nb, (long4)(0, row, at.zw)), n,
             x_nb.x, y_nb.x);
}

kernel void set_rows(Bytes x, ulong x_at, Bytes rows, ulong rows_at, Bytes y, ulong y_at,
                     long4 ne, long4 x_nb, long4 rows_ne, long4 rows_nb, long4 y_ne,
                     long4 y_nb, global int *fault, int number) {
    set_row(x + x_at, rows + rows_at, y + y_at, row_number(ne), ne.x, x_nb, rows_ne,
            rows_nb, y_ne, y_nb, fault, number);
}

// The same twice: the groups of the first one come first.
kernel void set_rows_two(Bytes x, ulong x_at, Bytes rows, ulong rows_at, Bytes y,
                         ulong y_at, long4 ne, long4 x_nb, long4 rows_ne, long4 rows_nb,
                         long4 y_ne, long4 y_nb, Bytes v, ulong v_at, Bytes lines,
                         ulong lines_at, Bytes w, ulong w_at, long4 v_ne, long4 v_nb,
                         long4 lines_ne, long4 lines_nb, long4 w_ne, long4 w_nb,
                         global int *fault, int number, int other) {
    long group = get_group_id(0), count = ne.y * ne.z * ne.w;
    if (group < count)
        set_row(x + x_at, rows + rows_at, y + y_at, row_at(group, ne), ne.x, x_nb, rows_ne,
                rows_nb, y_ne, y_nb, fault, number);
    else
        set_row(v + v_at, lines + lines_at, w + w_at, row_at(group - count, v_ne), v_ne.x,
                v_nb, lines_ne, lines_nb, w_ne, w_nb, fault, other);
}
#endif
