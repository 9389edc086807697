// Proves that a driver can build and run what VNNI is used for.

#include "vectors.h"

OUTER void dots_of(Packed w, const global char *x, global int16 *y) {
    *y = DOT((int16)(0), LOAD(uchar64, w), AS(char64, LOAD(uchar64, x)));
}

kernel void dots(Packed w, const global char *x, global int16 *y) {
    dots_of(w, x, y);
}
