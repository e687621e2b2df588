/* Sums per gene over the stored values of a cell-major matrix, for the choice of variable genes. Each function adds the
   values of the genes from `low` to before `high` one after the other: genes with the same counts get the same sums,
   and threads split the genes, not the cells. Returns -1 for a gene that does not exist. */
#include "cellworker.h"

int32_t cw_gene_totals(const int32_t *genes, const double *values, int64_t n, int64_t n_genes, int32_t low,
                       int32_t high, double *sums, double *stored) {
    for (int64_t i = 0; i < n; i++) {
        if ((uint32_t)genes[i] >= (uint64_t)n_genes) return -1;
        if (genes[i] < low || genes[i] >= high) continue;
        sums[genes[i]] += values[i];
        stored[genes[i]] += 1.0;
    }
    return 0;
}

/* Sums of squares of (value - mean) / scale, with the quotient capped at `limit`. */
int32_t cw_gene_squares(const int32_t *genes, const double *values, int64_t n, int64_t n_genes, int32_t low,
                        int32_t high, const double *mean, const double *scale, double limit, double *squares) {
    for (int64_t i = 0; i < n; i++) {
        if ((uint32_t)genes[i] >= (uint64_t)n_genes) return -1;
        const int32_t g = genes[i];
        if (g < low || g >= high) continue;
        double z = (values[i] - mean[g]) / scale[g];
        if (z > limit) z = limit;
        squares[g] += z * z;
    }
    return 0;
}

/* Sums of the values and of their squares, added in the order of the entries. */
int32_t cw_gene_moments(const int32_t *genes, const float *values, int64_t n, int64_t n_genes, double *sums,
                        double *squares) {
    for (int64_t i = 0; i < n; i++) {
        if ((uint32_t)genes[i] >= (uint64_t)n_genes) return -1;
        const double v = values[i];
        sums[genes[i]] += v;
        squares[genes[i]] += v * v;
    }
    return 0;
}
