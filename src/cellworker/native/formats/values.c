/* What the values of sparse rows look like: the facts by which counts, logarithms and scaled values are told apart. */
#include "cellworker.h"

#include <math.h>
#include <string.h>

enum { SOME = 256, TRUSTED = 1000 };

struct ValueFacts {
    int64_t nonzero, nan, infinite, negative, whole;
    int64_t decimal_values, whole_expm1, whole_squares, above, multiples, expm1_multiples;
    double smallest, largest;
};

/* exp to 1e-13, arithmetic only, so that the compiler does several at a time. */
static inline __attribute__((always_inline)) double quick_exp(double x) {
    const double shift = 6755399441055744.0; /* 1.5 * 2^52 rounds to a whole number */
    x = x < -700.0 ? -700.0 : x > 700.0 ? 700.0 : x;
    const double t = x * 1.4426950408889634 + shift;
    const double k = t - shift;
    const double r = (x - k * 0.693147180369123816490) - k * 1.90821492927058770002e-10;
    double p = 1.0 / 3628800.0;
    p = p * r + 1.0 / 362880.0;
    p = p * r + 1.0 / 40320.0;
    p = p * r + 1.0 / 5040.0;
    p = p * r + 1.0 / 720.0;
    p = p * r + 1.0 / 120.0;
    p = p * r + 1.0 / 24.0;
    p = p * r + 1.0 / 6.0;
    p = p * r + 0.5;
    p = p * r + 1.0;
    p = p * r + 1.0;
    int64_t bits, power;
    memcpy(&power, &t, sizeof power);
    memcpy(&bits, &p, sizeof bits);
    bits += (int64_t)((uint64_t)power << 52);
    memcpy(&p, &bits, sizeof p);
    return p;
}

static inline __attribute__((always_inline)) double off_whole(double x) { /* distance to the nearest whole number, for |x| below 2^51 */
    const double shift = 6755399441055744.0;
    return fabs(x - ((x + shift) - shift));
}


static inline __attribute__((always_inline)) double added(const double *x, int64_t n) {
    double lanes[8] = {0.0};
    int64_t j = 0;
    for (; j + 7 < n; j += 8)
        for (int i = 0; i < 8; i++) lanes[i] += x[j + i];
    for (; j < n; j++) lanes[0] += x[j];
    return ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) + ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]));
}

/* NaN and infinite values count as 0. */
static inline __attribute__((always_inline)) void finite_only(const float *values, int64_t n, double *out) {
    for (int64_t j = 0; j < n; j++) {
        int32_t bits;
        memcpy(&bits, values + j, sizeof bits);
        bits = (bits & 0x7FFFFFFF) < 0x7F800000 ? bits : 0;
        float kept;
        memcpy(&kept, &bits, sizeof kept);
        out[j] = (double)kept;
    }
}

/* What is whole after an inverse, or is a multiple of the smallest value of the row. */
static void look_closer(const float *values, int64_t n, double scale, double unit, ValueFacts *facts) {
    double value[SOME];
    const double level_unit = quick_exp(scale * unit) - 1.0;
    const double per_unit = unit > 0.0 ? 1.0 / unit : 0.0, per_level = level_unit > 0.0 ? 1.0 / level_unit : 0.0;
    facts->decimal_values += n;
    for (int64_t k = 0; k < n; k += SOME) {
        const int64_t m = n - k < SOME ? n - k : SOME;
        finite_only(values + k, m, value);
        for (int64_t j = 0; j < m; j++) {
            const double v = value[j], square = v * v, ratio = v * per_unit;
            const double level = quick_exp(scale * v) - 1.0, level_ratio = level * per_level;
            facts->whole_squares += (off_whole(square) < 1e-6 * square + 1e-9) & (square < 1e5) & (v != 0.0);
            facts->whole_expm1 += (off_whole(level) < 2e-6 * level + 1e-6) & (level > 0.5) & (level < 1e4);
            facts->above += (ratio > 1.5) & (ratio < TRUSTED);
            facts->multiples += (ratio > 1.5) & (ratio < TRUSTED) & (off_whole(ratio) < 0.01);
            facts->expm1_multiples += (ratio > 1.5) & (ratio < TRUSTED) & (level_ratio < TRUSTED) & (off_whole(level_ratio) < 0.01);
        }
    }
}

static inline __attribute__((always_inline)) void look(const int64_t *indptr, int64_t start, int64_t stop, const float *values,
                                                       double scale, int32_t closely, double *sums, double *units,
                                                       double *level_sums, ValueFacts *out) {
    ValueFacts facts = {0};
    double value[SOME];
    float smallest = INFINITY, largest = -INFINITY;
    for (int64_t row = start; row < stop; row++) {
        const float *v = values + indptr[row];
        const int64_t n = indptr[row + 1] - indptr[row], at = row - start;
        int64_t nonzero = 0, strange = 0, whole = 0;
        float least = INFINITY, most = -INFINITY, unit = INFINITY;
        sums[at] = 0.0;
        for (int64_t k = 0; k < n; k += SOME) {
            const int64_t m = n - k < SOME ? n - k : SOME;
            int32_t here = 0, nan = 0, infinite = 0, negative = 0, exact = 0;
            for (int64_t j = 0; j < m; j++) {
                int32_t bits;
                memcpy(&bits, v + k + j, sizeof bits);
                const int32_t magnitude = bits & 0x7FFFFFFF;
                here += magnitude != 0;
                nan += magnitude > 0x7F800000;
                infinite += magnitude == 0x7F800000;
            }
            for (int64_t j = 0; j < m; j++) {
                const float x = v[k + j], size = fabsf(x);
                const int32_t known = size < INFINITY;
                negative += (x < 0.0f) & known;
                exact += (size != 0.0f) & known & ((size >= 8388608.0f) | ((size + 8388608.0f) - 8388608.0f == size));
            }
            if (nan + infinite) {
                finite_only(v + k, m, value);
                for (int64_t j = 0; j < m; j++) {
                    const float x = (float)value[j], above = x > 0.0f ? x : INFINITY;
                    least = x < least ? x : least;
                    most = x > most ? x : most;
                    unit = above < unit ? above : unit;
                }
            } else {
                for (int64_t j = 0; j < m; j++) value[j] = (double)v[k + j];
                float low[8], high[8], next[8];
                for (int i = 0; i < 8; i++) low[i] = next[i] = INFINITY, high[i] = -INFINITY;
                int64_t j = 0;
                for (; j + 7 < m; j += 8)
                    for (int i = 0; i < 8; i++) {
                        const float x = v[k + j + i], above = x > 0.0f ? x : INFINITY;
                        low[i] = x < low[i] ? x : low[i];
                        high[i] = x > high[i] ? x : high[i];
                        next[i] = above < next[i] ? above : next[i];
                    }
                for (; j < m; j++) {
                    const float x = v[k + j], above = x > 0.0f ? x : INFINITY;
                    low[0] = x < low[0] ? x : low[0];
                    high[0] = x > high[0] ? x : high[0];
                    next[0] = above < next[0] ? above : next[0];
                }
                for (int i = 0; i < 8; i++) {
                    least = low[i] < least ? low[i] : least;
                    most = high[i] > most ? high[i] : most;
                    unit = next[i] < unit ? next[i] : unit;
                }
            }
            sums[at] += added(value, m);
            nonzero += here;
            whole += exact;
            strange += nan + infinite;
            facts.nan += nan;
            facts.infinite += infinite;
            facts.negative += negative;
        }
        units[at] = unit < INFINITY ? (double)unit : 0.0;
        level_sums[at] = NAN;
        if ((nonzero - strange - whole) * 10 > nonzero) {
            double total = 0.0;
            for (int64_t k = 0; k < n; k += SOME) {
                const int64_t m = n - k < SOME ? n - k : SOME;
                finite_only(v + k, m, value);
                for (int64_t j = 0; j < m; j++) value[j] = quick_exp(scale * value[j]) - 1.0;
                total += added(value, m);
            }
            level_sums[at] = total;
            if (closely) look_closer(v, n, scale, units[at], &facts);
        }
        facts.nonzero += nonzero;
        facts.whole += whole;
        smallest = least < smallest ? least : smallest;
        largest = most > largest ? most : largest;
    }
    facts.smallest = (double)smallest;
    facts.largest = (double)largest;
    *out = facts;
}

typedef void Look(const int64_t *, int64_t, int64_t, const float *, double, int32_t, double *, double *, double *, ValueFacts *);

static void look_anywhere(const int64_t *indptr, int64_t start, int64_t stop, const float *values, double scale, int32_t closely,
                          double *sums, double *units, double *level_sums, ValueFacts *out) {
    look(indptr, start, stop, values, scale, closely, sums, units, level_sums, out);
}

#if defined(__x86_64__) && defined(__GNUC__)
/* The same arithmetic, four doubles at a time. */
__attribute__((target("avx2"))) static void look_avx2(const int64_t *indptr, int64_t start, int64_t stop, const float *values,
                                                      double scale, int32_t closely, double *sums, double *units,
                                                      double *level_sums, ValueFacts *out) {
    look(indptr, start, stop, values, scale, closely, sums, units, level_sums, out);
}
#endif

/* Look at rows [start, stop). Writes, from the first entry on, each row's sum, its smallest value above 0 (0 without one)
   and the sum of exp(scale * value) - 1, which is NaN for a row of which less than a tenth are decimals. What takes longer
   is counted where `closely` is not 0. */
void cw_row_values(const int64_t *indptr, int64_t start, int64_t stop, const float *values, double scale, int32_t closely,
                          double *sums, double *units, double *level_sums, ValueFacts *out) {
    Look *run = look_anywhere;
#if defined(__x86_64__) && defined(__GNUC__)
    if (__builtin_cpu_supports("avx2")) run = look_avx2;
#endif
    run(indptr, start, stop, values, scale, closely, sums, units, level_sums, out);
}
