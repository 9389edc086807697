// RWKV_WKV6, RWKV_WKV7, GATED_LINEAR_ATTN and GATED_DELTA_NET, for heads of SIZE elements.
//
// The result holds the outputs of all tokens, followed by the states.

#include "rows.h"

#define WIDE (SIZE / 16)
#define VECTOR(x) (Floats)(x##_ + x##_at + offset_of(x##_nb, at))

// The offset of a head's vector for one token.
static inline long offset_of(long4 nb, long4 at) {
    return at.y * nb.y + at.z * nb.z + at.w * nb.w;
}

static inline float product(const float16 *state, Floats with) {
    float16 sum = 0;
    for (int n = 0; n < WIDE; n++) sum += state[n] * vload16(n, with);
    return sum_of_16(sum);
}

static inline void load(float16 *state, Floats from) {
    for (int n = 0; n < WIDE; n++) state[n] = vload16(n, from);
}

static inline void store(const float16 *state, Floats to) {
    for (int n = 0; n < WIDE; n++) vstore16(state[n], n, to);
}

// state = state * w + v k^T + (state a) b^T; y = state r. Rows of a state are independent.
// `ne` is that of k with the tokens split by sequence.
kernel void wkv7(Bytes r_, ulong r_at, Bytes w_, ulong w_at, Bytes k_, ulong k_at,
                 Bytes v_, ulong v_at, Bytes a_, ulong a_at, Bytes b_, ulong b_at,
                 Bytes s_, ulong s_at, Bytes y_, ulong y_at, long4 ne, long4 r_nb,
                 long4 w_nb, long4 k_nb, long4 v_nb, long4 a_nb, long4 b_nb) {
    long rows = SIZE * ne.y * ne.w;
    for EACH_SHARED(row, rows) {
        long i = row % SIZE, head = row / SIZE % ne.y, seq = row / SIZE / ne.y;
        Floats y = (Floats)(y_ + y_at) + (seq * ne.z * ne.y + head) * SIZE + i;
        Floats end = (Floats)(y_ + y_at) + rows * ne.z + row * SIZE;
        float16 state[WIDE];
        load(state, (Floats)(s_ + s_at) + row * SIZE);
        for (long t = 0; t < ne.z; t++) {
            long4 at = (long4)(0, head, seq * ne.z + t, 0);
            Floats w = VECTOR(w), k = VECTOR(k), b = VECTOR(b);
            float v = (VECTOR(v))[i], sa = product(state, VECTOR(a));
            for (int n = 0; n < WIDE; n++)
                state[n] = state[n] * vload16(n, w) + v * vload16(n, k)
                           + sa * vload16(n, b);
            y[t * SIZE * ne.y] = product(state, VECTOR(r));
        }
        store(state, end);
    }
}

// state = S + beta (v - S k) k^T, where S = state exp(g); y = state q scale. Rows of a
// state are independent. Heads of v may share a head of q and k, and so may sequences.
kernel void delta_net(Bytes q_, ulong q_at, Bytes k_, ulong k_at, Bytes v_, ulong v_at,
                      Bytes g_, ulong g_at, Bytes beta_, ulong beta_at, Bytes s_,
                      ulong s_at, Bytes y_, ulong y_at, long4 ne, long4 q_ne,
                      long4 q_nb, long4 k_ne, long4 k_nb, long4 v_nb, long4 g_nb,
                      long4 beta_nb, long gates, long slots, float scale) {
    long rows = SIZE * ne.y * ne.w;
    for EACH_SHARED(row, rows) {
        long i = row % SIZE, head = row / SIZE % ne.y, seq = row / SIZE / ne.y;
        long k_seq = seq / (ne.w / k_ne.w), q_seq = seq / (ne.w / q_ne.w);
        Floats y = (Floats)(y_ + y_at) + (seq * ne.z * ne.y + head) * SIZE + i;
        Floats end = (Floats)(y_ + y_at) + rows * ne.z + row * SIZE;
        float16 state[WIDE];
        load(state, (Floats)(s_ + s_at) + row * SIZE);
        for (long t = 0; t < ne.z; t++) {
            long4 at = (long4)(0, head, t, seq);
            Floats g = VECTOR(g), v = (Floats)((Bytes)VECTOR(v) + i * v_nb.x);
            float beta = *VECTOR(beta);
            at = (long4)(0, head % k_ne.y, t, k_seq);
            Floats k = VECTOR(k);
            at = (long4)(0, head % q_ne.y, t, q_seq);
            Floats q = VECTOR(q);
            for (int n = 0; n < WIDE; n++)
                state[n] *= gates == 1 ? (float16)exp(*g) : exp(vload16(n, g));
            float added = beta * (*v - product(state, k));
            for (int n = 0; n < WIDE; n++) state[n] += added * vload16(n, k);
            y[t * SIZE * ne.y] = product(state, q) * scale;
            long slot = ne.z - 1 - t;
            if (slot < slots) store(state, end + slot * rows * SIZE);
        }
    }
}

// state = state * w + k v^T. The keys are the rows of a state, so a work-item computes 16
// columns. If READS_FIRST, y = r (state + u * k v^T) with the state before the token, else
// y = r state * scale with the state after it.
kernel void by_columns(Bytes k_, ulong k_at, Bytes v_, ulong v_at, Bytes r_, ulong r_at,
                       Bytes u_, ulong u_at, Bytes w_, ulong w_at, Bytes s_, ulong s_at,
                       Bytes y_, ulong y_at, long4 ne, long4 k_nb, long4 v_nb,
                       long4 r_nb, long4 w_nb, float scale) {
    long heads = ne.y * ne.w;
    for EACH_SHARED(task, heads * WIDE) {
        long i = task % WIDE * 16, each = task / WIDE;
        long head = each % ne.y, seq = each / ne.y;
        Floats y = (Floats)(y_ + y_at) + (seq * ne.z * ne.y + head) * SIZE + i;
        Floats end = (Floats)(y_ + y_at) + heads * SIZE * ne.z + each * SIZE * SIZE + i;
        Floats from = (Floats)(s_ + s_at) + each * SIZE * SIZE + i;
        Floats u = (Floats)(u_ + u_at) + head * SIZE;
        for (long t = 0; t < ne.z; t++) {
            long4 at = (long4)(0, head, seq * ne.z + t, 0);
            Floats k = VECTOR(k), r = VECTOR(r), w = VECTOR(w);
            float16 v = vload16(0, VECTOR(v) + i), sum = 0;
            for (long j = 0; j < SIZE; j++) {
                float16 state = vload16(0, from + j * SIZE), added = k[j] * v;
                float16 after = state * w[j] + added;
                sum += r[j] * (READS_FIRST ? state + u[j] * added : after);
                vstore16(after, 0, end + j * SIZE);
            }
            vstore16(sum * scale, 0, y + t * SIZE * ne.y);
            from = end;
        }
    }
}
