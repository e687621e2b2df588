/* Values that counts stand for, see levels.h: listed once when a store is written, and looked up when they are read. */
#include "levels.h"

#include "cellworker.h"

#include <string.h>

/* List the levels of rows whose entries are at `bounds` (n_rows + 1). `lengths` receives each row's number of levels;
 * `counts_out` and `values_out` (capacity bounds[n_rows] - bounds[0]) receive the levels, row after row. Returns the
 * number of levels, or -1 where a row has two values for a count, a count of 0, or more than `max_levels` levels. */
int64_t cw_find_levels(const int64_t *bounds, int64_t n_rows, const uint32_t *counts, const float *values,
                       int64_t max_levels, int64_t *lengths, uint32_t *counts_out, float *values_out) {
    int64_t filled = 0;
    for (int64_t row = 0; row < n_rows; row++) {
        uint32_t *own = counts_out + filled;
        float *told = values_out + filled;
        int64_t n = 0;
        for (int64_t i = bounds[row]; i < bounds[row + 1]; i++) {
            const uint32_t count = counts[i];
            if (!count) return -1;
            int64_t at = n < (int64_t)count - 1 ? n : (int64_t)count - 1;
            if (at < n && own[at] == count) {
                if (memcmp(told + at, values + i, sizeof *values) != 0) return -1;
                continue;
            }
            int64_t low = 0;
            while (low < at) {
                const int64_t middle = low + (at - low) / 2;
                if (own[middle] < count) low = middle + 1;
                else at = middle;
            }
            if (low < n && own[low] == count) {
                if (memcmp(told + low, values + i, sizeof *values) != 0) return -1;
                continue;
            }
            if (n == max_levels) return -1;
            memmove(own + low + 1, own + low, (size_t)(n - low) * sizeof *own);
            memmove(told + low + 1, told + low, (size_t)(n - low) * sizeof *told);
            own[low] = count;
            told[low] = values[i];
            n++;
        }
        lengths[row] = n;
        filled += n;
    }
    return filled;
}

static inline int64_t look_up(const int64_t *indptr, int64_t n_rows, const void *counts, int32_t width,
                              const Levels *levels, int64_t row, const int64_t *places, int64_t start, int64_t n,
                              float *out) {
    for (int64_t k = 0; k < n; k++) {
        const int64_t i = places ? places[k] : start + k;
        if (i < indptr[row] || i >= indptr[row + 1]) {
            int64_t low = 0, high = n_rows;
            while (low < high) { /* the first row that ends after the entry */
                const int64_t middle = low + (high - low) / 2;
                if (indptr[middle + 1] <= i) low = middle + 1;
                else high = middle;
            }
            if (low == n_rows || i < indptr[low]) return k;
            row = low;
        }
        const int64_t at = level_of(levels, row, counts, width, i);
        if (at < 0) return k;
        out[k] = levels->values[at];
    }
    return -1;
}

/* The values of n entries: those at `places` (each inside the matrix), or, without `places`, those from `start` on.
 * Returns -1, or else the number of the first entry that is in no row or whose count its row does not list. */
int64_t cw_level_values(const int64_t *indptr, int64_t n_rows, const void *counts, int32_t width, const int64_t *first,
                        const void *level_counts, const float *level_values, int64_t n_levels, const int64_t *places,
                        int64_t start, int64_t n, float *out) {
    const Levels levels = {first, level_counts, level_values, n_levels};
    if (n_rows < 1) return n ? 0 : -1;
    if (width == 1) return look_up(indptr, n_rows, counts, 1, &levels, 0, places, start, n, out);
    if (width == 2) return look_up(indptr, n_rows, counts, 2, &levels, 0, places, start, n, out);
    return look_up(indptr, n_rows, counts, 4, &levels, 0, places, start, n, out);
}
