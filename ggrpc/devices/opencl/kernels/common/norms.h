// The parts of norms of F32 rows with contiguous elements.

static float sum_of_squares(Floats x, float mean, long n, local float *each) {
    float16 wide = 0;
    float one = 0;
    for EACH_16(i, n) {
        float16 v = vload16(0, x + i) - mean;
        wide += v * v;
    }
    for EACH_LAST(i, n) one += (x[i] - mean) * (x[i] - mean);
    return group_sum(one + sum_of_16(wide), each);
}

static void scale_row(Floats x, Floats y, float mean, float scale, long n) {
    for EACH_16(i, n) vstore16((vload16(0, x + i) - mean) * scale, 0, y + i);
    for EACH_LAST(i, n) y[i] = (x[i] - mean) * scale;
}

static void normalize_and_weight(Floats x, Floats y, Floats w, Floats z, float scale,
                                 long n) {
    for EACH_16(i, n) {
        float16 v = vload16(0, x + i) * scale;
        float16 weighted = v * vload16(0, w + i);
        vstore16(v, 0, y + i);
        vstore16(weighted, 0, z + i);
    }
    for EACH_LAST(i, n) {
        float v = x[i] * scale;
        float weighted = v * w[i];
        y[i] = v;
        z[i] = weighted;
    }
}

static void add_rows(Floats a, Floats b, Floats x, long n) {
    for EACH_16(i, n) vstore16(vload16(0, a + i) + vload16(0, b + i), 0, x + i);
    for EACH_LAST(i, n) x[i] = a[i] + b[i];
}
