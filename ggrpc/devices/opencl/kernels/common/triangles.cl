// Ops on the triangles of F32 matrices with contiguous rows.

#include "rows.h"

// Sets elements to `value`: those with column - row >= `diagonal`, or <= `diagonal` if not
// `above`. Copies all others.
kernel void mask(Bytes x_, ulong x_at, Bytes y_, ulong y_at, long4 ne, long4 x_nb,
                 long4 y_nb, long diagonal, long above, float value) {
    long4 at = row_number(ne);
    Floats x = floats_of(x_, x_at, x_nb, at), y = floats_of(y_, y_at, y_nb, at);
    for EACH(i, ne.x) {
        long offset = i - at.y;
        bool is_masked = above ? offset >= diagonal : offset <= diagonal;
        y[i] = is_masked ? value : x[i];
    }
}

// Row i has x[i] on the diagonal, and zeros.
kernel void diag(Bytes x_, ulong x_at, Bytes y_, ulong y_at, long4 ne, long4 x_nb,
                 long4 y_nb) {
    long4 at = row_number(ne);
    Floats x = floats_of(x_, x_at, x_nb, (long4)(0, 0, at.zw));
    Floats y = floats_of(y_, y_at, y_nb, at);
    for EACH(i, ne.x) y[i] = i == at.y ? x[i] : 0;
}

// Solves a y = b for a lower triangular a, one work-item per column.
kernel void solve_tri(Bytes a_, ulong a_at, Bytes b_, ulong b_at, Bytes y_, ulong y_at,
                      long4 ne, long4 a_nb, long4 b_nb, long4 y_nb) {
    for EACH_SHARED(task, ne.x * ne.z * ne.w) {
        long column = task % ne.x;
        long4 at = (long4)(0, 0, task / ne.x % ne.z, task / ne.x / ne.z);
        for (at.y = 0; at.y < ne.y; at.y++) {
            Floats a = floats_of(a_, a_at, a_nb, at);
            float known = 0;
            for (long i = 0; i < at.y; i++)
                known += a[i] * floats_of(y_, y_at, y_nb, (long4)(0, i, at.zw))[column];
            float b = floats_of(b_, b_at, b_nb, at)[column];
            floats_of(y_, y_at, y_nb, at)[column] = (b - known) / a[at.y];
        }
    }
}
