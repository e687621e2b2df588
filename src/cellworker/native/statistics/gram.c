/* Products of all pairs of columns of compressed rows, for a covariance. */
#include "cellworker.h"

#include <stdlib.h>
#include <string.h>

enum { ROWS_AT_ONCE = 512, TILE = 32 }; /* rows that a second-level cache holds; of a transposition */

/* Lists the entries of rows [from, to) column by column. Returns 1 where rows do not fit or columns do not ascend. */
static int32_t list_by_column(const int64_t *indptr, const int32_t *columns, int64_t n_stored, int64_t from, int64_t to,
                              int64_t width, int64_t *starts, int64_t *entries, int64_t *ends) {
    memset(starts, 0, (size_t)(width + 1) * sizeof *starts);
    for (int64_t i = from; i < to; i++) {
        if (indptr[i] < 0 || indptr[i + 1] < indptr[i] || indptr[i + 1] > n_stored) return 1;
        int64_t last = -1;
        for (int64_t k = indptr[i]; k < indptr[i + 1]; k++) {
            if (columns[k] <= last || columns[k] >= width) return 1;
            last = columns[k];
            starts[last + 1]++;
        }
    }
    for (int64_t a = 0; a < width; a++) starts[a + 1] += starts[a];
    for (int64_t i = from; i < to; i++) {
        for (int64_t k = indptr[i]; k < indptr[i + 1]; k++) {
            const int64_t at = starts[columns[k]]++;
            entries[at] = k;
            ends[at] = indptr[i + 1];
        }
    }
    return 0; /* starts[a] is now the end of a's entries, and the start of those of a + 1 */
}

static void mirror(double *out, int64_t width) {
    for (int64_t a = 0; a < width; a += TILE)
        for (int64_t b = a; b < width; b += TILE)
            for (int64_t i = a; i < a + TILE && i < width; i++)
                for (int64_t j = b > i ? b : i + 1; j < b + TILE && j < width; j++)
                    out[j * width + i] = out[i * width + j];
}

/* out (width x width, zeros before) becomes the transposed rows times the rows. A column meets all its rows while its
 * line of `out` is in the first-level cache. Returns 0, 1 where rows do not fit or columns do not ascend, -1 without
 * memory. */
int32_t cw_gram(const int64_t *indptr, const int32_t *columns, const double *values, int64_t n_rows, int64_t n_stored,
                int64_t width, double *out) {
    int64_t longest = 0;
    for (int64_t i = 0; i < n_rows; i += ROWS_AT_ONCE) {
        const int64_t to = i + ROWS_AT_ONCE < n_rows ? i + ROWS_AT_ONCE : n_rows;
        if (indptr[i] < 0 || indptr[to] < indptr[i] || indptr[to] > n_stored) return 1;
        if (indptr[to] - indptr[i] > longest) longest = indptr[to] - indptr[i];
    }
    int64_t *memory = malloc((size_t)(width + 1 + 2 * longest) * sizeof *memory);
    if (!memory) return -1;
    int64_t *starts = memory, *entries = starts + width + 1, *ends = entries + longest;
    int32_t odd = 0;
    for (int64_t from = 0; from < n_rows && !odd; from += ROWS_AT_ONCE) {
        const int64_t to = from + ROWS_AT_ONCE < n_rows ? from + ROWS_AT_ONCE : n_rows;
        /* Bounds that descend within the block may name more entries than were counted: they are found first. */
        odd = list_by_column(indptr, columns, n_stored, from, to, width, starts, entries, ends);
        if (odd) break;
        int64_t e = 0;
        for (int64_t a = 0; a < width; a++) {
            double *line = out + a * width;
            for (; e < starts[a]; e++) {
                const int64_t end = ends[e];
                const double value = values[entries[e]];
                for (int64_t k = entries[e]; k < end; k++) line[columns[k]] += value * values[k];
            }
        }
    }
    free(memory);
    if (!odd) mirror(out, width);
    return odd;
}
