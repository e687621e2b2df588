/* Sums of expression per class of cells and gene. */
#include "cellworker.h"

#include <math.h>
#include <string.h>

#include "dispatch.h"
#include "numbers.h"
#include "outside.h"

#define FORTY 0x42200000u /* 40.0f */

/* expm1 of -40 to 40 to the last digit: 2^n (1 + q) - 1, where q = expm1(x - n log 2) by its series. Compilers turn the
 * steps into vector instructions, and they give the same bits on every machine. */
INLINE double exp_less_one(double x) {
    const double whole = 6755399441055744.0; /* 1.5 * 2^52: adding it rounds to a whole number */
    const double near = x * 1.44269504088896340736 + whole, n = near - whole;
    const double r = (x - n * 0.693147180369123816490) - n * 1.90821492927058770002e-10;
    const double q = exponential_rest_13(r) * r * r + r;
    uint64_t bits;
    memcpy(&bits, &near, sizeof bits);
    bits = (bits + 1023) << 52;
    double scale; /* 2^n */
    memcpy(&scale, &bits, sizeof scale);
    return scale * q + (scale - 1.0);
}

INLINE void exps_less_one(const float *values, int64_t n, double *out) {
    for (int64_t i = 0; i < n; i++) out[i] = exp_less_one((double)values[i]);
}

static void exps(const float *values, int64_t n, double *out) { exps_less_one(values, n, out); }
#ifdef CW_AVX512
CW_AVX512 static void exps_lanes(const float *values, int64_t n, double *out) { exps_less_one(values, n, out); }
#else
#define exps_lanes exps
#endif

/* Sums of expm1(value) per class and gene, for means on the scale of counts. Returns 1 at a cell beyond n_cells. */
int32_t cw_expm1_sums(const int64_t *indptr, const int32_t *cells, const float *values, const int64_t *genes,
                      int64_t n_genes, const int16_t *code, int64_t n_cells, int32_t n_classes, double *sums,
                      int64_t *positive) {
    enum { SOME = 256 };
    double level[SOME];
    const int lanes = cw_has_avx512();
    for (int64_t i = 0; i < n_genes; i++) {
        double *s = sums + i * n_classes;
        int64_t *p = positive + i * n_classes;
        const int64_t end = indptr[genes[i] + 1];
        for (int64_t k = indptr[genes[i]]; k < end; k += SOME) {
            const int64_t n = end - k > SOME ? SOME : end - k;
            if (any_outside(cells + k, values + k, n, (uint32_t)n_cells - 1) >> 31) return 1;
            uint32_t large = 0;
            for (int64_t j = 0; j < n; j++) {
                uint32_t bits;
                memcpy(&bits, values + k + j, sizeof bits);
                large |= FORTY - (bits & 0x7FFFFFFFu);
            }
            if (large >> 31) { /* too large for the logarithm of a count */
                for (int64_t j = 0; j < n; j++) level[j] = expm1((double)values[k + j]);
            } else {
                (lanes ? exps_lanes : exps)(values + k, n, level);
            }
            for (int64_t j = 0; j < n; j++) {
                const int32_t c = code[cells[k + j]];
                if (c >= 0) {
                    s[c] += level[j];
                    p[c] += values[k + j] > 0.0f;
                }
            }
        }
    }
    return 0;
}

/* Raw counts summed per class and gene, over the cells of the classes only. Gene numbers have `width` bytes, 2 or 4.
 * Returns 1 at a gene beyond n_genes. */
#define SUM_ROWS(ID)                                                      \
    for (int64_t i = 0; i < n_rows; i++) {                                \
        double *s = sums + (int64_t)code[i] * n_genes;                    \
        for (int64_t k = indptr[rows[i]]; k < indptr[rows[i] + 1]; k++) { \
            const uint32_t gene = (uint32_t)((const ID *)genes)[k];       \
            if (gene >= n_genes) return 1;                                \
            s[gene] += (double)values[k];                                 \
        }                                                                 \
    }
#define GROUP_SUMS(NAME, TYPE)                                                                                     \
    int32_t NAME(const int64_t *indptr, const void *genes, int32_t width, const TYPE *values, const int64_t *rows, \
                 int64_t n_rows, const int32_t *code, int64_t n_genes, double *sums) {                             \
        if (width == 2) {                                                                                          \
            SUM_ROWS(uint16_t)                                                                                     \
        } else {                                                                                                   \
            SUM_ROWS(int32_t)                                                                                      \
        }                                                                                                          \
        return 0;                                                                                                  \
    }
GROUP_SUMS(cw_group_sums_u8, uint8_t)
GROUP_SUMS(cw_group_sums_u16, uint16_t)
GROUP_SUMS(cw_group_sums_u32, uint32_t)
GROUP_SUMS(cw_group_sums_f32, float)
GROUP_SUMS(cw_group_sums_f64, double)
GROUP_SUMS(cw_group_sums_i64, int64_t)
