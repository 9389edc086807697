// FLASH_ATTN_EXT on GPUs.
//
// A work-group computes QUERIES queries with the same keys: of several tokens, and of the
// heads that share a head of k. It processes a range of the keys, LOCAL at a time. First
// each work-item computes the scores of one key. Then it computes some columns of the
// weighted sum; STAGED rows of values at a time are unpacked into local memory. The results
// for each query are the largest score, the sum of the weights, and the weighted sum.
// `merge` combines the results for all ranges of keys. Rows have a multiple of 16 elements.

#include "rows.h"
#include "kv_cache.h"

#define COLUMNS ((WIDTH_V + LOCAL - 1) / LOCAL)
#define STAGED (WIDTH_V <= 128 ? 16 : WIDTH_V <= 256 ? 8 : 2)
#define PART (WIDTH_V + 2)

// The indices of one of the queries that share keys: its token and its head.
static inline long4 query_at(long n, long shared, long kv_head, long stream) {
    return (long4)(0, n / shared, kv_head * shared + n % shared, stream);
}

// Work-groups: groups of queries; heads of k and streams; ranges of `span` keys.
kernel void attend(Bytes q_, ulong q_at, Bytes k_, ulong k_at, Bytes v_, ulong v_at,
                   Bytes mask_, ulong mask_at, Floats parts, long4 q_ne, long4 q_nb,
                   long4 k_ne, long4 k_nb, long4 v_ne, long4 v_nb, long4 mask_ne,
                   long4 mask_nb, global const float *slopes, long span, float scale,
                   float softcap) {
    local float query[QUERIES * WIDTH_K], weights[QUERIES * LOCAL], each[LOCAL];
    local float values[STAGED * WIDTH_V];
    int me = get_local_id(0);
    long shared = q_ne.z / k_ne.z, kv_head = get_group_id(1) % k_ne.z;
    long stream = get_group_id(1) / k_ne.z, first = get_group_id(0) * QUERIES;
    long all = shared * q_ne.y, start = get_group_id(2) * span;
    long end = min(start + span, k_ne.y);
    Bytes k = k_ + k_at + kv_head * k_nb.z + stream / (q_ne.w / k_ne.w) * k_nb.w;
    Bytes v = v_ + v_at + kv_head / (k_ne.z / v_ne.z) * v_nb.z
              + stream / (q_ne.w / v_ne.w) * v_nb.w;
    for (int i = me; i < QUERIES * WIDTH_K; i += LOCAL) {
        long n = min(first + i / WIDTH_K, all - 1);
        query[i] = floats_of(q_, q_at, q_nb, query_at(n, shared, kv_head, stream))[i % WIDTH_K];
    }
    float sum[QUERIES * COLUMNS], total[QUERIES], largest[QUERIES];
    for (int i = 0; i < QUERIES * COLUMNS; i++) sum[i] = 0;
    for (int i = 0; i < QUERIES; i++) {
        total[i] = 0;
        largest[i] = -INFINITY;
    }
    for (long at = start; at < end; at += LOCAL) {
        long key = min(at + me, end - 1);
        float score[QUERIES];
        for (int i = 0; i < QUERIES; i++) score[i] = 0;
        barrier(CLK_LOCAL_MEM_FENCE);
        for (int c = 0; c < WIDTH_K / 16; c++) {
            float16 part = SIXTEEN(KEYS, k + key * k_nb.y, c);
            for (int i = 0; i < QUERIES; i++)
                score[i] += sum_of_16(part * vload16(c, query + i * WIDTH_K));
        }
        for (int i = 0; i < QUERIES; i++) {
            float s = score[i] * scale;
            if (softcap != 0) s = softcap * tanh(s / softcap);
#ifdef MASK
            long4 of = query_at(min(first + i, all - 1), shared, kv_head, stream);
            Bytes mask = row_of(mask_, mask_at, mask_nb,
                                (long4)(0, of.y, of.z % mask_ne.z, of.w % mask_ne.w));
            s += slopes[of.z] * LOAD(MASK, mask + key * SIZE(MASK));
#endif
            score[i] = at + me < end ? s : -INFINITY;
            weights[i * LOCAL + me] = score[i];
        }
        barrier(CLK_LOCAL_MEM_FENCE);
        for (int i = 0; i < QUERIES; i++) {
            float now = largest[i];
            for (int j = 0; j < LOCAL; j++) now = fmax(now, weights[i * LOCAL + j]);
            float less = now == -INFINITY ? 1 : exp(largest[i] - now);
            score[i] = now == -INFINITY ? 0 : exp(score[i] - now);
            largest[i] = now;
            total[i] = total[i] * less + score[i];
            for (int c = 0; c < COLUMNS; c++) sum[i * COLUMNS + c] *= less;
        }
        barrier(CLK_LOCAL_MEM_FENCE);
        for (int i = 0; i < QUERIES; i++) weights[i * LOCAL + me] = score[i];
        int keys = (int)min((long)LOCAL, end - at);
        for (int from = 0; from < keys; from += STAGED) {
            int rows = min(STAGED, keys - from);
            barrier(CLK_LOCAL_MEM_FENCE);
            for (int i = me; i < rows * (WIDTH_V / 16); i += LOCAL) {
                Bytes row = v + (at + from + i / (WIDTH_V / 16)) * v_nb.y;
                vstore16(SIXTEEN(VALUES, row, i % (WIDTH_V / 16)), i, values);
            }
            barrier(CLK_LOCAL_MEM_FENCE);
            for (int c = 0; c < COLUMNS; c++) {
                int column = min(c * LOCAL + me, WIDTH_V - 1);
                for (int j = 0; j < rows; j++)
                    for (int i = 0; i < QUERIES; i++)
                        sum[i * COLUMNS + c] += weights[i * LOCAL + from + j]
                            * values[j * WIDTH_V + column];
            }
        }
    }
    for (int i = 0; i < QUERIES; i++) {
        float whole = group_sum(total[i], each);
        if (first + i >= all) continue;
        long4 of = query_at(first + i, shared, kv_head, stream);
        long number = (of.w * q_ne.y + of.y) * q_ne.z + of.z;
        Floats part = parts + (number * get_num_groups(2) + get_group_id(2)) * PART;
        for (int c = 0; c < COLUMNS; c++)
            if (c * LOCAL + me < WIDTH_V) part[c * LOCAL + me] = sum[i * COLUMNS + c];
        if (me == 0) {
            part[WIDTH_V] = largest[i];
            part[WIDTH_V + 1] = whole;
        }
    }
}

// Merges `count` parts, one work-group per query.
kernel void merge(global const float *parts, long count, Bytes sinks, ulong sinks_at,
                  Bytes y_, ulong y_at, long4 q_ne, long4 y_nb) {
    long number = get_group_id(0), head = number % q_ne.z;
    long token = number / q_ne.z % q_ne.y, stream = number / (q_ne.z * q_ne.y);
    global const float *part = parts + number * count * PART;
    Floats y = floats_of(y_, y_at, y_nb, (long4)(0, head, token, stream));
    float largest = -INFINITY, total = 0;
    for (long i = 0; i < count; i++) largest = fmax(largest, part[i * PART + WIDTH_V]);
#ifdef SINKS
    float sink = ((Floats)(sinks + sinks_at))[head];
    largest = fmax(largest, sink);
    total = exp(sink - largest);
#endif
    for (long i = 0; i < count; i++)
        if (part[i * PART + WIDTH_V] != -INFINITY)
            total += part[i * PART + WIDTH_V + 1] * exp(part[i * PART + WIDTH_V] - largest);
    for EACH(c, WIDTH_V) {
        float sum = 0;
        for (long i = 0; i < count; i++)
            if (part[i * PART + WIDTH_V] != -INFINITY)
                sum += part[i * PART + c] * exp(part[i * PART + WIDTH_V] - largest);
        y[c] = total > 0 ? sum / total : 0;
    }
}
