// Loads and stores one or 16 elements of a float type: LOAD(F16, p), STORE16(F32, v, p).

#define SIZE_F32 4
#define SIZE_F16 2
#define SIZE_BF16 2
#define LOAD_F32(p) (*(global const float *)(p))
#define LOAD_F16(p) vload_half(0, (global const half *)(p))
#define LOAD_BF16(p) as_float((uint)*(global const ushort *)(p) << 16)
#define LOAD16_F32(p) vload16(0, (global const float *)(p))
#define LOAD16_F16(p) vload_half16(0, (global const half *)(p))
#define LOAD16_BF16(p) \
    as_float16(convert_uint16(vload16(0, (global const ushort *)(p))) << 16)
#define STORE_F32(v, p) *(global float *)(p) = (v)
#define STORE_F16(v, p) vstore_half_rte((v), 0, (global half *)(p))
#define STORE_BF16(v, p) *(global ushort *)(p) = bf16_of(v)
#define STORE16_F32(v, p) vstore16((v), 0, (global float *)(p))
#define STORE16_F16(v, p) vstore_half16_rte((v), 0, (global half *)(p))
#define STORE16_BF16(v, p) vstore16(bf16s_of(v), 0, (global ushort *)(p))

#define OF_(name, type) name##_##type
#define OF(name, type) OF_(name, type)
#define SIZE(type) OF(SIZE, type)
#define LOAD(type, p) OF(LOAD, type)(p)
#define LOAD16(type, p) OF(LOAD16, type)(p)
#define STORE(type, v, p) OF(STORE, type)(v, p)
#define STORE16(type, v, p) OF(STORE16, type)(v, p)

// The upper half of a float, rounded to nearest even. NaN becomes a quiet NaN.
static inline ushort bf16_of(float v) {
    uint bits = as_uint(v);
    uint rounded = isnan(v) ? bits | 0x400000 : bits + 0x7fff + (bits >> 16 & 1);
    return rounded >> 16;
}

static inline ushort16 bf16s_of(float16 v) {
    uint16 bits = as_uint16(v);
    uint16 rounded = bits + 0x7fff + (bits >> 16 & 1);
    return convert_ushort16(select(rounded, bits | 0x400000, isnan(v)) >> 16);
}
