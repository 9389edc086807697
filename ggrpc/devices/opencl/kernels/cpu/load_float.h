// Loads 16 elements of a float type TYPE (a ggml_type) as float.

#include "type_numbers.h"
#include "simd.h"

typedef short16 loose_short16 __attribute__((aligned(1)));
typedef ushort16 loose_ushort16 __attribute__((aligned(1)));

#if TYPE == F32
#define BYTES 4
INLINE float16 load16(Packed p) {
    return LOOSE(float16, p);
}
#elif TYPE == F16
#define BYTES 2
INLINE float16 load16(Packed p) {
    return HALVES(LOOSE(short16, p));
}
#elif TYPE == BF16
#define BYTES 2
INLINE float16 load16(Packed p) {
    return AS(float16, CONVERT(uint16, LOOSE(ushort16, p)) << 16);
}
#endif

// Loads the first `count` elements; the rest is 0.
INLINE float16 up_to_sixteen(Packed p, int count) {
    uchar copy[16 * BYTES] = {0};
    for (int i = 0; i < count * BYTES; i++) copy[i] = p[i];
    return load16((Packed)(ulong)copy);
}
