// MUL_MAT and MUL_MAT_ID with many rows of b, on GPUs.
//
// A work-group computes a tile of the product: ROWS rows of the matrix by TOKENS rows of b.
// It unpacks DEPTH pieces of each row into local memory, and each of its LOCAL work-items
// multiplies 8 by 8 rows.

#include "dequant_gpu.h"
#include "rows.h"

#define LOCAL (ROWS / 8 * (TOKENS / 8))
#define COLUMNS (16 * DEPTH)
#define W_PITCH (ROWS + 1)
#define X_PITCH (TOKENS + 1)

// Stores a piece to a column, whose elements are `pitch` apart.
static inline void put(float8 a, float8 b, local float *to, int pitch) {
    float v[16];
    vstore8(a, 0, v);
    vstore8(b, 1, v);
    for (int i = 0; i < 16; i++) to[i * pitch] = v[i];
}

static inline void fill_w(Packed w, long stride, int rows, long from, long k,
                          local float *tile) {
    for (int i = get_local_id(0); i < ROWS * DEPTH; i += LOCAL) {
        int row = i / DEPTH, piece = i % DEPTH;
        float8 a = 0, b = 0;
        if (row < rows && 16 * (from + piece) < k)
            unpack_at(w + row * stride, from + piece, k, &a, &b);
        put(a, b, tile + 16 * piece * W_PITCH + row, W_PITCH);
    }
}

static inline void fill_x(Bytes x, const local ulong *at, int tokens, long from, long k,
                          local float *tile) {
    for (int i = get_local_id(0); i < TOKENS * DEPTH; i += LOCAL) {
        int token = i / DEPTH, piece = i % DEPTH;
        float8 a = 0, b = 0;
        if (token < tokens && 16 * (from + piece) < k)
            take_at((Floats)(x + at[token]), from + piece, k, &a, &b);
        put(a, b, tile + 16 * piece * X_PITCH + token, X_PITCH);
    }
}

// y[t] = w x[t], for rows of x and y at the given offsets in bytes.
static inline void multiply(Packed w, long stride, int rows, long k, Bytes x,
                            const local ulong *x_at, Bytes y, const local ulong *y_at,
                            int tokens, local float *w_tile, local float *x_tile) {
    int row = get_local_id(0) % (ROWS / 8) * 8, token = get_local_id(0) / (ROWS / 8) * 8;
    float8 sum[8];
    for (int t = 0; t < 8; t++) sum[t] = 0;
    for (long from = 0; 16 * from < k; from += DEPTH) {
        fill_w(w, stride, rows, from, k, w_tile);
        fill_x(x, x_at, tokens, from, k, x_tile);
        barrier(CLK_LOCAL_MEM_FENCE);
        for (int i = 0; i < COLUMNS; i++) {
            float8 v = vload8(0, w_tile + i * W_PITCH + row);
            for (int t = 0; t < 8; t++) sum[t] += v * x_tile[i * X_PITCH + token + t];
        }
        barrier(CLK_LOCAL_MEM_FENCE);
    }
    for (int t = 0; t < 8 && token + t < tokens; t++) {
        Floats to = (Floats)(y + y_at[token + t]) + row;
        float v[8];
        vstore8(sum[t], 0, v);
        for (int r = 0; r < 8 && row + r < rows; r++) to[r] = v[r];
    }
}

#define TILES                                \
    local float w_tile[COLUMNS * W_PITCH];   \
    local float x_tile[COLUMNS * X_PITCH];   \
    local ulong x_at[TOKENS], y_at[TOKENS];

// Work-groups: tiles of rows of a matrix; tiles of rows of b; matrices.
kernel void matmat(Packed a, ulong a_at, long4 a_ne, long4 a_nb, Bytes b, ulong b_at,
                   long4 b_ne, long4 b_nb, Bytes y, ulong to, long4 y_nb) {
    TILES
    long first = get_group_id(0) * ROWS, token = get_group_id(1) * TOKENS;
    long i2 = get_group_id(2) % a_ne.z, i3 = get_group_id(2) / a_ne.z;
    long r2 = b_ne.z / a_ne.z, r3 = b_ne.w / a_ne.w;
    int rows = (int)min((long)ROWS, a_ne.y - first);
    int tokens = (int)min((long)TOKENS, b_ne.y * r2 * r3 - token);
    for EACH(t, tokens) {
        long n = token + t, j1 = n % b_ne.y;
        long j2 = n / b_ne.y % r2 + i2 * r2, j3 = n / (b_ne.y * r2) + i3 * r3;
        x_at[t] = b_at + j1 * b_nb.y + j2 * b_nb.z + j3 * b_nb.w;
        y_at[t] = to + 4 * first + j1 * y_nb.y + j2 * y_nb.z + j3 * y_nb.w;
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    Packed w = a + a_at + first * a_nb.y + i2 * a_nb.z + i3 * a_nb.w;
    multiply(w, a_nb.y, rows, a_ne.x, b, x_at, y, y_at, tokens, w_tile, x_tile);
}

// y[t, j] = a[ids[t, j]] b[t, j % b_ne.y], by the tiles of gpu_experts.cl. Work-groups:
// tiles of rows of a matrix; tiles of choices.
kernel void matmat_id(Packed a, ulong a_at, long4 a_ne, long4 a_nb, Bytes b, ulong b_at,
                      long4 b_ne, long4 b_nb, Bytes y, ulong to, long4 y_nb, long used,
                      global const int4 *tiles, global const int *pairs) {
    TILES
    int4 tile = tiles[get_group_id(1)];
    int expert = tile.x, tokens = tile.z;
    if (tokens == 0) return;
    long first = get_group_id(0) * ROWS;
    int rows = (int)min((long)ROWS, a_ne.y - first);
    for EACH(t, tokens) {
        long pair = pairs[tile.y + t], j = pair % used, token = pair / used;
        x_at[t] = b_at + j % b_ne.y * b_nb.y + token * b_nb.z;
        y_at[t] = to + 4 * first + j * y_nb.y + token * y_nb.z;
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    Packed w = a + a_at + first * a_nb.y + expert * a_nb.z;
    multiply(w, a_nb.y, rows, a_ne.x, b, x_at, y, y_at, tokens, w_tile, x_tile);
}
