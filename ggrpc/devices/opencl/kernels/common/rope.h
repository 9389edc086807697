// ROPE of one row.

static void copy(Floats x, Floats y, long first, long end) {
    for (long i = first + get_local_id(0); i < end; i += get_local_size(0)) y[i] = x[i];
}

// A pair is two adjacent elements.
static void rotate_normal(Floats x, Floats y, global const float *cosines,
                            global const float *sines, long pairs) {
    for (long i = 8 * get_local_id(0); i + 8 <= pairs; i += 8 * get_local_size(0)) {
        float16 v = vload16(0, x + 2 * i), rotated;
        float8 c = vload8(0, cosines + i), s = vload8(0, sines + i);
        rotated.even = v.even * c - v.odd * s;
        rotated.odd = v.even * s + v.odd * c;
        vstore16(rotated, 0, y + 2 * i);
    }
    for (long i = (pairs & ~7L) + get_local_id(0); i < pairs; i += get_local_size(0)) {
        float a = x[2 * i], b = x[2 * i + 1];
        y[2 * i] = a * cosines[i] - b * sines[i];
        y[2 * i + 1] = a * sines[i] + b * cosines[i];
    }
}

// A pair is two elements that are `pairs` apart.
static void rotate_neox(Floats x, Floats y, global const float *cosines,
                        global const float *sines, long pairs) {
    for EACH_16(i, pairs) {
        float16 a = vload16(0, x + i), b = vload16(0, x + i + pairs);
        float16 c = vload16(0, cosines + i), s = vload16(0, sines + i);
        vstore16(a * c - b * s, 0, y + i);
        vstore16(a * s + b * c, 0, y + i + pairs);
    }
    for EACH_LAST(i, pairs) {
        float a = x[i], b = x[i + pairs];
        y[i] = a * cosines[i] - b * sines[i];
        y[i + pairs] = a * sines[i] + b * cosines[i];
    }
}

// Rotates one row. The `first` elements are before the pairs, and are copied.
#define ROPE(rotation, x_, x_at, x_nb, y_, y_at, y_nb, at, n)              \
    {                                                                      \
        Floats x = floats_of(x_, x_at, x_nb, at);                          \
        Floats y = floats_of(y_, y_at, y_nb, at);                          \
        global const float *cosines = table + at.z * 2 * pairs;            \
        if (x != y) {                                                      \
            copy(x, y, 0, first);                                          \
            copy(x, y, first + 2 * pairs, n);                              \
        }                                                                  \
        rotation(x + first, y + first, cosines, cosines + pairs, pairs);   \
    }
