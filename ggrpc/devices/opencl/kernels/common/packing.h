// Packs 32 floats into a block of the quantized type TO, exactly as ggml does.

// Elements are divided by the float32 scale; only the stored scale is rounded to F16.
static inline float inverse(float d) {
    return d != 0 ? 1 / d : 0;
}

// The first element with the largest absolute value.
static inline float furthest(Floats x) {
    float most = 0, found = 0;
    for (int i = 0; i < 32; i++)
        if (fabs(x[i]) > most) {
            most = fabs(x[i]);
            found = x[i];
        }
    return found;
}

static inline void put_nibbles(const int *q, Bytes y) {
    for (int i = 0; i < 16; i++) y[i] = (q[i] & 15) | (q[i + 16] & 15) << 4;
}

static inline void put_fifth_bits(const int *q, Bytes y) {
    uint bits = 0;
    for (int i = 0; i < 32; i++) bits |= (uint)(q[i] >> 4 & 1) << i;
    vstore4(as_char4(bits), 0, y);
}

// Quantizes to 0 ... `last` with a scale; the middle stands for 0.
static inline void centred(Floats x, int last, Bytes y, int *q) {
    int middle = (last + 1) / 2;
    float d = furthest(x) / -middle, by = inverse(d);
    STORE_F16(d, y);
    for (int i = 0; i < 32; i++) q[i] = min(last, (int)(x[i] * by + (middle + 0.5f)));
}

// Quantizes to 0 ... `last` with a scale and a minimum.
static inline void between(Floats x, int last, Bytes y, int *q) {
    float16 a = vload16(0, x), b = vload16(1, x);
    float least = -max_of_16(fmax(-a, -b)), d = (max_of_16(fmax(a, b)) - least) / last;
    float by = inverse(d);
    STORE_F16(d, y);
    STORE_F16(least, y + 2);
    for (int i = 0; i < 32; i++) q[i] = min(last, (int)((x[i] - least) * by + 0.5f));
}

static inline void pack_Q8_0(Floats x, Bytes y) {
    float16 a = vload16(0, x), b = vload16(1, x);
    float largest = max_of_16(fmax(fabs(a), fabs(b)));
    float by = largest > 0 ? 127 / largest : 0;
    STORE_F16(largest / 127, y);
    vstore16(convert_char16_rte(a * by), 0, y + 2);
    vstore16(convert_char16_rte(b * by), 1, y + 2);
}

static inline void pack_Q4_0(Floats x, Bytes y) {
    int q[32];
    centred(x, 15, y, q);
    put_nibbles(q, y + 2);
}

static inline void pack_Q5_0(Floats x, Bytes y) {
    int q[32];
    centred(x, 31, y, q);
    put_fifth_bits(q, y + 2);
    put_nibbles(q, y + 6);
}

static inline void pack_Q4_1(Floats x, Bytes y) {
    int q[32];
    between(x, 15, y, q);
    put_nibbles(q, y + 4);
}

static inline void pack_Q5_1(Floats x, Bytes y) {
    int q[32];
    between(x, 31, y, q);
    put_fifth_bits(q, y + 4);
    put_nibbles(q, y + 8);
}
