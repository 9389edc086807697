// a op b, where b repeats into a; scale * x + bias; x between bounds. Dense F32 rows.

#include "rows.h"

#define BINARY(name, op)                                                            \
    kernel void name(Bytes a_, ulong a_at, Bytes b_, ulong b_at, Bytes y_,          \
                     ulong y_at, long4 ne, long4 a_nb, long4 b_ne, long4 b_nb,      \
                     long4 y_nb) {                                                  \
        long4 at = row_number(ne);                                                  \
        Floats a = floats_of(a_, a_at, a_nb, at), y = floats_of(y_, y_at, y_nb, at); \
        Floats b = floats_of(b_, b_at, b_nb, at % b_ne);                            \
        if (b_ne.x == 1) {                                                          \
            float one = *b;                                                         \
            for EACH_16(i, ne.x) vstore16(vload16(0, a + i) op one, 0, y + i);      \
            for EACH_LAST(i, ne.x) y[i] = a[i] op one;                              \
        } else {                                                                    \
            for EACH_16(i, ne.x)                                                    \
                vstore16(vload16(0, a + i) op vload16(0, b + i), 0, y + i);         \
            for EACH_LAST(i, ne.x) y[i] = a[i] op b[i];                             \
        }                                                                           \
    }

BINARY(add, +)
BINARY(sub, -)
BINARY(mul, *)
BINARY(div, /)

#define WITH_TWO_NUMBERS(name, of)                                                  \
    kernel void name(Bytes x_, ulong x_at, Bytes y_, ulong y_at, long4 ne, long4 x_nb, \
                     long4 y_nb, float p, float q) {                                \
        long4 at = row_number(ne);                                                  \
        Floats x = floats_of(x_, x_at, x_nb, at), y = floats_of(y_, y_at, y_nb, at); \
        for EACH_16(i, ne.x) vstore16(of(vload16(0, x + i)), 0, y + i);             \
        for EACH_LAST(i, ne.x) y[i] = of(x[i]);                                     \
    }
#define SCALED(x) ((x) * p + q)
#define CLAMPED(x) fmin(fmax((x), p), q)

WITH_TWO_NUMBERS(scaled, SCALED)
WITH_TWO_NUMBERS(clamped, CLAMPED)
