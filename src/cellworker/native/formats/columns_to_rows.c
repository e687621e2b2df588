/* Turns compressed columns into compressed rows. */
#include "cellworker.h"

/* Append the entries start..stop-1 of a matrix of compressed columns to their rows. `indptr` (n_columns + 1, ascending)
   are the bounds of the columns; `rows` and `values` hold these entries alone, from index 0. `filled` (n_rows) is the
   place of each row's next entry, and `ends` (n_rows) the place after its last. Without `columns_out` only values are
   written. Returns the number of entries without a place in a row: 0 unless the data changed since they were counted.
 */
int64_t cw_scatter_columns(const int64_t *indptr, int64_t n_columns, int64_t start, int64_t stop, const int32_t *rows,
                           const float *values, int64_t n_rows, const int64_t *ends, int64_t *filled,
                           int32_t *columns_out, float *values_out) {
    int64_t lost = 0, column = 0;
    for (int64_t high = n_columns; column < high;) { /* the first column that ends after `start` */
        const int64_t middle = column + (high - column) / 2;
        if (indptr[middle + 1] <= start) column = middle + 1;
        else high = middle;
    }
    for (int64_t i = start; i < stop && column < n_columns; column++) {
        const int64_t end = indptr[column + 1] < stop ? indptr[column + 1] : stop;
        for (; i < end; i++) {
            const int32_t row = rows[i - start];
            if (row < 0 || row >= n_rows || filled[row] >= ends[row]) {
                lost++;
                continue;
            }
            const int64_t place = filled[row]++;
            if (columns_out) columns_out[place] = (int32_t)column;
            values_out[place] = values[i - start];
        }
    }
    return lost;
}
