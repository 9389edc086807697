// RMS_NORM, NORM and L2_NORM of F32 rows with contiguous elements.

#include "rows.h"
#include "norms.h"

#define ROW                                       \
    local float each[MAX_WORK_ITEMS];            \
    long4 at = row_number(ne);                    \
    Floats x = floats_of(x_, x_at, x_nb, at);     \
    Floats y = floats_of(y_, y_at, y_nb, at);

kernel void rms_norm(Bytes x_, ulong x_at, Bytes y_, ulong y_at, long4 ne, long4 x_nb,
                     long4 y_nb, float eps) {
    ROW
    float mean = sum_of_squares(x, 0, ne.x, each) / ne.x;
    scale_row(x, y, 0, 1 / sqrt(mean + eps), ne.x);
}

kernel void norm(Bytes x_, ulong x_at, Bytes y_, ulong y_at, long4 ne, long4 x_nb,
                 long4 y_nb, float eps) {
    ROW
    float mean = row_sum(x, ne.x, each) / ne.x;
    float variance = sum_of_squares(x, mean, ne.x, each) / ne.x;
    scale_row(x, y, mean, 1 / sqrt(variance + eps), ne.x);
}

kernel void l2_norm(Bytes x_, ulong x_at, Bytes y_, ulong y_at, long4 ne, long4 x_nb,
                    long4 y_nb, float eps) {
    ROW
    float length = sqrt(sum_of_squares(x, 0, ne.x, each));
    scale_row(x, y, 0, 1 / fmax(length, eps), ne.x);
}

// RMS_NORM, and MUL of its result with one row.
kernel void rms_norm_mul(Bytes x_, ulong x_at, Bytes y_, ulong y_at, Bytes w_,
                         ulong w_at, Bytes z_, ulong z_at, long4 ne, long4 x_nb,
                         long4 y_nb, long4 z_nb, float eps) {
    ROW
    Floats w = (Floats)(w_ + w_at), z = floats_of(z_, z_at, z_nb, at);
    float mean = sum_of_squares(x, 0, ne.x, each) / ne.x;
    normalize_and_weight(x, y, w, z, 1 / sqrt(mean + eps), ne.x);
}

// x = a + b, then rms_norm_mul of x.
kernel void add_rms_norm_mul(Bytes a_, ulong a_at, Bytes b_, ulong b_at, Bytes x_,
                             ulong x_at, Bytes y_, ulong y_at, Bytes w_, ulong w_at,
                             Bytes z_, ulong z_at, long4 ne, long4 a_nb, long4 b_nb,
                             long4 x_nb, long4 y_nb, long4 z_nb, float eps) {
    ROW
    Floats a = floats_of(a_, a_at, a_nb, at), b = floats_of(b_, b_at, b_nb, at);
    Floats w = (Floats)(w_ + w_at), z = floats_of(z_, z_at, z_nb, at);
    add_rows(a, b, x, ne.x);
    float mean = sum_of_squares(x, 0, ne.x, each) / ne.x;
    normalize_and_weight(x, y, w, z, 1 / sqrt(mean + eps), ne.x);
}
