// Products of one row with up to three quantized matrices of one type, or with gate and up
// and the GLU of both, on CPUs.

#include "functions.h"
#include "matvec.cl"

typedef global char *Bytes;

// BIASED adds the sum of each product and a bias, which is a result of its own.
#ifdef BIASED
#define BIASES                                                                         \
    , Bytes b0, ulong b0_at, Bytes b1, ulong b1_at, Bytes b2, ulong b2_at, Bytes z0,   \
        ulong z0_at, Bytes z1, ulong z1_at, Bytes z2, ulong z2_at
#else
#define BIASES
#endif

static void add_bias(const global float *y, const global float *bias, global float *z,
                     long first, long end) {
    for (; first + 16 <= end; first += 16)
        vstore16(vload16(0, y + first) + vload16(0, bias + first), 0, z + first);
    for (; first < end; first++) z[first] = y[first] + bias[first];
}

// The work-groups for the first matrix come first. `n` has the number of rows of each.
#define PICK(a, b, c) (is_first ? (a) : is_second ? (b) : (c))
#define FLOATS_AT(x) ((global float *)PICK(x##0 + x##0_at, x##1 + x##1_at, x##2 + x##2_at))
kernel void matvec_several(Packed w0, ulong w0_at, Packed w1, ulong w1_at, Packed w2,
                           ulong w2_at, long4 stride, const global char *x,
                           const global float *scales, const global float *sums, long k,
                           long4 n, Bytes y0, ulong y0_at, Bytes y1, ulong y1_at, Bytes y2,
                           ulong y2_at, long band BIASES) {
    long group = get_group_id(0), one = (n.x + band - 1) / band;
    long two = one + (n.y + band - 1) / band;
    bool is_first = group < one, is_second = !is_first && group < two;
    Packed w = PICK(w0 + w0_at, w1 + w1_at, w2 + w2_at);
    long first = (group - PICK(0, one, two)) * band;
    long end = min(first + band, PICK(n.x, n.y, n.z));
    global float *y = FLOATS_AT(y);
    rows_times(w, PICK(stride.x, stride.y, stride.z), first, end, x, scales, sums, k, y);
#ifdef BIASED
    add_bias(y, FLOATS_AT(b), FLOATS_AT(z), first, end);
#endif
}

#ifdef GATED
// Multiplies a band of rows of gate and up, and computes the GLU of both.
static void gated_band(Packed gate, Packed up, long gate_step, long up_step,
                       const global char *x, const global float *scales,
                       const global float *sums, long k, global float *g, global float *u,
                       global float *y, long first, long end, float slope, float limit,
                       float shift) {
    rows_times(gate, gate_step, first, end, x, scales, sums, k, g);
    rows_times(up, up_step, first, end, x, scales, sums, k, u);
    for (; first + 16 <= end; first += 16) {
        float16 v = vload16(0, g + first), w = vload16(0, u + first);
        vstore16(GATED(v, w), 0, y + first);
    }
    for (; first < end; first++) {
        float v = g[first], w = u[first];
        y[first] = GATED(v, w);
    }
}

// QUANTIZE adds the quantization of the GLU: see quantize_row.h. A band is then a multiple
// of a block.
#define TILE 1
#include "quantize_row.h"

kernel void matvec_gated(Packed gate, ulong gate_at, Packed up, ulong up_at, long gate_step,
                         long up_step, const global char *x, const global float *scales,
                         const global float *sums, long k, long n, Bytes g, ulong g_at,
                         Bytes u, ulong u_at, Bytes y, ulong y_at, long band, float slope,
                         float limit, float shift QUANTIZED_OUTPUTS) {
    long first = get_group_id(0) * band, end = min(first + band, n);
    gated_band(gate + gate_at, up + up_at, gate_step, up_step, x, scales, sums, k,
               (global float *)(g + g_at), (global float *)(u + u_at),
               (global float *)(y + y_at), first, end, slope, limit, shift);
#ifdef QUANTIZE
    quantize_blocks((Packed)(y + y_at), n, 0, padded, bytes, byte_scales, sums32, sums16,
                    first / 32, end < n ? end / 32 : padded / 32);
#endif
}
#endif
