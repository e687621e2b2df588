/* Rank sums, tie terms, sums and detection counts of every gene for every class of cells, from values that are already
 * in order: one linear scan. Integers wherever the result must be exact, so that threads and blocks cannot change it. */
#include <math.h>
#include <stdint.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

/* A block of equal values at positions first..last-1 of the ranking shares twice the average rank first + last + 1.
 * Its tie term t^3 - t is the sum of 3 j (j + 1) over its entries j = 0..t-1. Both are added up entry by entry without a
 * branch: whether a value equals its neighbour is what no processor can predict. */
typedef struct {
    const uint32_t *value; /* as bits: equal values have equal bits, since neither NaN nor zero is ranked */
    const int16_t *label;
    const int32_t *above; /* entries above the entry's block */
    int64_t size;
} Ranked;

static inline double number(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return (double)value;
}

#define RUN 4096 /* entries whose tie terms are added up as integers: enough for ties of ten million cells */

typedef struct {
    int64_t rank2, detected;
    double sum;
} Share; /* one line of the cache holds a class's three figures */

static double count_many(Ranked of, int64_t from, int64_t to, int64_t below, Share *share) {
    double tie = 0.0;
    uint32_t last = 0;
    int64_t first = from;
    const int64_t high = of.size + below + 1;
    for (int64_t k = from; k < to;) {
        const int64_t stop = to - k > RUN ? k + RUN : to;
        uint64_t part = 0;
        for (; k < stop; k++) {
            const uint32_t v = of.value[k];
            first += (k - first) & -(int64_t)(v != last);
            last = v;
            const uint64_t j = (uint64_t)(k - first);
            part += j * (j + 1);
            Share *s = share + of.label[k];
            s->rank2 += first + high - of.above[k];
            s->detected++;
            s->sum += number(v);
        }
        tie += (double)part;
    }
    return tie;
}

/* The same for two classes, in registers: a chain through memory would wait for every entry's store. The first class has
 * what the second leaves of all; sharing ranks among equals does not change their sum. */
static double count_two(Ranked of, int64_t from, int64_t to, int64_t below, Share *share) {
    double tie = 0.0, all = 0.0, one = 0.0;
    uint32_t last = 0;
    int64_t first = from, rank_one = 0, ones = 0;
    const int64_t high = of.size + below + 1;
    for (int64_t k = from; k < to;) {
        const int64_t stop = to - k > RUN ? k + RUN : to;
        uint64_t part = 0;
        for (; k < stop; k++) {
            const uint32_t v = of.value[k];
            const int64_t in = of.label[k];
            first += (k - first) & -(int64_t)(v != last);
            last = v;
            const uint64_t j = (uint64_t)(k - first);
            part += j * (j + 1);
            rank_one += (first + high - of.above[k]) & -in;
            ones += in;
            all += number(v);
            one += number(v & (uint32_t)-in);
        }
        tie += (double)part;
    }
    const int64_t ranks = to * (to + 1) - from * (from + 1) + (to - from) * below;
    share[0].rank2 += ranks - rank_one;
    share[1].rank2 += rank_one;
    share[0].detected += to - from - ones;
    share[1].detected += ones;
    share[0].sum += all - one;
    share[1].sum += one;
    return tie;
}

/* Entries of cells outside every class (code -1) are passed over: they belong to no ranking.
 * rank2: twice the rank sum per gene and class, of the stored entries alone (the caller adds the implicit zeros' share).
 * Implicit zeros sit between the negative and the positive values. scratch: 24 bytes per class and then 10 per stored value
 * of the largest gene, which has `longest`. */
static inline void rank_scan(const int64_t *indptr, const int32_t *cells, const float *values, int64_t gene_start, int64_t gene_end,
                         const void *code, int32_t n_classes, int64_t n_labelled, int32_t skip_top_block, int64_t *rank2,
                         int64_t *detected, double *sums, double *ties, int64_t *below_zero, int64_t longest, void *scratch, const int wide) {
    Share *share = scratch;
    uint32_t *value = (uint32_t *)(share + n_classes);
    int32_t *above = (int32_t *)(value + longest);
    int16_t *label = (int16_t *)(above + longest);
    for (int64_t g = gene_start; g < gene_end; g++) {
        const int64_t row = (g - gene_start) * n_classes;
        for (int32_t c = 0; c < n_classes; c++) share[c] = (Share){0, 0, 0.0};
        int64_t seen = 0;
        for (int64_t k = indptr[g]; k < indptr[g + 1]; k++) { /* no branch: which cells are listed is anybody's guess */
            const int16_t c = wide ? ((const int16_t *)code)[cells[k]] : ((const int8_t *)code)[cells[k]];
            memcpy(value + seen, values + k, sizeof *value);
            label[seen] = c;
            seen += c >= 0;
        }
        int32_t over = 0;
        uint32_t last = 0;
        for (int64_t k = seen - 1; k >= 0; k--) {
            over += ((int32_t)(seen - 1 - k) - over) & -(int32_t)(value[k] != last);
            last = value[k];
            above[k] = over;
        }
        const Ranked ranked = {value, label, above, seen};
        int64_t negative = 0;
        while (negative < seen && ranked.value[negative] >> 31) negative++;
        const int64_t zeros = n_labelled - seen;
        double (*count)(Ranked, int64_t, int64_t, int64_t, Share *) = n_classes == 2 ? count_two : count_many;
        double tie = 3.0 * (count(ranked, 0, negative, 0, share) + count(ranked, negative, seen, 2 * zeros, share));
        for (int32_t c = 0; c < n_classes; c++) {
            rank2[row + c] = share[c].rank2;
            detected[row + c] = share[c].detected;
            sums[row + c] = share[c].sum;
        }
        double top = (double)zeros * ((double)zeros * (double)zeros - 1.0); /* the block of the largest value: */
        tie += top;
        if (negative < seen || !zeros) { /* of a positive one, or there are no zeros */
            int64_t t = 0;
            while (t < seen && ranked.above[seen - 1 - t] == 0) t++;
            top = (double)t * ((double)t * (double)t - 1.0);
        }
        /* without a stored value there is nothing to correct: the original counts no block at all */
        ties[g - gene_start] = skip_top_block ? (seen ? tie - top : 0.0) : tie;
        below_zero[g - gene_start] = negative;
    }
}

/* Labels of one byte stay in the nearest cache; more than 127 classes need two. */
EXPORT void cw_rank_scan_narrow(const int64_t *indptr, const int32_t *cells, const float *values, int64_t gene_start, int64_t gene_end,
                         const int8_t *code, int32_t n_classes, int64_t n_labelled, int32_t skip_top_block, int64_t *rank2,
                         int64_t *detected, double *sums, double *ties, int64_t *below_zero, int64_t longest, void *scratch) {
    rank_scan(indptr, cells, values, gene_start, gene_end, code, n_classes, n_labelled, skip_top_block, rank2,
              detected, sums, ties, below_zero, longest, scratch, 0);
}

EXPORT void cw_rank_scan_wide(const int64_t *indptr, const int32_t *cells, const float *values, int64_t gene_start, int64_t gene_end,
                         const int16_t *code, int32_t n_classes, int64_t n_labelled, int32_t skip_top_block, int64_t *rank2,
                         int64_t *detected, double *sums, double *ties, int64_t *below_zero, int64_t longest, void *scratch) {
    rank_scan(indptr, cells, values, gene_start, gene_end, code, n_classes, n_labelled, skip_top_block, rank2,
              detected, sums, ties, below_zero, longest, scratch, 1);
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
