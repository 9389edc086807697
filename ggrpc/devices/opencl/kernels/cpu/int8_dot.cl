// Tests whether a driver can build and run the dot products of int8.

#include "simd.h"

OUTER void dots_of(Packed w, const global char *x, global int16 *y) {
    *y = WHOLE(DOT((Dots)(0), LOOSE(uchar64, w), AS(char64, LOOSE(uchar64, x))));
}

kernel void dots(Packed w, const global char *x, global int16 *y) {
    dots_of(w, x, y);
}
