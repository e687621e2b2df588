/* Rank sums, tie terms, sums and detection counts of every gene for every class of cells, from values that are already
 * in order: one linear scan. Integers wherever the result must be exact, so that threads and blocks cannot change it. */
#include <math.h>
#include <stdint.h>

#define EXPORT __attribute__((visibility("default")))

/* Entries of cells outside every class (code -1) are passed over: they belong to no ranking.
 * rank2: twice the rank sum per gene and class, of the stored entries alone (the caller adds the implicit zeros' share).
 * first_rank: labelled cells that rank below the entry. A block of equal values shares twice its average rank,
 * 2 * below + t + 1. Implicit zeros sit between the negative and the positive values. */
EXPORT void cw_rank_scan(const int64_t *indptr, const int32_t *cells, const float *values, int64_t gene_start, int64_t gene_end,
                         const int16_t *code, int32_t n_classes, int64_t n_labelled, int32_t skip_top_block, int64_t *rank2,
                         int64_t *detected, double *sums, double *ties, int64_t *below_zero) {
    for (int64_t g = gene_start; g < gene_end; g++) {
        const int64_t end = indptr[g + 1];
        int64_t *r = rank2 + (g - gene_start) * n_classes;
        int64_t *d = detected + (g - gene_start) * n_classes;
        double *s = sums + (g - gene_start) * n_classes;
        double tie = 0.0, top = 0.0;
        int64_t below = 0, negative = 0, zeros_below = 0, k = indptr[g];
        int crossed = 0; /* the zeros, which lie below the first positive value */
        for (int32_t c = 0; c < n_classes; c++) {
            r[c] = d[c] = 0;
            s[c] = 0.0;
        }
        while (k < end) {
            const int32_t c = code[cells[k]];
            if (c < 0) {
                k++;
                continue;
            }
            const float v = values[k];
            if (!crossed && v > 0.0f) {
                crossed = 1;
                negative = below;
                if (below) { /* rare: count what is still to come, to know how many zeros lie between */
                    int64_t positive = 0;
                    for (int64_t j = k; j < end; j++) positive += code[cells[j]] >= 0;
                    zeros_below = n_labelled - below - positive;
                    below += zeros_below;
                }
            }
            if (k + 1 == end || values[k + 1] != v) { /* alone, or alone among the rest: the common case */
                r[c] += 2 * below + 2;
                d[c]++;
                s[c] += (double)v;
                below++;
                top = 0.0;
                k++;
                continue;
            }
            int64_t stop = k, t = 0;
            while (stop < end && values[stop] == v) {
                t += code[cells[stop]] >= 0;
                stop++;
            }
            const int64_t shared = 2 * below + t + 1;
            for (; k < stop; k++) {
                const int32_t e = code[cells[k]];
                if (e >= 0) {
                    r[e] += shared;
                    d[e]++;
                    s[e] += (double)v;
                }
            }
            top = (double)t * ((double)t * (double)t - 1.0);
            tie += top;
            below += t;
        }
        const int64_t stored = below - zeros_below;
        const double zeros = (double)(n_labelled - stored), zero_block = zeros * (zeros * zeros - 1.0);
        if (!crossed) { /* only negative values, or none: the zeros are the largest */
            negative = below;
            if (!skip_top_block || n_labelled == stored) tie += skip_top_block ? -top : zero_block;
        } else {
            if (negative == 0) /* the zeros lie below every stored value */
                for (int32_t c = 0; c < n_classes; c++) r[c] += 2 * (n_labelled - stored) * d[c];
            tie += zero_block - (skip_top_block ? top : 0.0);
        }
        ties[g - gene_start] = tie;
        below_zero[g - gene_start] = negative;
    }
}

/* Sums of expm1(value) per class and gene, for means on the scale of counts. Returns 1 at a cell beyond n_cells. */
EXPORT int32_t cw_expm1_sums(const int64_t *indptr, const int32_t *cells, const float *values, const int64_t *genes, int64_t n_genes,
                             const int16_t *code, int64_t n_cells, int32_t n_classes, double *sums, int64_t *positive) {
    for (int64_t i = 0; i < n_genes; i++) {
        double *s = sums + i * n_classes;
        int64_t *p = positive + i * n_classes;
        for (int64_t k = indptr[genes[i]]; k < indptr[genes[i] + 1]; k++) {
            if ((uint32_t)cells[k] >= n_cells) return 1;
            const int32_t c = code[cells[k]];
            if (c >= 0) {
                s[c] += expm1((double)values[k]);
                p[c] += values[k] > 0.0f;
            }
        }
    }
    return 0;
}

/* Two-sided p from |z| / sigma: 2 * Phi(-x) = erfc(x / sqrt 2). */
EXPORT void cw_two_sided(const double *x, int64_t n, double *p) {
    for (int64_t i = 0; i < n; i++) p[i] = erfc(fabs(x[i]) * 0.70710678118654752440);
}

/* Raw counts summed per class and gene, over the cells of the classes only. Returns 1 at a gene beyond n_genes. */
#define GROUP_SUMS(NAME, TYPE)                                                                                                 \
    EXPORT int32_t NAME(const int64_t *indptr, const int32_t *genes, const TYPE *values, const int64_t *rows, int64_t n_rows,  \
                        const int32_t *code, int64_t n_genes, double *sums) {                                                  \
        for (int64_t i = 0; i < n_rows; i++) {                                                                                 \
            double *s = sums + (int64_t)code[i] * n_genes;                                                                     \
            for (int64_t k = indptr[rows[i]]; k < indptr[rows[i] + 1]; k++) {                                                  \
                if ((uint32_t)genes[k] >= n_genes) return 1;                                                                   \
                s[genes[k]] += (double)values[k];                                                                              \
            }                                                                                                                  \
        }                                                                                                                      \
        return 0;                                                                                                              \
    }
GROUP_SUMS(cw_group_sums_u8, uint8_t)
GROUP_SUMS(cw_group_sums_u16, uint16_t)
GROUP_SUMS(cw_group_sums_u32, uint32_t)
GROUP_SUMS(cw_group_sums_f32, float)
