/* Scales cells to one total, before their logarithms. */
#include "cellworker.h"

#include <math.h>

/* Multiplies the values of each row by `total` / the row's sum, and by 0 where that sum is not above 0. Values that are
   missing or infinite are left out of the sum, values below 0 are in it and become 0. `indptr` (n_rows + 1) begins
   anywhere, `values` at its first entry. Returns the number of values below 0. */
int64_t cw_scale_rows(const int64_t *indptr, int64_t n_rows, double total, double *values) {
    int64_t negative = 0;
    for (int64_t row = 0; row < n_rows; row++) {
        double *first = values + (indptr[row] - indptr[0]);
        const int64_t n = indptr[row + 1] - indptr[row];
        double sum = 0;
        for (int64_t i = 0; i < n; i++) sum += isfinite(first[i]) ? first[i] : 0;
        const double scale = sum > 0 ? total / sum : 0;
        for (int64_t i = 0; i < n; i++) {
            const int below = first[i] < 0;
            negative += below;
            first[i] = (below ? 0 : first[i]) * scale;
        }
    }
    return negative;
}
