/* Each gene's values in ascending order. */
#include "cellworker.h"

#include "dispatch.h"
#include "radix.h"

INLINE void sort_genes(const int64_t *bounds, int64_t n_genes, uint64_t *entries, uint64_t *scratch, int32_t *cells,
                       uint32_t *values) {
    for (int64_t gene = 0; gene < n_genes; gene++) {
        const int64_t begin = bounds[gene], n = bounds[gene + 1] - begin;
        uint32_t *keys = values + begin;
        radix_split(entries + begin, n, scratch, (uint32_t *)(cells + begin), keys);
        for (int64_t i = 0; i < n; i++) keys[i] ^= ((keys[i] >> 31) - 1u) | 0x80000000u;
    }
}

typedef void SortGenes(const int64_t *, int64_t, uint64_t *, uint64_t *, int32_t *, uint32_t *);

static void sort_genes_anywhere(const int64_t *bounds, int64_t n_genes, uint64_t *entries, uint64_t *scratch,
                                int32_t *cells, uint32_t *values) {
    sort_genes(bounds, n_genes, entries, scratch, cells, values);
}

#ifdef CW_AVX512
CW_AVX512 static void sort_genes_avx512(const int64_t *bounds, int64_t n_genes, uint64_t *entries, uint64_t *scratch,
                                        int32_t *cells, uint32_t *values) {
    sort_genes(bounds, n_genes, entries, scratch, cells, values);
}
#endif

/* Sort the entries (order key << 32 | cell, cells ascending) of each gene and split them into cells and values.
   `bounds` (n_genes + 1) are the genes' bounds in all arrays; `scratch` holds the longest gene. `entries` is
   overwritten, `values` receives floats. */
void cw_sort_genes(const int64_t *bounds, int64_t n_genes, uint64_t *entries, uint64_t *scratch, int32_t *cells,
                   uint32_t *values) {
    SortGenes *run = sort_genes_anywhere;
#ifdef CW_AVX512
    if (cw_has_avx512()) run = sort_genes_avx512;
#endif
    run(bounds, n_genes, entries, scratch, cells, values);
}
