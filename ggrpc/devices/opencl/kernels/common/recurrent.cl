// SSM_CONV and SSM_SCAN, of Mamba layers.

#include "rows.h"

#ifdef COLUMNS
// y[s, t, i] = sum_j x[s, i, t + j] w[i, j]
kernel void ssm_conv(Bytes x_, ulong x_at, Bytes w_, ulong w_at, Bytes y_, ulong y_at,
                     long4 ne, long4 x_nb, long4 w_nb, long4 y_nb) {
    long seq = get_global_id(1);
    for EACH_SHARED(i, ne.x) {
        Floats x = (Floats)(x_ + x_at + i * x_nb.y + seq * x_nb.z);
        Floats w = (Floats)(w_ + w_at + i * w_nb.y);
        Bytes y = y_ + y_at + i * y_nb.x + seq * y_nb.z;
        for (long t = 0; t < ne.y; t++) {
            float sum = 0;
            for (int j = 0; j < COLUMNS; j++) sum += x[t + j] * w[j];
            *(Floats)(y + t * y_nb.y) = sum;
        }
    }
}
#endif

// For each head and token: the step size softplus(dt), and the decay of the state.
kernel void ssm_steps(Bytes dt, ulong dt_at, Bytes a, ulong a_at, global float2 *steps,
                      long4 ne, long4 dt_nb, long4 a_nb) {
    for EACH_SHARED(i, ne.x * ne.y * ne.z) {
        long head = i % ne.x, token = i / ne.x % ne.y, seq = i / ne.x / ne.y;
        float raw = *(Floats)(dt + dt_at + head * dt_nb.x + token * dt_nb.y
                              + seq * dt_nb.z);
        float step = fmax(raw, 0.0f) + log1p(exp(-fabs(raw)));
        float rate = *(Floats)(a + a_at + head * a_nb.y);
        steps[i] = (float2)(step, exp(step * rate));
    }
}

#ifdef STATE
// The scan over all tokens. Rows of a state are independent. `ne` is that of x.
kernel void ssm_scan(Bytes s, ulong s_at, Bytes x, ulong x_at,
                     global const float2 *steps, Bytes a, ulong a_at, Bytes b,
                     ulong b_at, Bytes c, ulong c_at, Bytes ids, ulong ids_at, Bytes y_,
                     ulong y_at, long4 ne, long4 x_nb, long4 a_nb, long4 b_nb,
                     long4 c_nb, long ids_nb, long heads_a_group, long states,
                     long slots, global int *fault, int number) {
    long all = ne.x * ne.y * ne.w;
    for EACH_SHARED(row, all) {
        long i = row % ne.x, head = row / ne.x % ne.y, seq = row / ne.x / ne.y;
        long group = head / heads_a_group;
        long id = HAS_IDS ? *(global const int *)(ids + ids_at + seq * ids_nb) : seq;
        if (!is_index(id, states, fault, number)) continue;
        Floats start = (Floats)(s + s_at) + ((id * ne.y + head) * ne.x + i) * STATE;
        Floats y = (Floats)(y_ + y_at) + (seq * ne.z * ne.y + head) * ne.x + i;
        Floats end = (Floats)(y_ + y_at) + all * ne.z + row * STATE;
        float16 state[STATE / 16];
        for (int n = 0; n < STATE / 16; n++) state[n] = vload16(n, start);
        for (long t = 0; t < ne.z; t++) {
            float2 step = steps[(seq * ne.z + t) * ne.y + head];
            Floats b_t = (Floats)(b + b_at + group * b_nb.y + t * b_nb.z + seq * b_nb.w);
            Floats c_t = (Floats)(c + c_at + group * c_nb.y + t * c_nb.z + seq * c_nb.w);
            Floats a_h = (Floats)(a + a_at + head * a_nb.y);
            float added = step.x * *(Floats)(x + x_at + i * x_nb.x + head * x_nb.y
                                             + t * x_nb.z + seq * x_nb.w);
            float16 sum = 0;
            for (int n = 0; n < STATE / 16; n++) {
                float16 decay = ONE_RATE ? step.y : exp(step.x * vload16(n, a_h));
                state[n] = state[n] * decay + added * vload16(n, b_t);
                sum += state[n] * vload16(n, c_t);
            }
            y[t * ne.x * ne.y] = sum_of_16(sum);
            long slot = ne.z - 1 - t;
            if (slot < slots)
                for (int n = 0; n < STATE / 16; n++)
                    vstore16(state[n], n, end + slot * all * STATE);
        }
    }
}
#endif
