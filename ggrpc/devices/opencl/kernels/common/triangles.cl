// Matrices of dense F32 rows, by where their elements lie to the diagonal.

#include "rows.h"

// `value` where column - row is at least `diagonal`, or, if what goes is not ABOVE it, at
// most that.
kernel void mask(Bytes x_, ulong x_at, Bytes y_, ulong y_at, long4 ne, long4 x_nb,
                   long4 y_nb, long diagonal, long above, float value) {
    long4 at = row_number(ne);
    Floats x = floats_of(x_, x_at, x_nb, at), y = floats_of(y_, y_at, y_nb, at);
    for EACH(i, ne.x) {
        long offset = i - at.y;
        bool goes = above ? offset >= diagonal : offset <= diagonal;
        y[i] = goes ? value : x[i];
    }
}

// A row on the diagonal, and zeros.
kernel void diag(Bytes x_, ulong x_at, Bytes y_, ulong y_at, long4 ne, long4 x_nb,
                 long4 y_nb) {
    long4 at = row_number(ne);
    Floats x = floats_of(x_, x_at, x_nb, (long4)(0, 0, at.zw));
    Floats y = floats_of(y_, y_at, y_nb, at);
    for EACH(i, ne.x) y[i] = i == at.y ? x[i] : 0;
}

// y such that a y = b, for a with nothing above its diagonal: a work-item has columns.
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
