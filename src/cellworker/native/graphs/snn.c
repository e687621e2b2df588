/* The number of neighbours that two cells share, for every pair that shares enough. */
#include "cellworker.h"

#include <stdlib.h>
#include <string.h>

/* Lists the cells that have cell m among their k neighbours (a negative number is no neighbour), ascending, from
 * `holders[starts[m]]` to before `holders[starts[m + 1]]`. `starts` has n + 1 places, `holders` one per neighbour. */
void cw_shared_holders(const int32_t *lists, int32_t k, int64_t n, int64_t *starts, int32_t *holders) {
    memset(starts, 0, ((size_t)n + 1) * sizeof *starts);
    for (int64_t at = 0; at < n * k; at++) {
        if (lists[at] >= 0) starts[lists[at] + 1]++;
    }
    for (int64_t m = 0; m < n; m++) starts[m + 1] += starts[m];
    for (int64_t i = 0; i < n; i++) {
        for (int32_t a = 0; a < k; a++) {
            const int32_t m = lists[i * k + a];
            if (m >= 0) holders[starts[m]++] = (int32_t)i;
        }
    }
    for (int64_t m = n; m > 0; m--) starts[m] = starts[m - 1];
    starts[0] = 0;
}

static int ascending(const void *a, const void *b) {
    const int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

static void sort(int32_t *cells, int64_t n) {
    if (n > 64) {
        qsort(cells, (size_t)n, sizeof *cells, ascending);
        return;
    }
    for (int64_t i = 1; i < n; i++) {
        const int32_t cell = cells[i];
        int64_t at = i;
        for (; at && cells[at - 1] > cell; at--) cells[at] = cells[at - 1];
        cells[at] = cell;
    }
}

/* For each of the cells `from` to `to`: writes the number of later cells that it is linked to, those cells, ascending,
 * and the number of neighbours shared with each. The arrays need capacity for every pair that shares any neighbour.
 * Returns the number of links written, or -1 when memory runs out. */
int64_t cw_shared(const int32_t *lists, int32_t k, int64_t n, const int64_t *starts, const int32_t *holders,
                  int64_t from, int64_t to, int32_t min_shared, int64_t *counts, int32_t *cells, int32_t *shared) {
    int32_t *common = calloc((size_t)n, sizeof *common), *met = malloc((size_t)n * sizeof *met);
    int64_t written = common && met ? 0 : -1;
    for (int64_t i = from; i < to && written >= 0; i++) {
        int64_t n_met = 0, n_kept = 0;
        for (int32_t a = 0; a < k; a++) {
            const int32_t m = lists[i * k + a];
            if (m < 0) continue;
            for (int64_t h = starts[m + 1] - 1; h >= starts[m] && holders[h] > i; h--) {
                const int32_t j = holders[h];
                if (!common[j]++) met[n_met++] = j;
            }
        }
        for (int64_t m = 0; m < n_met; m++) {
            const int32_t j = met[m];
            if (common[j] >= min_shared) met[n_kept++] = j;
            else common[j] = 0;
        }
        sort(met, n_kept);
        for (int64_t m = 0; m < n_kept; m++) {
            cells[written] = met[m];
            shared[written++] = common[met[m]];
            common[met[m]] = 0;
        }
        counts[i] = n_kept;
    }
    free(common);
    free(met);
    return written;
}

/* Writes both directions of links, which are given from each of n cells to later ones only: `first` (n + 1 places), the
 * cells, ascending in each row, and the weights (twice as many as given). */
int32_t cw_links_mirror(int64_t n, const int64_t *counts, const int32_t *later, const double *given, int64_t *first,
                        int32_t *cells, double *weights) {
    int64_t *at = malloc(((size_t)n + 1) * sizeof *at), e = 0;
    if (!at) return -1;
    memset(first, 0, ((size_t)n + 1) * sizeof *first);
    for (int64_t i = 0; i < n; i++) {
        first[i + 1] += counts[i];
        for (int64_t end = e + counts[i]; e < end; e++) first[later[e] + 1]++;
    }
    for (int64_t i = 0; i < n; i++) first[i + 1] += first[i];
    memcpy(at, first, ((size_t)n + 1) * sizeof *at);
    e = 0;
    for (int64_t i = 0; i < n; i++) { /* all earlier cells of i are already written, before its own links */
        for (int64_t end = e + counts[i]; e < end; e++) {
            const int32_t j = later[e];
            cells[at[i]] = j;
            weights[at[i]++] = given[e];
            cells[at[j]] = (int32_t)i;
            weights[at[j]++] = given[e];
        }
    }
    free(at);
    return 0;
}
