// Rows of up to three quantized matrices, of one type, times the same row of bytes; or of
// two, of which one is the gate of the other.

#include "functions.h"
#include "matvec.cl"

// Some rows of a matrix: those of a band.
INLINE void rows_of_band(Packed w, long stride, const global char *x,
                         const global float *scales, const global float *sums, long k,
                         global float *y, long first, long end) {
    for (long i = first; i < end; i += ROWS)
        some_rows(w + i * stride, stride, min((long)ROWS, end - i), x, scales, sums, k, y + i);
}

// The groups of the first matrix come first; `n` has the rows of each.
kernel void matvec_several(Packed w0, ulong w0_at, Packed w1, ulong w1_at, Packed w2,
                           ulong w2_at, long4 stride, const global char *x,
                           const global float *scales, const global float *sums, long k,
                           long4 n, global char *y0, ulong y0_at, global char *y1,
                           ulong y1_at, global char *y2, ulong y2_at, long band) {
    long group = get_group_id(0), one = (n.x + band - 1) / band;
    long two = one + (n.y + band - 1) / band;
    bool is_first = group < one, is_second = !is_first && group < two;
    Packed w = is_first ? w0 + w0_at : is_second ? w1 + w1_at : w2 + w2_at;
    global char *y = is_first ? y0 + y0_at : is_second ? y1 + y1_at : y2 + y2_at;
    long step = is_first ? stride.x : is_second ? stride.y : stride.z;
    long rows = is_first ? n.x : is_second ? n.y : n.z;
    long first = (group - (is_first ? 0 : is_second ? one : two)) * band;
    rows_of_band(w, step, x, scales, sums, k, (global float *)y, first,
                 min(first + band, rows));
}

#ifdef GATED
// The same of a gate and of what it gates, and the GLU of both.
INLINE void gated_band(Packed gate, Packed up, long gate_step, long up_step,
                       const global char *x, const global float *scales,
                       const global float *sums, long k, global float *g, global float *u,
                       global float *y, long first, long end, float slope, float limit,
                       float shift) {
    rows_of_band(gate, gate_step, x, scales, sums, k, g, first, end);
    rows_of_band(up, up_step, x, scales, sums, k, u, first, end);
    for (; first + 16 <= end; first += 16) {
        float16 v = vload16(0, g + first), w = vload16(0, u + first);
        vstore16(GATED(v, w), 0, y + first);
    }
    for (; first < end; first++) {
        float v = g[first], w = u[first];
        y[first] = GATED(v, w);
    }
}

kernel void matvec_gated(Packed gate, ulong gate_at, Packed up, ulong up_at, long gate_step,
                         long up_step, const global char *x, const global float *scales,
                         const global float *sums, long k, long n, global char *g,
                         ulong g_at, global char *u, ulong u_at, global char *y,
                         ulong y_at, long band, float slope, float limit, float shift) {
    long first = get_group_id(0) * band;
    gated_band(gate + gate_at, up + up_at, gate_step, up_step, x, scales, sums, k,
               (global float *)(g + g_at), (global float *)(u + u_at),
               (global float *)(y + y_at), first, min(first + band, n), slope, limit, shift);
}
#endif
