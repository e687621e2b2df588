/* Each gene's values in ascending order. */
#include "cellworker.h"

#include "radix.h"

/* Sort the entries (order key << 32 | cell, cells ascending) of each gene and split them into cells and values.
   `bounds` (n_genes + 1) are the genes' bounds in all arrays; `scratch` holds the longest gene. `entries` is
   overwritten, `values` receives floats. */
void cw_sort_genes(const int64_t *bounds, int64_t n_genes, uint64_t *entries, uint64_t *scratch, int32_t *cells,
                   uint32_t *values) {
    for (int64_t gene = 0; gene < n_genes; gene++) {
        const int64_t begin = bounds[gene], n = bounds[gene + 1] - begin;
        uint32_t *keys = values + begin;
        radix_split(entries + begin, n, scratch, (uint32_t *)(cells + begin), keys);
        for (int64_t i = 0; i < n; i++) keys[i] ^= ((keys[i] >> 31) - 1u) | 0x80000000u;
    }
}
