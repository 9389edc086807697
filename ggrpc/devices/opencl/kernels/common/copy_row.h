// Copies a row FROM one type TO another.

#include "kv_cache.h"

#ifdef PACKS
#include "packing.h"

// x is F32, y has blocks of 32 elements.
static void copy_row(Bytes x, Bytes y, long n, long x_step, long y_step) {
    for EACH(i, n / 32) OF(pack, TO)((Floats)x + 32 * i, y + i * y_step);
}
#elif defined UNPACKS
static void copy_row(Bytes x, Bytes y, long n, long x_step, long y_step) {
    for EACH(i, n / 16) vstore16(SIXTEEN(FROM, x, i), i, (Floats)y);
}
#else
static void copy_row(Bytes x, Bytes y, long n, long x_step, long y_step) {
    if (x_step == SIZE(FROM) && y_step == SIZE(TO)) {
        for EACH_16(i, n) STORE16(TO, LOAD16(FROM, x + i * x_step), y + i * y_step);
        for EACH_LAST(i, n) STORE(TO, LOAD(FROM, x + i * x_step), y + i * y_step);
    } else {
        for EACH(i, n) STORE(TO, LOAD(FROM, x + i * x_step), y + i * y_step);
    }
}
#endif
