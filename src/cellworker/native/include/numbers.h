/* Mathematical functions that give the same bits on every machine: our own sums and products, no library's. */
#ifndef CW_NUMBERS_H
#define CW_NUMBERS_H

#include <math.h>
#include <stdint.h>

/* (e^r - 1 - r) / r^2 for small r, by its series from the term r^10 / 10! down; `above` is 1 / 10! plus the
   contribution of higher terms. */
static inline __attribute__((always_inline)) double exponential_rest(double above, double r) {
    double p = above;
    p = p * r + 1.0 / 362880.0;
    p = p * r + 1.0 / 40320.0;
    p = p * r + 1.0 / 5040.0;
    p = p * r + 1.0 / 720.0;
    p = p * r + 1.0 / 120.0;
    p = p * r + 1.0 / 24.0;
    p = p * r + 1.0 / 6.0;
    return p * r + 0.5;
}

/* The same from the term r^13 / 13! down. For |r| < 0.35, doubles cannot tell this from the whole series. */
static inline __attribute__((always_inline)) double exponential_rest_13(double r) {
    double p = 1.0 / 6227020800.0;
    p = p * r + 1.0 / 479001600.0;
    p = p * r + 1.0 / 39916800.0;
    return exponential_rest(p * r + 1.0 / 3628800.0, r);
}

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
