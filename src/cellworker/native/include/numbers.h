/* Functions of numbers that give the same bits on every machine: sums and products of our own, no library's. */
#ifndef CW_NUMBERS_H
#define CW_NUMBERS_H

#include <math.h>
#include <stdint.h>

/* ln x for normal x > 0. */
static inline double logarithm(double x) {
    int exponent;
    double m = frexp(x, &exponent);
    if (m < 0.70710678118654752440) {
        m *= 2;
        exponent--;
    }
    const double z = (m - 1) / (m + 1), square = z * z;
    double sum = 0;
    for (int k = 25; k >= 1; k -= 2) sum = sum * square + 1.0 / (double)k;
    return 2 * z * sum + (double)exponent * 0.69314718055994530942;
}

#endif
