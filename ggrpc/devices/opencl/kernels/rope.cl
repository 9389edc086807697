// ROPE of dense F32 rows.

#include "rows.h"

// The cosines and sines of one token, a work-item a token. Angles are multiplied up pair
// by pair as ggml does it, so that those of far positions are off by what its are.
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

static void copy(Floats x, Floats y, long first, long end) {
    for (long i = first + get_local_id(0); i < end; i += get_local_size(0)) y[i] = x[i];
}

// Each pair is an element and the next.
static void turn_neighbours(Floats x, Floats y, global const float *cosines,
                            global const float *sines, long pairs) {
    for (long i = 8 * get_local_id(0); i + 8 <= pairs; i += 8 * get_local_size(0)) {
        float16 v = vload16(0, x + 2 * i), turned;
        float8 c = vload8(0, cosines + i), s = vload8(0, sines + i);
        turned.even = v.even * c - v.odd * s;
        turned.odd = v.even * s + v.odd * c;
        vstore16(turned, 0, y + 2 * i);
    }
    for (long i = (pairs & ~7L) + get_local_id(0); i < pairs; i += get_local_size(0)) {
        float a = x[2 * i], b = x[2 * i + 1];
        y[2 * i] = a * cosines[i] - b * sines[i];
        y[2 * i + 1] = a * sines[i] + b * cosines[i];
    }
}

// Each pair is an element and the one `pairs` further on.
static void turn_halves(Floats x, Floats y, global const float *cosines,
                        global const float *sines, long pairs) {
    for EACH_16(i, pairs) {
        float16 a = vload16(0, x + i), b = vload16(0, x + i + pairs);
        float16 c = vload16(0, cosines + i), s = vload16(0, sines + i);
        vstore16(a * c - b * s, 0, y + i);
        vstore16(a * s + b * c, 0, y + i + pairs);
    }
    for EACH_LAST(i, pairs) {
        float a = x[i], b = x[i + pairs];
        y[i] = a * cosines[i] - b * sines[i];
        y[i + pairs] = a * sines[i] + b * cosines[i];
    }
}

// The row of a tensor that has a place; `first` elements come before the pairs.
#define ROPE(turn, x_, x_at, x_nb, y_, y_at, y_nb, at, n)                  \
    {                                                                      \
        Floats x = floats_of(x_, x_at, x_nb, at);                          \
        Floats y = floats_of(y_, y_at, y_nb, at);                          \
        global const float *cosines = table + at.z * 2 * pairs;            \
        if (x != y) {                                                      \
            copy(x, y, 0, first);                                          \
            copy(x, y, first + 2 * pairs, n);                              \
        }                                                                  \
        turn(x + first, y + first, cosines, cosines + pairs, pairs);       \
    }

// One tensor, and two: the groups of the first one come first.
#define KERNELS(name, turn)                                                          \
    kernel void name(Bytes x_, ulong x_at, Bytes y_, ulong y_at,                     \
                     global const float *table, long4 ne, long4 x_nb, long4 y_nb,    \
                     long pairs, long first) {                                       \
        long4 at = row_number(ne);                                                   \
        ROPE(turn, x_, x_at, x_nb, y_, y_at, y_nb, at, ne.x)                         \
    }                                                                                \
    kernel void name##_two(Bytes x_, ulong x_at, Bytes y_, ulong y_at, Bytes v_,     \
                           ulong v_at, Bytes w_, ulong w_at,                         \
                           global const float *table, long4 ne, long4 x_nb,          \
                           long4 y_nb, long4 v_ne, long4 v_nb, long4 w_nb,           \
                           long pairs, long first) {                                 \
        long group = get_group_id(0), rows = ne.y * ne.z * ne.w;                     \
        if (group < rows) {                                                          \
            long4 at = row_at(group, ne);                                            \
            ROPE(turn, x_, x_at, x_nb, y_, y_at, y_nb, at, ne.x)                     \
        } else {                                                                     \
            long4 at = row_at(group - rows, v_ne);                                   \
            ROPE(turn, v_, v_at, v_nb, w_, w_at, w_nb, at, v_ne.x)                   \
        }                                                                            \
    }
KERNELS(neighbours, turn_neighbours)
KERNELS(halves, turn_halves)
