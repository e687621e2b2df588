/* Turns compressed columns into compressed rows. */
#include "cellworker.h"

/* Append the entries of the columns first..last-1 to their rows. `filled` (n_rows) holds the place of each row's next
   entry; `rows` and `values` are indexed by `indptr`. Rows must be inside the matrix and have a free place.
 */
void cw_transpose_columns(const int64_t *indptr, int64_t first, int64_t last, const int32_t *rows, const float *values,
                          int64_t *filled, int32_t *columns_out, float *values_out) {
    for (int64_t column = first; column < last; column++) {
        for (int64_t i = indptr[column]; i < indptr[column + 1]; i++) {
            const int64_t place = filled[rows[i]]++;
            columns_out[place] = (int32_t)column;
            values_out[place] = values[i];
        }
    }
}
