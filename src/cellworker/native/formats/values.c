/* The facts about the values of sparse rows that tell counts, logarithms and scaled values apart. */
#include "cellworker.h"
#include "numbers.h"

#include <math.h>
#include <string.h>

#include "dispatch.h"

enum { SOME = 256, TRUSTED = 1000 };

struct ValueFacts {
    int64_t nonzero, nan, infinite, negative, whole;
    int64_t decimal_values, whole_expm1, whole_squares, above, multiples, expm1_multiples;
    double smallest, largest;
};

static const double MAX_EXPONENT = 700.0;

/* exp to 1e-13 for |x| <= MAX_EXPONENT: only arithmetic, no branch, so that the compiler can vectorise it. */
static inline __attribute__((always_inline)) double exp_in_range(double x) {
    const double shift = 6755399441055744.0; /* 1.5 * 2^52 rounds to a whole number */
    const double t = x * 1.4426950408889634 + shift;
    const double k = t - shift;
    const double r = (x - k * 0.693147180369123816490) - k * 1.90821492927058770002e-10;
    double p = (exponential_rest(1.0 / 3628800.0, r) * r + 1.0) * r + 1.0;
    int64_t bits, power;
    memcpy(&power, &t, sizeof power);
    memcpy(&bits, &p, sizeof bits);
    bits += (int64_t)((uint64_t)power << 52);
    memcpy(&p, &bits, sizeof p);
    return p;
}

/* The same for any x, clamped to the range. */
static inline __attribute__((always_inline)) double quick_exp(double x) {
    return exp_in_range(x < -MAX_EXPONENT ? -MAX_EXPONENT : x > MAX_EXPONENT ? MAX_EXPONENT : x);
}

static inline __attribute__((always_inline)) double off_whole(
    double x) { /* distance to the nearest whole number, for |x| below 2^51 */
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

/* NaN and infinite values count as 0. The bits go through an array: the compiler vectorises both loops, but not one. */
static inline __attribute__((always_inline)) void finite_only(const float *values, int64_t n, double *out) {
    int32_t bits[SOME];
    float finite[SOME];
    memcpy(bits, values, (size_t)n * sizeof *bits);
    for (int64_t j = 0; j < n; j++) bits[j] &= -((bits[j] & 0x7FFFFFFF) < 0x7F800000);
    memcpy(finite, bits, (size_t)n * sizeof *bits);
    for (int64_t j = 0; j < n; j++) out[j] = (double)finite[j];
}

/* The float that has this place in the order of all floats. */
static inline float of_order(int32_t order) {
    const int32_t bits = order ^ ((order >> 31) & 0x7FFFFFFF);
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* Counts values that are whole after an inverse, or are a multiple of the smallest value of the row. */
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
            facts->expm1_multiples +=
                (ratio > 1.5) & (ratio < TRUSTED) & (level_ratio < TRUSTED) & (off_whole(level_ratio) < 0.01);
        }
    }
}

static inline __attribute__((always_inline)) void look(const int64_t *indptr, int64_t start, int64_t stop,
                                                       const float *values, double scale, int32_t closely, double *sums,
                                                       double *units, double *level_sums, ValueFacts *out) {
    ValueFacts facts = {0};
    double value[SOME];
    int32_t smallest = INT32_MAX, largest = INT32_MIN;
    for (int64_t row = start; row < stop; row++) {
        const float *v = values + indptr[row];
        const int64_t n = indptr[row + 1] - indptr[row], at = row - start;
        int64_t nonzero = 0, strange = 0, whole = 0;
        int32_t row_low = INT32_MAX, row_high = INT32_MIN, row_next = INT32_MAX;
        sums[at] = 0.0;
        for (int64_t k = 0; k < n; k += SOME) {
            const int64_t m = n - k < SOME ? n - k : SOME;
            int32_t here = 0, nan = 0, infinite = 0, negative = 0, exact = 0;
            int32_t low = INT32_MAX, high = INT32_MIN, next = INT32_MAX;
            /* Floats as integers of the same order: the compiler vectorises comparisons of integers, not of floats.
             */
            for (int64_t j = 0; j < m; j++) {
                int32_t bits;
                memcpy(&bits, v + k + j, sizeof bits);
                const int32_t magnitude = bits & 0x7FFFFFFF, known = magnitude < 0x7F800000;
                const int32_t masked = bits & -known, order = masked ^ ((masked >> 31) & 0x7FFFFFFF);
                here += magnitude != 0;
                nan += magnitude > 0x7F800000;
                infinite += magnitude == 0x7F800000;
                negative += order < -1;                                          /* -1 is -0.0 */
                const int32_t above = (((order - 1) >> 31) | order) & INT32_MAX; /* INT32_MAX for 0 and less */
                low = order < low ? order : low;
                high = order > high ? order : high;
                next = above < next ? above : next;
            }
            for (int64_t j = 0; j < m; j++) {
                const float size = fabsf(v[k + j]);
                exact += (size != 0.0f) & (size < INFINITY) &
                         ((size >= 8388608.0f) | ((size + 8388608.0f) - 8388608.0f == size));
            }
            finite_only(v + k, m, value);
            row_low = low < row_low ? low : row_low;
            row_high = high > row_high ? high : row_high;
            row_next = next < row_next ? next : row_next;
            sums[at] += added(value, m);
            nonzero += here;
            whole += exact;
            strange += nan + infinite;
            facts.nan += nan;
            facts.infinite += infinite;
            facts.negative += negative;
        }
        units[at] = row_next < INT32_MAX ? (double)of_order(row_next) : 0.0;
        level_sums[at] = NAN;
        if ((nonzero - strange - whole) * 10 > nonzero) {
            const double reach = scale * fmax(fabs((double)of_order(row_low)), fabs((double)of_order(row_high)));
            double total = 0.0;
            for (int64_t k = 0; k < n; k += SOME) {
                const int64_t m = n - k < SOME ? n - k : SOME;
                finite_only(v + k, m, value);
                if (reach <= MAX_EXPONENT)
                    for (int64_t j = 0; j < m; j++) value[j] = exp_in_range(scale * value[j]) - 1.0;
                else
                    for (int64_t j = 0; j < m; j++) value[j] = quick_exp(scale * value[j]) - 1.0;
                total += added(value, m);
            }
            level_sums[at] = total;
            if (closely) look_closer(v, n, scale, units[at], &facts);
        }
        facts.nonzero += nonzero;
        facts.whole += whole;
        smallest = row_low < smallest ? row_low : smallest;
        largest = row_high > largest ? row_high : largest;
    }
    facts.smallest = smallest < INT32_MAX ? (double)of_order(smallest) : INFINITY;
    facts.largest = largest > INT32_MIN ? (double)of_order(largest) : -INFINITY;
    *out = facts;
}

typedef void Look(const int64_t *, int64_t, int64_t, const float *, double, int32_t, double *, double *, double *,
                  ValueFacts *);

static void look_anywhere(const int64_t *indptr, int64_t start, int64_t stop, const float *values, double scale,
                          int32_t closely, double *sums, double *units, double *level_sums, ValueFacts *out) {
    look(indptr, start, stop, values, scale, closely, sums, units, level_sums, out);
}

#ifdef CW_AVX2
/* The same arithmetic, four or eight doubles at a time. */
CW_AVX2 static void look_avx2(const int64_t *indptr, int64_t start, int64_t stop, const float *values, double scale,
                              int32_t closely, double *sums, double *units, double *level_sums, ValueFacts *out) {
    look(indptr, start, stop, values, scale, closely, sums, units, level_sums, out);
}

CW_AVX512 static void look_avx512(const int64_t *indptr, int64_t start, int64_t stop, const float *values, double scale,
                                  int32_t closely, double *sums, double *units, double *level_sums, ValueFacts *out) {
    look(indptr, start, stop, values, scale, closely, sums, units, level_sums, out);
}
#endif

/* Inspect rows [start, stop). Writes, from index 0, each row's sum, its smallest value above 0 (0 where there is none)
   and the sum of exp(scale * value) - 1, which is NaN for a row with less than a tenth of decimals. The slower counts
   are made only where `closely` is not 0. */
void cw_row_values(const int64_t *indptr, int64_t start, int64_t stop, const float *values, double scale,
                   int32_t closely, double *sums, double *units, double *level_sums, ValueFacts *out) {
    Look *run = look_anywhere;
#ifdef CW_AVX2
    if (cw_has_avx2()) run = look_avx2;
    if (cw_has_avx512()) run = look_avx512;
#endif
    run(indptr, start, stop, values, scale, closely, sums, units, level_sums, out);
}

/* The sum of each row, its number of values other than 0, and its sum over the chosen columns (those not 0 in
   `chosen`). The values are added one after the other, as NumPy's bincount adds them. */
void cw_row_sums(const int64_t *bounds, int64_t n_rows, const double *values, const int32_t *columns,
                 const uint8_t *chosen, double *sums, double *nonzero, double *chosen_sums) {
    for (int64_t row = 0; row < n_rows; row++) {
        double sum = 0.0, part = 0.0;
        int64_t count = 0;
        for (int64_t j = bounds[row]; j < bounds[row + 1]; j++) {
            const double value = values[j];
            sum += value;
            part += chosen[columns[j]] ? value : 0.0;
            count += value != 0.0;
        }
        sums[row] = sum;
        nonzero[row] = (double)count;
        chosen_sums[row] = part;
    }
}
