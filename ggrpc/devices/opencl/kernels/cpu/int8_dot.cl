// Tests whether a driver can build and run what simd.h takes from a processor.

#include "simd.h"

constant uchar squares[16] __attribute__((aligned(16))) = {
    0, 1, 4, 9, 16, 25, 36, 49, 64, 81, 100, 121, 144, 169, 196, 225};

OUTER void results(Packed w, const global char *x, global int16 *y) {
    uchar64 a = LOOSE(uchar64, w);
    char64 b = AS(char64, LOOSE(uchar64, x));
    uchar64 offset = SIGNED_OFFSET;
    y[0] = WHOLE(DOT((Dots)(0), a, b));
    y[1] = WHOLE(SIGNED_DOT((Dots)(0), a + offset, b)) - WHOLE(DOT((Dots)(0), offset, b));
    y[2] = AS(int16, look_up(squares, low_nibbles(a)));
    y[3] = AS(int16, HALVES(*(const global short16 *)x));
}

kernel void dots(Packed w, const global char *x, global int16 *y) {
    results(w, x, y);
}
