// Dense F32 rows to one number, or to the order of their elements.

#include "rows.h"

kernel void sum_rows(Bytes x_, ulong x_at, Bytes y_, ulong y_at, long4 ne, long4 x_nb,
                     long4 y_nb, float part) {
    local float each[MOST_WORK_ITEMS];
    long4 at = row_number(ne);
    Floats x = floats_of(x_, x_at, x_nb, at);
    float16 wide = 0;
    float one = 0;
    for EACH_16(i, ne.x) wide += vload16(0, x + i);
    for EACH_LAST(i, ne.x) one += x[i];
    float sum = group_sum(one + sum_of_16(wide), each);
    if (get_local_id(0) == 0) *floats_of(y_, y_at, y_nb, at) = sum * part;
}

// Each element goes to the place that as many others come before; of equal ones the
// first does, and NaN comes last.
kernel void argsort(Bytes x_, ulong x_at, Bytes y_, ulong y_at, long4 ne, long4 x_nb,
                    long4 y_nb, long ascends) {
    long4 at = row_number(ne);
    Floats x = floats_of(x_, x_at, x_nb, at);
    global int *y = (global int *)row_of(y_, y_at, y_nb, at);
    for EACH(i, ne.x) {
        float mine = ascends ? x[i] : -x[i];
        int before = 0;
        for (long j = 0; j < ne.x; j++) {
            float other = ascends ? x[j] : -x[j];
            bool equal = other == mine || (isnan(other) && isnan(mine));
            before += other < mine || (isnan(mine) && !isnan(other)) || (equal && j < i);
        }
        y[before] = i;
    }
}
