// Binary ops with broadcasting, sums, and a FUNCTION of each element, of F32 rows with
// contiguous elements.

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

// The sum, in order, of `count` tensors that are `step` bytes apart.
kernel void sum_tensors(Bytes x_, ulong x_at, Bytes y_, ulong y_at, long4 ne,
                        long4 x_nb, long4 y_nb, long count, long step) {
    long4 at = row_number(ne);
    Bytes x = row_of(x_, x_at, x_nb, at);
    Floats y = floats_of(y_, y_at, y_nb, at);
    for EACH_16(i, ne.x) {
        float16 sum = vload16(0, (Floats)x + i);
        for (long j = 1; j < count; j++) sum += vload16(0, (Floats)(x + j * step) + i);
        vstore16(sum, 0, y + i);
    }
    for EACH_LAST(i, ne.x) {
        float sum = ((Floats)x)[i];
        for (long j = 1; j < count; j++) sum += ((Floats)(x + j * step))[i];
        y[i] = sum;
    }
}

// For x of type float or float16, with up to two parameters.
#define SCALE(x, scale, bias) ((x) * scale + bias)
#define CLAMP(x, low, high) fmax(fmin((x), high), low)
#define FILL(x, c, none) fmin(fmax((x), c), c)
#define LEAKY_RELU(x, slope, none) (fmax((x), 0.0f) + slope * fmin((x), 0.0f))
#define SQR(x, p, q) ((x) * (x))
#define SQRT(x, p, q) sqrt(x)
#define LOG(x, p, q) log(x)
#define SIN(x, p, q) sin(x)
#define COS(x, p, q) cos(x)

#ifdef FUNCTION
kernel void elementwise(Bytes x_, ulong x_at, Bytes y_, ulong y_at, long4 ne,
                        long4 x_nb, long4 y_nb, float p, float q) {
    long4 at = row_number(ne);
    Floats x = floats_of(x_, x_at, x_nb, at), y = floats_of(y_, y_at, y_nb, at);
    for EACH_16(i, ne.x) {
        float16 v = vload16(0, x + i);
        vstore16(FUNCTION(v, p, q), 0, y + i);
    }
    for EACH_LAST(i, ne.x) {
        float v = x[i];
        y[i] = FUNCTION(v, p, q);
    }
}
#endif
