/* For clang with glibc: functions of the C library by their versions. Every file is compiled after this one
   (hatch_build.py). zig's runtime defines functions of the same names, which differ in the last bit, and a linker
   prefers them as soon as a file needs any other part of that runtime. They have no versions, so they cannot take the
   place of these. The versions are the first that the platform had: all later ones differ in how they report errors. */
#if defined(__clang__) && defined(__linux__)
#if __has_include(<gnu/libc-version.h>) /* glibc; a header that says so would come before what files define for it */
#if defined(__x86_64__)
#define CW_FIRST "GLIBC_2.2.5"
#define CW_MEMCPY "GLIBC_2.14"
#elif defined(__aarch64__)
#define CW_FIRST "GLIBC_2.17"
#define CW_MEMCPY "GLIBC_2.17"
#endif
#endif
#endif

#ifdef CW_FIRST
#define CW_VERSION(name, version) __asm__(".symver " #name "," #name "@" version)
CW_VERSION(exp, CW_FIRST);
CW_VERSION(log, CW_FIRST);
CW_VERSION(log2, CW_FIRST);
CW_VERSION(log10, CW_FIRST);
CW_VERSION(log1p, CW_FIRST);
CW_VERSION(expm1, CW_FIRST);
CW_VERSION(pow, CW_FIRST);
CW_VERSION(erf, CW_FIRST);
CW_VERSION(erfc, CW_FIRST);
CW_VERSION(floor, CW_FIRST);
CW_VERSION(frexp, CW_FIRST);
CW_VERSION(memcpy, CW_MEMCPY);
CW_VERSION(memmove, CW_FIRST);
CW_VERSION(memset, CW_FIRST);
#endif
