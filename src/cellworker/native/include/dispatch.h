/* The instructions that the processor has. A library holds its hot code in two or three versions. Every version does
   the same steps on every number, so results are the same bits on all processors. With CW_NARROW there is only the
   plain version, which tests compare with the others. */
#ifndef CW_DISPATCH_H
#define CW_DISPATCH_H

#include <stdint.h>

#define INLINE static inline __attribute__((always_inline)) /* inlined into each version of the hot code */

#if defined(__x86_64__) && defined(__GNUC__) && !defined(CW_NARROW)
#include <cpuid.h>

#define CW_AVX2 __attribute__((target("avx2")))
#define CW_AVX512 \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi2,avx512vpopcntdq,bmi,bmi2,popcnt")))

/* Not by __builtin_cpu_supports: it is in the compiler's runtime, and zig's runtime brings functions of the C library
   along, which differ in the last bit (c_library.h). */
static inline int cw_saves(uint32_t states) { /* whether the system saves these registers */
    uint32_t a, b, c, d, state, upper;
    if (!__get_cpuid_count(1, 0, &a, &b, &c, &d) || !(c >> 27 & 1)) return 0; /* OS uses XSAVE */
    __asm__("xgetbv" : "=a"(state), "=d"(upper) : "c"(0));
    return (state & states) == states;
}

static inline int cw_ask_for_avx2(void) {
    uint32_t a, b, c, d;
    return cw_saves(0x6) && __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b >> 5 & 1);
}

static inline int cw_ask_for_avx512(void) {
    uint32_t a, b, c, d;
    if (!cw_saves(0xE6) || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) return 0;            /* all of the 512-bit ones */
    const uint32_t basic = 1u << 3 | 1u << 8 | 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31; /* BMI, BMI2, F, DQ, BW, VL */
    const uint32_t further = 1u << 6 | 1u << 14;                                          /* VBMI2, VPOPCNTDQ */
    return (b & basic) == basic && (c & further) == further;
}

/* Asked once: CPUID is slow in a virtual machine. */
static inline int cw_has_avx2(void) {
    static _Atomic int known = -1;
    if (known < 0) known = cw_ask_for_avx2();
    return known;
}

static inline int cw_has_avx512(void) {
    static _Atomic int known = -1;
    if (known < 0) known = cw_ask_for_avx512();
    return known;
}
#else
static inline int cw_has_avx2(void) { return 0; }

static inline int cw_has_avx512(void) { return 0; }
#endif

#endif
