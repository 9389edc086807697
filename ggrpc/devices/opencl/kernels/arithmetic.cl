// a op b, where b repeats into a; all rows dense F32.

#include "rows.h"

#define BINARY(name, op)                                                             \
    kernel void name(Bytes a_, ulong a_at, Bytes b_, ulong b_at, Bytes y_, ulong y_at, \
                     long4 ne, long4 a_nb, long4 b_ne, long4 b_nb, long4 y_nb) {     \
        long4 at = row_number(ne);                                                   \
        global const float *a = (global const float *)row_of(a_, a_at, a_nb, at);    \
        global const float *b = (global const float *)row_of(b_, b_at, b_nb, at % b_ne); \
        global float *y = (global float *)row_of(y_, y_at, y_nb, at);                \
        if (b_ne.x == 1) {                                                           \
            float one = *b;                                                          \
            for EACH(i, ne.x) y[i] = a[i] op one;                                    \
        } else {                                                                     \
            for EACH(i, ne.x) y[i] = a[i] op b[i];                                   \
        }                                                                            \
    }

BINARY(add, +)
BINARY(sub, -)
BINARY(mul, *)
BINARY(div, /)
