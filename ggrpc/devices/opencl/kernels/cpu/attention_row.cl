// Attention of one token without FLASH_ATTN_EXT, on CPUs: MUL_MAT of keys and query,
// SOFT_MAX, and MUL_MAT of values. A work-group computes HEADS heads with the same keys and
// values. JOINED adds CONT, which joins the heads; QUANTIZE adds the quantization of its
// result: see quantize_row.h.

#define TILE HEADS
#include "gemm_small.h"
#undef TILE
#define TILE 1
#include "quantize_row.h"
#undef F32 // values of ggml_type above; names for floats.h below
#undef F16
#undef BF16
#include "rows.h"
#include "soft_max.h"

#ifdef JOINED
#define JOIN , Bytes joined, ulong joined_at
#else
#define JOIN
#endif

kernel void attention_row(Packed k, ulong k_at, long4 k_ne, long4 k_nb, Packed q,
                          ulong q_at, long4 q_nb, Bytes mask, ulong mask_at, long4 mask_ne,
                          long4 mask_nb, Bytes sinks, ulong sinks_at, Packed v, ulong v_at,
                          long4 v_ne, long4 v_nb, Bytes scores, ulong scores_at,
                          Bytes weights, ulong weights_at, Bytes sums, ulong sums_at,
                          global const float *slopes, float scale JOIN QUANTIZED_OUTPUTS) {
    long head = get_group_id(0) * HEADS, heads = get_num_groups(0) * HEADS;
    long matrix = head / (heads / k_ne.z), n_kv = k_ne.y, width = v_ne.y;
    Packed queries[HEADS], parts[HEADS];
    Floats s[HEADS], w[HEADS], y[HEADS];
    for (int i = 0; i < HEADS; i++) {
        queries[i] = q + q_at + (head + i) * q_nb.z;
        s[i] = (Floats)(scores + scores_at) + (head + i) * n_kv;
        w[i] = (Floats)(weights + weights_at) + (head + i) * n_kv;
        y[i] = (Floats)(sums + sums_at) + (head + i) * width;
        parts[i] = (Packed)w[i];
    }
    rows_times_each(k + k_at + matrix * k_nb.z, k_nb.y, 0, n_kv, queries, HEADS, k_ne.x, s,
                    false);
    for (int i = 0; i < HEADS; i++)
        soft_max_row(s[i], w[i], n_kv, scale,
                     mask + mask_at + (head + i) % mask_ne.z * mask_nb.z, slopes[head + i],
                     (Floats)(sinks + sinks_at) + head + i, 0);
    rows_times_each(v + v_at + matrix * v_nb.z, v_nb.y, 0, width, parts, HEADS, n_kv, y,
                    false);
#ifdef JOINED
    Floats row = (Floats)(joined + joined_at);
    for (long i = 0; i < HEADS * width; i++) row[head * width + i] = y[0][i];
#endif
#ifdef QUANTIZE
    long end = head + HEADS < heads ? (head + HEADS) * width / 32 : padded / 32;
    quantize_blocks((Packed)row, heads * width, 0, padded, bytes, byte_scales, sums32,
                    sums16, head * width / 32, end);
#endif
}
