/* Cell-major to gene-major, one block of neighbouring genes at a time, so the writes stay in a cache. */
#include "cellworker.h"
#include "levels.h"

#include <string.h>

enum { AHEAD = 12 };

/* An unsigned key that orders as the float does, with every NaN above infinity. */
static inline uint32_t order_key(float value) {
    uint32_t raw;
    memcpy(&raw, &value, sizeof raw);
    const uint32_t key = raw ^ ((uint32_t)-(int32_t)(raw >> 31) | 0x80000000u);
    return value == value ? key : 0xFFFFFFFFu;
}

/* Column numbers have 2 or 4 bytes. */
static inline int32_t column_at(const void *columns, int32_t width, int64_t i) {
    return width == 2 ? ((const uint16_t *)columns)[i] : ((const int32_t *)columns)[i];
}

static inline void seek_column(const int64_t *indptr, int64_t n_rows, const void *columns, int32_t width,
                               int32_t column, int32_t *cursor) {
    for (int64_t row = 0; row < n_rows; row++) {
        int64_t low = indptr[row], high = indptr[row + 1];
        while (low < high) {
            const int64_t middle = low + (high - low) / 2;
            if (column_at(columns, width, middle) < column) low = middle + 1;
            else high = middle;
        }
        cursor[row] = (int32_t)(low - indptr[row]);
    }
}

/* For each row, the first entry whose column is at least `column`, counted from the row's begin; `width` is the bytes
   of a column number. */
void cw_seek_column(const int64_t *indptr, int64_t n_rows, const void *columns, int32_t width, int32_t column,
                    int32_t *cursor) {
    if (width == 2) seek_column(indptr, n_rows, columns, 2, column, cursor);
    else seek_column(indptr, n_rows, columns, 4, column, cursor);
}

/* `narrow` is the number of bytes of a count that stands for the value, 0 where `values` are the values themselves. */
static inline int64_t gather_genes(const int64_t *indptr, int64_t n_cells, const void *genes, int32_t width,
                                   const void *values, int32_t narrow, const Levels *levels, int32_t first,
                                   int32_t last, int32_t *cursor, int64_t *slot, int64_t capacity, uint64_t *out) {
    int64_t lost = 0;
    for (int64_t cell = 0; cell < n_cells; cell++) {
        if (cell + AHEAD < n_cells) {
            const int64_t later = indptr[cell + AHEAD] + cursor[cell + AHEAD];
            const char *gene = (const char *)genes + later * width;
            __builtin_prefetch(gene);
            __builtin_prefetch(gene + 48);
            __builtin_prefetch((const char *)values + later * (narrow ? narrow : 4));
            if (narrow) {
                const int64_t level = levels->first[cell + AHEAD];
                __builtin_prefetch((const char *)levels->counts + level * narrow);
                __builtin_prefetch(levels->values + level);
                __builtin_prefetch(levels->values + level + 15);
            }
        }
        const int64_t end = indptr[cell + 1];
        int64_t i = indptr[cell] + cursor[cell];
        for (; i < end; i++) {
            const int32_t gene = column_at(genes, width, i);
            if (gene >= last) break;
            const int64_t target = gene < first ? capacity : slot[gene - first]++;
            const int64_t level = narrow ? level_of(levels, cell, values, narrow, i) : i;
            if (target < capacity && level >= 0) {
                /* Prefetch one cache line ahead of each gene: a store that misses the cache stalls all later ones. */
                __builtin_prefetch(out + target + 8, 1);
                const float value = narrow ? levels->values[level] : ((const float *)values)[level];
                out[target] = (uint64_t)order_key(value) << 32 | (uint64_t)cell;
            } else {
                lost++;
            }
        }
        cursor[cell] = (int32_t)(i - indptr[cell]);
    }
    return lost;
}

/* Gather the genes [first, last): each entry becomes order key << 32 | cell, in `out` at the next free slot of its gene
   (`slot`, one per gene), cells ascending. `cursor` is, in every cell, at the first entry of these genes, counted
   from the cell's begin, and moves past them. Genes have `width` bytes (2 or 4). `values` are floats; where `narrow` is
   1, 2 or 4 they are counts of that many bytes, whose values are in `level_first`, `level_counts` and `level_values`
   (n_levels). Returns the number of entries without a place (`capacity` is the size of `out`) or a level: 0 unless the
   data changed. */
int64_t cw_gather_genes(const int64_t *indptr, int64_t n_cells, const void *genes, int32_t width, const void *values,
                        int32_t narrow, const int64_t *level_first, const void *level_counts, const float *level_values,
                        int64_t n_levels, int32_t first, int32_t last, int32_t *cursor, int64_t *slot, int64_t capacity,
                        uint64_t *out) {
    const Levels levels = {level_first, level_counts, level_values, n_levels};
#define GATHER(WIDTH, NARROW)                                                                                  \
    if (width == WIDTH && narrow == NARROW)                                                                    \
        return gather_genes(indptr, n_cells, genes, WIDTH, values, NARROW, &levels, first, last, cursor, slot, \
                            capacity, out);
    GATHER(2, 0)
    GATHER(2, 1)
    GATHER(2, 2)
    GATHER(2, 4)
    GATHER(4, 0)
    GATHER(4, 1)
    GATHER(4, 2)
    GATHER(4, 4)
#undef GATHER
    return -1;
}

static inline void split_rows(const int64_t *indptr, int64_t start, int64_t stop, const void *columns, int32_t width,
                              const void *values, int32_t value_bytes, const int32_t *edges, int64_t n_parts,
                              int32_t *lengths, int64_t *bounds, void *out_columns, void *out_values) {
    const int64_t n_rows = stop - start;
    for (int64_t part = 0; part <= n_parts; part++) bounds[part] = 0;
    for (int64_t row = 0; row < n_rows; row++) {
        const int64_t end = indptr[start + row + 1];
        int64_t i = indptr[start + row];
        for (int64_t part = 0; part < n_parts; part++) {
            const int64_t from = i;
            /* The last part takes the remaining columns, so that every entry has a place. */
            if (part + 1 == n_parts) i = end;
            while (i < end && column_at(columns, width, i) < edges[part + 1]) i++;
            lengths[part * n_rows + row] = (int32_t)(i - from);
            bounds[part + 1] += i - from;
        }
    }
    for (int64_t part = 0; part < n_parts; part++) bounds[part + 1] += bounds[part];
    for (int64_t row = 0; row < n_rows; row++) {
        int64_t i = indptr[start + row];
        for (int64_t part = 0; part < n_parts; part++) {
            const int64_t n = lengths[part * n_rows + row];
            memcpy((char *)out_columns + bounds[part] * width, (const char *)columns + i * width, (size_t)(n * width));
            memcpy((char *)out_values + bounds[part] * value_bytes, (const char *)values + i * value_bytes,
                   (size_t)(n * value_bytes));
            bounds[part] += n;
            i += n;
        }
    }
    for (int64_t part = n_parts; part > 0; part--) bounds[part] = bounds[part - 1];
    bounds[0] = 0;
}

/* Split rows [start, stop) at the columns `edges` (n_parts + 1, from 0 to the width). Columns have `width` bytes (2 or
   4), values `value_bytes`, which are copied as they are. The output holds part after part, and in a part each row's
   slice; `lengths` (n_parts x rows) and `bounds` (n_parts + 1) tell where the slices are. */
void cw_split_rows(const int64_t *indptr, int64_t start, int64_t stop, const void *columns, int32_t width,
                   const void *values, int32_t value_bytes, const int32_t *edges, int64_t n_parts, int32_t *lengths,
                   int64_t *bounds, void *out_columns, void *out_values) {
    if (width == 2)
        split_rows(indptr, start, stop, columns, 2, values, value_bytes, edges, n_parts, lengths, bounds, out_columns,
                   out_values);
    else
        split_rows(indptr, start, stop, columns, 4, values, value_bytes, edges, n_parts, lengths, bounds, out_columns,
                   out_values);
}
