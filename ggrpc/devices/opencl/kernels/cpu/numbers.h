// How the numbers of a type are multiplied with bytes.

#ifdef IS_SIGNED
#define OFFSET SIGNED_OFFSET
#define LARGEST 255
#define PRODUCTS SIGNED_DOT
#else
#define PRODUCTS DOT
#endif

// How many of them Dots have room for, each of two products, of those that share a scale.
#if 8 * 2 * 127 * LARGEST <= DOTS_HOLD && SUB == 32
#define AT_ONCE 8
#elif 4 * 2 * 127 * LARGEST <= DOTS_HOLD
#define AT_ONCE 4
#elif 2 * 2 * 127 * LARGEST <= DOTS_HOLD
#define AT_ONCE 2
#else
#define AT_ONCE 1
#endif

// What nibbles stand for, where that is no plain number.
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
