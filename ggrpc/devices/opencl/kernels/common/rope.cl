// ROPE of F32 rows with contiguous elements.

#include "rows.h"
#include "rope.h"

// The cosines and sines of one token per work-item. Angles are multiplied up pair by pair,
// as in ggml, so that the rounding errors at large positions are the same.
kernel void angles(Bytes pos_, ulong pos_at, Bytes factors_, ulong factors_at,
                   long has_factors, global float *table, global const int2 *where,
                   global const float *scales, long pairs, long tokens, float step,
                   float magnitude) {
    long token = get_group_id(0);
    global const int *pos = (global const int *)(pos_ + pos_at) + token;
    Floats factors = (Floats)(factors_ + factors_at), row = table + token * 2 * pairs;
    int2 last = -1;
    float theta = 0;
    for (long i = 0; i < pairs; i++) {
        int2 now = where[i];
        if (now.x != last.x || now.y != last.y + 1) {
            theta = pos[now.x * tokens];
            for (int j = 0; j < now.y; j++) theta *= step;
        } else {
            theta *= step;
        }
        last = now;
        float angle = has_factors ? theta / factors[i] : theta;
        float c, s = sincos(angle * scales[i], &c);
        row[i] = c * magnitude;
        row[pairs + i] = s * magnitude;
    }
}

// ROPE of one tensor, and of two. The work-groups for the first tensor come first.
#define KERNELS(name, rotation)                                                      \
    kernel void name(Bytes x_, ulong x_at, Bytes y_, ulong y_at,                     \
                     global const float *table, long4 ne, long4 x_nb, long4 y_nb,    \
                     long pairs, long first) {                                       \
        long4 at = row_number(ne);                                                   \
        ROPE(rotation, x_, x_at, x_nb, y_, y_at, y_nb, at, ne.x)                     \
    }                                                                                \
    kernel void name##_two(Bytes x_, ulong x_at, Bytes y_, ulong y_at, Bytes v_,     \
                           ulong v_at, Bytes w_, ulong w_at,                         \
                           global const float *table, long4 ne, long4 x_nb,          \
                           long4 y_nb, long4 v_ne, long4 v_nb, long4 w_nb,           \
                           long pairs, long first) {                                 \
        long group = get_group_id(0), rows = ne.y * ne.z * ne.w;                     \
        if (group < rows) {                                                          \
            long4 at = row_at(group, ne);                                            \
            ROPE(rotation, x_, x_at, x_nb, y_, y_at, y_nb, at, ne.x)                 \
        } else {                                                                     \
            long4 at = row_at(group - rows, v_ne);                                   \
            ROPE(rotation, v_, v_at, v_nb, w_, w_at, w_nb, at, v_ne.x)               \
        }                                                                            \
    }
KERNELS(normal, rotate_normal)
KERNELS(neox, rotate_neox)
