// Rows of a quantized type TYPE (a ggml_type), in steps of 128 or 256 elements.

#include "type_numbers.h"
#include "simd.h"

// The order of unpacked elements: as in the row; the first halves of all blocks of 32,
// then the second halves; or the even blocks of 32, then the odd blocks.
#define NATURAL 0
#define HALVED 1
#define ALTERNATE 2

#if TYPE == Q2_K || TYPE == Q3_K || TYPE == Q4_K || TYPE == Q5_K || TYPE == Q6_K || \
    TYPE == IQ4_XS
#include "blocks256.h"
#else
#include "blocks32.h"
#endif

#define SUBS (STEP / SUB)

// Copies the elements past the last whole step and pads them with zeros to a step.
INLINE Packed last_step(Packed row, long k, uchar *copy) {
    int bytes = STEP_BYTES / (STEP / 32) * (k % STEP / 32);
    Packed from = row + k / STEP * STEP_BYTES;
    for (int i = 0; i < STEP_BYTES; i++) copy[i] = i < bytes ? from[i] : 0;
    return (Packed)(ulong)copy;
}
