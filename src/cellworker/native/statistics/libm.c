/* The C library's functions over arrays: NumPy's own differ in the last bit on some machines. */
#include "cellworker.h"

#include <math.h>

enum { LOG2, LOG, EXP, LOG10 };

static double apply(int32_t which, double x) {
    switch (which) {
    case LOG2: return log2(x);
    case LOG: return log(x);
    case EXP: return exp(x);
    case LOG10: return log10(x);
    default: return pow(10.0, x);
    }
}

EXPORT void cw_libm(int32_t which, const double *x, int64_t n, double *out) {
    for (int64_t i = 0; i < n; i++) out[i] = apply(which, x[i]);
}
