/* Cell-major to gene-major, one block of neighbouring genes at a time, so that the writes stay within a cache. */
#include "cellworker.h"

#include <string.h>

enum { AHEAD = 12 };

/* An unsigned key that orders as the float does, with every NaN above infinity. */
static inline uint32_t order_key(float value) {
    uint32_t raw;
    memcpy(&raw, &value, sizeof raw);
    const uint32_t key = raw ^ ((uint32_t)-(int32_t)(raw >> 31) | 0x80000000u);
    return value == value ? key : 0xFFFFFFFFu;
}

/* For each row, the first entry whose column is at least `column`. */
void cw_seek_column(const int64_t *indptr, int64_t n_rows, const int32_t *columns, int32_t column, int64_t *cursor) {
    for (int64_t row = 0; row < n_rows; row++) {
        int64_t low = indptr[row], high = indptr[row + 1];
        while (low < high) {
            const int64_t middle = low + (high - low) / 2;
            if (columns[middle] < column) low = middle + 1;
            else high = middle;
        }
        cursor[row] = low;
    }
}

/* Gather the genes [first, last): each entry becomes order key << 32 | cell, in `out` at the next free slot of its gene
   (`slot`, one per gene), cells ascending. `cursor` stands, in every cell, at the first entry of these genes, and is
   moved past them. Returns the number of entries that found no place (`capacity` is the size of `out`): 0 unless the
   data changed. */
int64_t cw_gather_genes(const int64_t *indptr, int64_t n_cells, const int32_t *genes, const float *values,
                        int32_t first, int32_t last, int64_t *cursor, int64_t *slot, int64_t capacity, uint64_t *out) {
    int64_t lost = 0;
    for (int64_t cell = 0; cell < n_cells; cell++) {
        if (cell + AHEAD < n_cells) {
            const int64_t later = cursor[cell + AHEAD];
            __builtin_prefetch(genes + later);
            __builtin_prefetch(values + later);
        }
        const int64_t end = indptr[cell + 1];
        int64_t i = cursor[cell];
        for (; i < end && genes[i] < last; i++) {
            const int64_t target = genes[i] < first ? capacity : slot[genes[i] - first]++;
            if (target < capacity) {
                /* Prefetch one cache line ahead of each gene: a store that misses the cache stalls all later ones. */
                __builtin_prefetch(out + target + 8, 1);
                out[target] = (uint64_t)order_key(values[i]) << 32 | (uint64_t)cell;
            } else {
                lost++;
            }
        }
        cursor[cell] = i;
    }
    return lost;
}

/* Take rows [start, stop) apart at the columns `edges` (n_parts + 1, from 0 to the width): part after part, each row's
   slice of it. `lengths` (n_parts x rows) and `bounds` (n_parts + 1) tell where the slices are in the output. */
void cw_split_rows(const int64_t *indptr, int64_t start, int64_t stop, const int32_t *columns, const float *values,
                   const int32_t *edges, int64_t n_parts, int32_t *lengths, int64_t *bounds, int32_t *out_columns,
                   float *out_values) {
    const int64_t n_rows = stop - start;
    for (int64_t part = 0; part <= n_parts; part++) bounds[part] = 0;
    for (int64_t row = 0; row < n_rows; row++) {
        const int64_t end = indptr[start + row + 1];
        int64_t i = indptr[start + row];
        for (int64_t part = 0; part < n_parts; part++) {
            const int64_t from = i;
            /* The last part takes the remaining columns, so that every entry has a place. */
            if (part + 1 == n_parts) i = end;
            while (i < end && columns[i] < edges[part + 1]) i++;
            lengths[part * n_rows + row] = (int32_t)(i - from);
            bounds[part + 1] += i - from;
        }
    }
    for (int64_t part = 0; part < n_parts; part++) bounds[part + 1] += bounds[part];
    for (int64_t row = 0; row < n_rows; row++) {
        int64_t i = indptr[start + row];
        for (int64_t part = 0; part < n_parts; part++) {
            const int64_t n = lengths[part * n_rows + row];
            memcpy(out_columns + bounds[part], columns + i, (size_t)n * sizeof *columns);
            memcpy(out_values + bounds[part], values + i, (size_t)n * sizeof *values);
            bounds[part] += n;
            i += n;
        }
    }
    for (int64_t part = n_parts; part > 0; part--) bounds[part] = bounds[part - 1];
    bounds[0] = 0;
}
