// UNARY and GLU of F32 rows with contiguous elements.

#include "functions.h"
#include "rows.h"

#ifdef FUNCTION
kernel void unary(Bytes x_, ulong x_at, Bytes y_, ulong y_at, long4 ne, long4 x_nb,
                  long4 y_nb) {
    long4 at = row_number(ne);
    Floats x = floats_of(x_, x_at, x_nb, at), y = floats_of(y_, y_at, y_nb, at);
    for EACH_16(i, ne.x) {
        float16 v = vload16(0, x + i);
        vstore16(FUNCTION(v), 0, y + i);
    }
    for EACH_LAST(i, ne.x) {
        float v = x[i];
        y[i] = FUNCTION(v);
    }
}
#endif

#ifdef GATED
kernel void glu(Bytes a_, ulong a_at, Bytes b_, ulong b_at, Bytes y_, ulong y_at,
                long4 ne, long4 a_nb, long4 b_nb, long4 y_nb, long gate_at, long up_at,
                float slope, float limit, float shift) {
    long4 at = row_number(ne);
    Floats gate = floats_of(a_, a_at, a_nb, at) + gate_at;
    Floats up = floats_of(b_, b_at, b_nb, at) + up_at;
    Floats y = floats_of(y_, y_at, y_nb, at);
    for EACH_16(i, ne.x) {
        float16 v = vload16(0, gate + i), w = vload16(0, up + i);
        vstore16(GATED(v, w), 0, y + i);
    }
    for EACH_LAST(i, ne.x) {
        float v = gate[i], w = up[i];
        y[i] = GATED(v, w);
    }
}
#endif
