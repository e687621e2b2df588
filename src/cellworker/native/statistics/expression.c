/* Reads genes of the gene-major matrix: statistics over all cells, and values in the order of rows that a client
 * requests.
 *
 * A matrix is indptr (n_genes + 1), cells and values (each gene's stored values ascending, NaN last). A cell without a
 * stored value has the value 0.
 */
#include "cellworker.h"

#include <math.h>

#include "dispatch.h"

/* The r-th smallest of n values, including the zeros that are not stored. */
static double order_statistic(const float *values, int64_t stored, int64_t negative, int64_t n, int64_t r) {
    int64_t zeros = n - stored;
    if (r < negative) return values[r];
    return r < negative + zeros ? 0.0 : values[r - zeros];
}

enum { TOGETHER = 4 }; /* genes whose sums are made side by side: one sum waits for its own last addition */

/* Of each gene the sum of its values, or of the squares of their distances from `from`, in the order of the values. */
INLINE void add_up(const float *const *values, const int64_t *stored, const double *from, const int squares,
                   double *sums) {
    int64_t shortest = stored[0];
    for (int g = 0; g < TOGETHER; g++) {
        if (stored[g] < shortest) shortest = stored[g];
        sums[g] = 0.0;
    }
    for (int64_t i = 0; i < shortest; i++) {
        for (int g = 0; g < TOGETHER; g++) {
            const double v = squares ? (values[g][i] - from[g]) * (values[g][i] - from[g]) : values[g][i];
            sums[g] += v;
        }
    }
    for (int g = 0; g < TOGETHER; g++) {
        double sum = sums[g];
        for (int64_t i = shortest; i < stored[g]; i++)
            sum += squares ? (values[g][i] - from[g]) * (values[g][i] - from[g]) : values[g][i];
        sums[g] = sum;
    }
}

static void finish_gene(const float *v, int64_t stored, int64_t n, double mean, double squares, double *out) {
    int64_t negative = 0;
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

/* out: per gene mean, standard deviation (n - 1), minimum, and the 0.95 quantile (linear between order statistics),
 * which is raised in steps of 0.01 while it is zero. All over n cells. */
void cw_gene_statistics(const int64_t *indptr, const float *values, const int64_t *genes, int64_t n_genes, int64_t n,
                        double *out) {
    for (int64_t first = 0; first < n_genes; first += TOGETHER) {
        const float *v[TOGETHER];
        int64_t stored[TOGETHER];
        double sums[TOGETHER], means[TOGETHER], squares[TOGETHER];
        for (int g = 0; g < TOGETHER; g++) {
            const int64_t gene = first + g < n_genes ? genes[first + g] : genes[first];
            v[g] = values + indptr[gene];
            stored[g] = first + g < n_genes ? indptr[gene + 1] - indptr[gene] : 0;
        }
        add_up(v, stored, means, 0, sums);
        for (int g = 0; g < TOGETHER; g++) means[g] = sums[g] / (double)n;
        add_up(v, stored, means, 1, squares);
        for (int g = 0; g < TOGETHER && first + g < n_genes; g++, out += 4) {
            if (n < 1 || (stored[g] && isnan(v[g][stored[g] - 1]))) out[0] = out[1] = out[2] = out[3] = NAN;
            else finish_gene(v[g], stored[g], n, means[g], squares[g], out);
        }
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
