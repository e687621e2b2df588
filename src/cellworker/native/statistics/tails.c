/* Natural logarithms of the tails of the normal and of Student's distribution, also where a tail is below the smallest
   double. */
#include "cellworker.h"

#include <math.h>

static const double ROOT_HALF = 0.70710678118654752440, LOG_ROOT_PI = 0.57236494292470008707;

/* log of the probability that a normal deviate lies beyond -z or z. */
static double log_normal(double z, double p) {
    const double u = z * ROOT_HALF;
    if (u < 0.5) return log1p(-erf(u));
    if (u < 26.0) return log(p);
    /* erfc(u) = exp(-u^2) / (u sqrt pi) (1 - 1/2u^2 + 3/4u^4 - ...), Abramowitz and Stegun 7.1.23 */
    const double v = 1.0 / (z * z);
    const double series = v * (-1.0 + v * (3.0 + v * (-15.0 + v * (105.0 - v * 945.0))));
    return -0.5 * z * z - log(u) - LOG_ROOT_PI + log1p(series);
}

/* Two-sided p-values of normal scores z >= 0, and their logarithms; NaN gives NaN. */
void cw_normal_tails(const double *z, int64_t n, double *p, double *log_p) {
    for (int64_t i = 0; i < n; i++) {
        p[i] = erfc(z[i] * ROOT_HALF); /* 2 Phi(-z) */
        log_p[i] = isinf(z[i]) ? -INFINITY : log_normal(z[i], p[i]);
    }
}

/* log of gamma(a + 1/2) / gamma(a): above 20 by its series in 1/a, below 20 by gamma(a + 1) = a gamma(a). */
static double log_gamma_ratio(double a) {
    double product = 1.0;
    for (; a < 20.0; a += 1.0) product *= a / (a + 0.5);
    const double v = 1.0 / (a * a);
    const double series =
        (-1.0 / 8.0 + v * (1.0 / 192.0 + v * (-1.0 / 640.0 + v * (17.0 / 14336.0 + v * (-31.0 / 18432.0))))) / a;
    return 0.5 * log(a) + series + log(product);
}

/* The continued fraction of the incomplete beta function (Abramowitz and Stegun 26.5.8), by Lentz's method. */
static double beta_fraction(double a, double b, double x) {
    const double tiny = 1e-300;
    double c = 1.0, d = 1.0 - (a + b) * x / (a + 1.0);
    d = 1.0 / (fabs(d) < tiny ? tiny : d);
    double f = d;
    for (int m = 1; m < 100000; m++) {
        const double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
        const double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
        d = 1.0 + even * d;
        d = 1.0 / (fabs(d) < tiny ? tiny : d);
        c = 1.0 + even / c;
        c = fabs(c) < tiny ? tiny : c;
        f *= d * c;
        d = 1.0 + odd * d;
        d = 1.0 / (fabs(d) < tiny ? tiny : d);
        c = 1.0 + odd / c;
        c = fabs(c) < tiny ? tiny : c;
        f *= d * c;
        if (fabs(d * c - 1.0) < 1e-16) break;
    }
    return f;
}

/* P(|T| > t) = I_x(df/2, 1/2) with x = df / (df + t^2), the regularised incomplete beta function. */
static double log_student(double t, double df) {
    if (isnan(t) || isnan(df)) return NAN;
    if (t == 0.0) return 0.0;
    if (isinf(t)) return -INFINITY;
    if (isinf(df)) return log_normal(t, erfc(t * ROOT_HALF));
    const double a = 0.5 * df, ratio = t / df * t;
    /* t^2 may overflow; only its logarithm is needed. */
    const double log_x = ratio < 1e300 ? -log1p(ratio) : log(df) - 2.0 * log(t);
    const double x = ratio < 1e300 ? 1.0 / (1.0 + ratio) : 0.0, y = ratio < 1e300 ? ratio / (1.0 + ratio) : 1.0;
    const double log_front = a * log_x + 0.5 * log(y) + log_gamma_ratio(a) - LOG_ROOT_PI; /* x^a y^b / B(a, 1/2) */
    if (x < (a + 1.0) / (a + 2.5)) return log_front - log(a) + log(beta_fraction(a, 0.5, x));
    return log1p(-exp(log_front) * beta_fraction(0.5, a, y) / 0.5);
}

/* Logarithms of the two-sided p-values of t >= 0 with `df` > 0 degrees of freedom each. */
void cw_student_log_tails(const double *t, const double *df, int64_t n, double *log_p) {
    for (int64_t i = 0; i < n; i++) log_p[i] = log_student(t[i], df[i]);
}
