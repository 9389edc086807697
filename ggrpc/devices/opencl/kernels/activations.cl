// FUNCTION of each element of dense F32 rows, and of one half times the other.

#include "rows.h"

// Each is written for a float and for sixteen.
#define SILU(x) ((x) / (1 + exp(-(x))))
#define GELU_QUICK(x) ((x) / (1 + exp(-1.702f * (x))))
#define GELU(x) ((x) / (1 + exp((x) * (-1.5957691216f - 0.0713548162726f * (x) * (x)))))
#define RELU(x) fmax((x), 0.0f)
#define SIGMOID(x) (1 / (1 + exp(-(x))))
#define TANH(x) tanh(x)
#define EXP(x) exp(x)
#define NEG(x) (-(x))
#define ABS(x) fabs(x)
#define SOFTPLUS(x) (fmax((x), 0.0f) + log1p(exp(-fabs(x))))

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

kernel void glu(Bytes a_, ulong a_at, Bytes b_, ulong b_at, Bytes y_, ulong y_at,
                long4 ne, long4 a_nb, long4 b_nb, long4 y_nb, long gate_at, long up_at) {
    long4 at = row_number(ne);
    Floats gate = floats_of(a_, a_at, a_nb, at) + gate_at;
    Floats up = floats_of(b_, b_at, b_nb, at) + up_at;
    Floats y = floats_of(y_, y_at, y_nb, at);
    for EACH_16(i, ne.x) {
        float16 v = vload16(0, gate + i);
        vstore16(FUNCTION(v) * vload16(0, up + i), 0, y + i);
    }
    for EACH_LAST(i, ne.x) {
        float v = gate[i];
        y[i] = FUNCTION(v) * up[i];
    }
}
