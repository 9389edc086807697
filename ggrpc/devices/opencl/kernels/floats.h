// One float, and sixteen in a row, of a float type: LOAD(F16, p), STORE16(F32, v, p).

#define SIZE_F32 4
#define SIZE_F16 2
#define LOAD_F32(p) (*(global const float *)(p))
#define LOAD_F16(p) vload_half(0, (global const half *)(p))
#define LOAD16_F32(p) vload16(0, (global const float *)(p))
#define LOAD16_F16(p) vload_half16(0, (global const half *)(p))
#define STORE_F32(v, p) *(global float *)(p) = (v)
#define STORE_F16(v, p) vstore_half_rte((v), 0, (global half *)(p))
#define STORE16_F32(v, p) vstore16((v), 0, (global float *)(p))
#define STORE16_F16(v, p) vstore_half16_rte((v), 0, (global half *)(p))

#define OF_(name, type) name##_##type
#define OF(name, type) OF_(name, type)
#define SIZE(type) OF(SIZE, type)
#define LOAD(type, p) OF(LOAD, type)(p)
#define LOAD16(type, p) OF(LOAD16, type)(p)
#define STORE(type, v, p) OF(STORE, type)(v, p)
#define STORE16(type, v, p) OF(STORE16, type)(v, p)
