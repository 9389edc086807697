// RMS_NORM of one row, MUL with a weight, and quantization of the result, on CPUs: see
// quantize_row.h. SUM adds the ADD before them.

#define TILE 1
#include "quantize_row.h"
#include "rows.h"
#include "norms.h"

kernel void norms_quantize(Bytes a, ulong a_at, Bytes b, ulong b_at, Bytes x_, ulong x_at,
                           Bytes y, ulong y_at, Bytes w, ulong w_at, Bytes z, ulong z_at,
                           long n, float eps, long padded, global int *q,
                           global float *scales, global float *sums32,
                           global float *sums16) {
    Floats x = (Floats)(x_ + x_at);
#ifdef SUM
    add_rows((Floats)(a + a_at), (Floats)(b + b_at), x, n);
#endif
    float mean = sum_of_squares(x, 0, n, 0) / n;
    normalize_and_weight(x, (Floats)(y + y_at), (Floats)(w + w_at), (Floats)(z + z_at),
                         1 / sqrt(mean + eps), n);
    quantize_row((Packed)(z + z_at), n, 0, padded, q, scales, sums32, sums16);
}
