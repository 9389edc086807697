// Clang's builtins for x86, for compilers that go by way of SPIR, as Intel's does. Their
// front end knows no processor and lacks them, but makes a function that has the name of
// an intrinsic of LLVM that intrinsic. A wrong type would abort the process, so
// int8_dot.py tries them in another one first.

#pragma OPENCL EXTENSION cl_khr_fp16 : enable

#define INTRINSIC(name) __attribute__((const)) __asm("llvm.x86." name)

typedef half half16 __attribute__((ext_vector_type(16)));

int16 __builtin_ia32_vpdpbusd512(int16, char64, char64) INTRINSIC("avx512.vpdpbusd.512");
char64 __builtin_ia32_pshufb512(char64, char64) INTRINSIC("avx512.pshuf.b.512");

short16 __builtin_ia32_pmaddubsw256(char32, char32) INTRINSIC("avx2.pmadd.ub.sw");
int8 __builtin_ia32_pmaddwd256(short16, short16) INTRINSIC("avx2.pmadd.wd");
char32 __builtin_ia32_psignb256(char32, char32) INTRINSIC("avx2.psign.b");
char32 __builtin_ia32_pshufb256(char32, char32) INTRINSIC("avx2.pshuf.b");

// The compiler converts half floats with one instruction where the processor has it.
#define HALVES(h) __builtin_convertvector(__builtin_astype(h, half16), float16)
