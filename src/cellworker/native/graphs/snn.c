/* How many neighbours two cells share, for every pair that shares enough. */
#include "cellworker.h"

#include <stdlib.h>

static int ascending(const void *a, const void *b) {
    const int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

/* Cells `from` to `to`, against all. `lists` holds the k neighbours of each cell (negative: none), and the cells that
 * have m among theirs are at `holders[starts[m]]` to `holders[starts[m + 1]]`. Called first without `cells`: writes the
 * number of links of each cell. Then with `cells` and `offsets`: writes each cell's links, ascending, without the one
 * to itself, and how many neighbours are shared. Returns -1 when memory ran out. */
int32_t cw_shared(const int32_t *lists, int32_t k, int64_t n, const int64_t *starts, const int32_t *holders,
                  int64_t from, int64_t to, int32_t min_shared, int64_t *counts, const int64_t *offsets, int32_t *cells,
                  int32_t *shared) {
    int32_t *common = calloc((size_t)n, sizeof *common), *met = malloc((size_t)n * sizeof *met);
    const int32_t failed = common && met ? 0 : -1;
    for (int64_t i = from; i < to && !failed; i++) {
        int64_t n_met = 0, n_kept = 0;
        for (int32_t a = 0; a < k; a++) {
            const int32_t m = lists[i * k + a];
            if (m < 0) continue;
            for (int64_t h = starts[m]; h < starts[m + 1]; h++) {
                const int32_t j = holders[h];
                if (!common[j]++) met[n_met++] = j;
            }
        }
        common[i] = 0;
        for (int64_t m = 0; m < n_met; m++) {
            const int32_t j = met[m];
            if (common[j] >= min_shared) met[n_kept++] = j;
            else common[j] = 0;
        }
        if (cells) qsort(met, (size_t)n_kept, sizeof *met, ascending);
        else counts[i] = n_kept;
        for (int64_t m = 0; m < n_kept; m++) {
            const int32_t j = met[m];
            if (cells) {
                cells[offsets[i] + m] = j;
                shared[offsets[i] + m] = common[j];
            }
            common[j] = 0;
        }
    }
    free(common);
    free(met);
    return failed;
}
