// FLASH_ATTN_EXT on CPUs.
//
// A work-item computes one query of one head. It processes 16 keys at a time, and keeps the
// largest score so far, the sum of the weights and the weighted sum of the values. These
// are scaled down when a larger score is found.

#include "rows.h"
#include "kv_cache.h"

#define PARTS_K ((WIDTH_K + 15) / 16)
#define PARTS_V ((WIDTH_V + 15) / 16)
#define AT(j) min(first + (j), n_kv - 1)

// Loads 16 elements of a row; elements past its end are 0.
#define PART(name, type, width)                                                    \
    static inline float16 name(Bytes row, int i) {                                 \
        if (i < width / 16) return SIXTEEN(type, row, i);                          \
        float16 v = 0;                                                             \
        for (int j = 0; j < width % 16; j++)                                       \
            v[j] = LOAD(type, row + (16 * i + j) * SIZE(type));                    \
        return v;                                                                  \
    }
#if WIDTH_K % 16
PART(query_part, F32, WIDTH_K)
PART(key_part, KEYS, WIDTH_K)
#else
#define query_part(row, i) SIXTEEN(F32, row, i)
#define key_part(row, i) SIXTEEN(KEYS, row, i)
#endif
#if WIDTH_V % 16
PART(value_part, VALUES, WIDTH_V)
#else
#define value_part(row, i) SIXTEEN(VALUES, row, i)
#endif

kernel void attend(Bytes q_, ulong q_at, Bytes k_, ulong k_at, Bytes v_, ulong v_at,
                   Bytes mask_, ulong mask_at, Bytes sinks_, ulong sinks_at, Bytes y_,
                   ulong y_at, long4 q_ne, long4 q_nb, long4 k_ne, long4 k_nb,
                   long4 v_ne, long4 v_nb, long4 mask_ne, long4 mask_nb, long4 y_nb,
                   global const float *slopes, float scale, float softcap) {
    long n_kv = k_ne.y, group = get_global_id(0);
    long head = group % q_ne.z, token = group / q_ne.z % q_ne.y;
    long stream = group / q_ne.z / q_ne.y;
    Bytes query = row_of(q_, q_at, q_nb, (long4)(0, token, head, stream));
    Bytes k = k_ + k_at + head / (q_ne.z / k_ne.z) * k_nb.z
        + stream / (q_ne.w / k_ne.w) * k_nb.w;
    Bytes v = v_ + v_at + head / (q_ne.z / v_ne.z) * v_nb.z
        + stream / (q_ne.w / v_ne.w) * v_nb.w;
#ifdef MASK
    Bytes mask = row_of(mask_, mask_at, mask_nb,
                        (long4)(0, token, head % mask_ne.z, stream % mask_ne.w));
#endif
    float16 q[PARTS_K], sum[PARTS_V];
    for (int i = 0; i < PARTS_K; i++) q[i] = query_part(query, i);
    for (int i = 0; i < PARTS_V; i++) sum[i] = 0;
    float largest = -INFINITY, total = 0;
    for (long first = 0; first < n_kv; first += 16) {
        float16 bias = 0;
        if (first + 16 > n_kv) {
            bias = -INFINITY;
            for (int j = 0; j < n_kv - first; j++) bias[j] = 0;
        }
#ifdef MASK
        if (first + 16 <= n_kv) bias = LOAD16(MASK, mask + first * SIZE(MASK));
        else for (int j = 0; j < n_kv - first; j++)
            bias[j] = LOAD(MASK, mask + (first + j) * SIZE(MASK));
        bias *= slopes[head];
        if (max_of_16(bias) == -INFINITY) continue;
#endif
        float16 score;
#pragma unroll
        for (int j = 0; j < 16; j++) {
            float16 products = 0;
            for (int i = 0; i < PARTS_K; i++)
                products += q[i] * key_part(k + AT(j) * k_nb.y, i);
            score[j] = sum_of_16(products);
        }
        score *= scale;
        if (softcap != 0) score = softcap * tanh(score / softcap);
        score += bias;
        float now = max_of_16(score);
        if (now > largest) {
            float less = exp(largest - now);
            largest = now;
            total *= less;
            for (int i = 0; i < PARTS_V; i++) sum[i] *= less;
        }
        float16 weight = exp(score - largest);
        total += sum_of_16(weight);
#pragma unroll
        for (int j = 0; j < 16; j++)
            for (int i = 0; i < PARTS_V; i++)
                sum[i] += weight[j] * value_part(v + AT(j) * v_nb.y, i);
    }
#ifdef SINKS
    float sink = ((Floats)(sinks_ + sinks_at))[head], less = 1;
    if (sink > largest) {
        less = exp(largest - sink);
        largest = sink;
    }
    total = total * less + exp(sink - largest);
    for (int i = 0; i < PARTS_V; i++) sum[i] *= less;
#endif
    Floats y = floats_of(y_, y_at, y_nb, (long4)(0, head, token, stream));
    float part = total > 0 ? 1 / total : 0;
    for (int i = 0; i < WIDTH_V / 16; i++) vstore16(sum[i] * part, i, y);
    for (int i = WIDTH_V & ~15; i < WIDTH_V; i++) y[i] = sum[i / 16][i % 16] * part;
}
