// CPY, REPEAT, GET_ROWS and SET_ROWS: copies of rows FROM one type TO another.

#include "rows.h"
#include "copy_row.h"

kernel void copy(Bytes x, ulong x_at, Bytes y, ulong y_at, long4 ne, long4 x_nb,
                 long4 y_nb) {
    long4 at = row_number(ne);
    copy_row(row_of(x, x_at, x_nb, at), row_of(y, y_at, y_nb, at), ne.x, x_nb.x,
             y_nb.x);
}

// Repeats x in all dimensions until y is full.
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
#include "set_row.h"

kernel void set_rows(SET(x), global int *fault, int number) {
    SET_ROW(x, row_number(x_ne), fault, number);
}

// Two SET_ROWS. The work-groups for x come first.
kernel void set_rows_two(SET(x), SET(v), global int *fault, int number, int other) {
    long group = get_group_id(0), rows = x_ne.y * x_ne.z * x_ne.w;
    if (group < rows)
        SET_ROW(x, row_at(group, x_ne), fault, number);
    else
        SET_ROW(v, row_at(group - rows, v_ne), fault, other);
}
#endif
