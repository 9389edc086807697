// How the unpacked values of a type are multiplied with int8.

#ifdef IS_SIGNED
#define OFFSET SIGNED_OFFSET
#define LARGEST 255
#define PRODUCTS SIGNED_DOT
#else
#define PRODUCTS DOT
#endif

// The number of products, of two lanes each, with the same scale that Dots can hold.
#if 8 * 2 * 127 * LARGEST <= DOTS_HOLD && SUB == 32
#define AT_ONCE 8
#elif 4 * 2 * 127 * LARGEST <= DOTS_HOLD
#define AT_ONCE 4
#elif 2 * 2 * 127 * LARGEST <= DOTS_HOLD
#define AT_ONCE 2
#else
#define AT_ONCE 1
#endif

// The values of nibbles, for types with a table.
#define IN_TABLE(n) ((uchar)((n) + OFFSET))
#if TYPE == IQ4_NL || TYPE == IQ4_XS
constant uchar table[16] __attribute__((aligned(16))) = {
    IN_TABLE(-127), IN_TABLE(-104), IN_TABLE(-83), IN_TABLE(-65),
    IN_TABLE(-49),  IN_TABLE(-35),  IN_TABLE(-22), IN_TABLE(-10),
    IN_TABLE(1),    IN_TABLE(13),   IN_TABLE(25),  IN_TABLE(38),
    IN_TABLE(53),   IN_TABLE(69),   IN_TABLE(89),  IN_TABLE(113)};
#elif TYPE == MXFP4
constant uchar table[16] __attribute__((aligned(16))) = {
    IN_TABLE(0),  IN_TABLE(1),  IN_TABLE(2),  IN_TABLE(3),
    IN_TABLE(4),  IN_TABLE(6),  IN_TABLE(8),  IN_TABLE(12),
    IN_TABLE(0),  IN_TABLE(-1), IN_TABLE(-2), IN_TABLE(-3),
    IN_TABLE(-4), IN_TABLE(-6), IN_TABLE(-8), IN_TABLE(-12)};
#endif
