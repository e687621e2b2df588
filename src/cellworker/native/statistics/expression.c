/* Reads genes of the gene-major matrix: statistics over all cells, and values in the order of rows that a client
 * requests.
 *
 * A matrix is indptr (n_genes + 1), cells and values (each gene's stored values ascending, NaN last). A cell without a
 * stored value has the value 0.
 */
#include "cellworker.h"

#include <math.h>

/* The r-th smallest of n values, including the zeros that are not stored. */
static double order_statistic(const float *values, int64_t stored, int64_t negative, int64_t n, int64_t r) {
    int64_t zeros = n - stored;
    if (r < negative) return values[r];
    return r < negative + zeros ? 0.0 : values[r - zeros];
}

/* out: per gene mean, standard deviation (n - 1), minimum, and the 0.95 quantile (linear between order statistics),
 * which is raised in steps of 0.01 while it is zero. All over n cells. */
void cw_gene_statistics(const int64_t *indptr, const float *values, const int64_t *genes, int64_t n_genes, int64_t n,
                        double *out) {
    for (int64_t g = 0; g < n_genes; g++, out += 4) {
        const float *v = values + indptr[genes[g]];
        int64_t stored = indptr[genes[g] + 1] - indptr[genes[g]], negative = 0;
        if (n < 1 || (stored && isnan(v[stored - 1]))) {
            out[0] = out[1] = out[2] = out[3] = NAN;
            continue;
        }
        double sum = 0.0, squares = 0.0;
        for (int64_t i = 0; i < stored; i++) sum += v[i];
        double mean = sum / (double)n;
        for (int64_t i = 0; i < stored; i++) squares += (v[i] - mean) * (v[i] - mean);
        squares += (double)(n - stored) * mean * mean;
        while (negative < stored && v[negative] < 0) negative++;
        out[0] = mean;
        out[1] = n > 1 ? sqrt(squares / (double)(n - 1)) : NAN;
        out[2] = order_statistic(v, stored, negative, n, 0);
        double cap = 0.0;
        for (int percent = 95; percent <= 100 && cap == 0.0; percent++) {
            double at = (double)(n - 1) * percent / 100.0;
            int64_t below = (int64_t)at;
            cap = order_statistic(v, stored, negative, n, below);
            if (at > (double)below)
                cap += (at - (double)below) * (order_statistic(v, stored, negative, n, below + 1) - cap);
        }
        out[3] = cap;
    }
}

/* Values of genes for picked cells (-1: none), in their order; a cell may be picked more than once.
 * dense (n_cells floats) and marks (n_cells bits, zero) are scratch. Returns -1 for a cell that does not exist. */
int32_t cw_gather_picked(const int64_t *indptr, const int32_t *cells, const float *values, const int64_t *genes,
                         int64_t n_genes, const int32_t *picked, int64_t n_picked, int64_t n_cells, float *dense,
                         uint64_t *marks, int64_t *ptr, int32_t *rows, float *out) {
    int64_t at = 0;
    ptr[0] = 0;
    for (int64_t g = 0; g < n_genes; g++) {
        int64_t start = indptr[genes[g]], end = indptr[genes[g] + 1];
        for (int64_t i = start; i < end; i++) {
            if ((uint32_t)cells[i] >= (uint64_t)n_cells) return -1;
            dense[cells[i]] = values[i];
            marks[cells[i] >> 6] |= (uint64_t)1 << (cells[i] & 63);
        }
        for (int64_t row = 0; row < n_picked; row++) {
            int32_t cell = picked[row];
            if (cell < 0 || !(marks[cell >> 6] >> (cell & 63) & 1)) continue;
            rows[at] = (int32_t)row;
            out[at++] = dense[cell];
        }
        for (int64_t i = start; i < end; i++) marks[cells[i] >> 6] = 0;
        ptr[g + 1] = at;
    }
    return 0;
}
