// Transposes 16 vectors of 16 elements, v[i][j] to v[j][i], in four rounds of exchanges.

INLINE void transpose(int16 *v) {
#pragma unroll
    for (int i = 0; i < 16; i += 2) {
        int16 a = v[i], b = v[i + 1];
        v[i] = SHUFFLE(a, b, 0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30);
        v[i + 1] = SHUFFLE(a, b, 1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31);
    }
#pragma unroll
    for (int n = 0; n < 8; n++) {
        int i = n / 2 * 4 + n % 2;
        int16 a = v[i], b = v[i + 2];
        v[i] = SHUFFLE(a, b, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29);
        v[i + 2] = SHUFFLE(a, b, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31);
    }
#pragma unroll
    for (int n = 0; n < 8; n++) {
        int i = n / 4 * 8 + n % 4;
        int16 a = v[i], b = v[i + 4];
        v[i] = SHUFFLE(a, b, 0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27);
        v[i + 4] = SHUFFLE(a, b, 4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31);
    }
#pragma unroll
    for (int i = 0; i < 8; i++) {
        int16 a = v[i], b = v[i + 8];
        v[i] = SHUFFLE(a, b, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23);
        v[i + 8] = SHUFFLE(a, b, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
    }
}
