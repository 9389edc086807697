// The rows of b that are multiplied with one matrix of a: b has r2 and r3 times as many
// matrices in its outer dimensions.

// The addresses of TILE rows of b, from number `first` on, and of their products. Rows past
// the end repeat the last one.
static void rows_from(long first, long count, long r2, Packed b, long4 b_ne, long4 b_nb,
                      Packed *x, global char *y, long4 y_nb, global float **out) {
    for (int t = 0; t < TILE; t++) {
        long at = min(first + t, count - 1);
        long j1 = at % b_ne.y, j2 = at / b_ne.y % r2, j3 = at / (b_ne.y * r2);
        x[t] = b + j1 * b_nb.y + j2 * b_nb.z + j3 * b_nb.w;
        out[t] = (global float *)(y + j1 * y_nb.y + j2 * y_nb.z + j3 * y_nb.w);
    }
}
