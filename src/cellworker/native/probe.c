/* The library's version: a binding that finds another number refuses to run with kernels of another release. */
#include <stdint.h>

__attribute__((visibility("default"))) int32_t cw_abi(void) { return 1; }
