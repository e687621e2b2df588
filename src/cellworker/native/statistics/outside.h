/* Whether all entries of a block name existing cells. A kernel checks each block before it counts by its cells. */
#ifndef CW_OUTSIDE_H
#define CW_OUTSIDE_H

#include <stdint.h>

#include "dispatch.h"

enum { CELLS_AT_ONCE = 16 };

/* The top bit is set if a cell is beyond `last_cell`. */
INLINE uint32_t outside_bits(const int32_t *cells, int64_t n, uint32_t last_cell) {
    uint32_t outside = 0;
    for (int64_t i = 0; i < n; i++) outside |= (uint32_t)cells[i] | (last_cell - (uint32_t)cells[i]);
    return outside;
}

/* The top bit is set if a cell is beyond `last_cell`. The loop prefetches the values too: the memory bandwidth suffices
   for both. */
INLINE uint32_t any_outside(const int32_t *cells, const void *values, int64_t n, uint32_t last_cell) {
    uint32_t outside = 0;
    int64_t i = 0;
    for (; i + CELLS_AT_ONCE <= n; i += CELLS_AT_ONCE) {
        __builtin_prefetch((const char *)values + 4 * i);
        for (int64_t k = 0; k < CELLS_AT_ONCE; k++)
            outside |= (uint32_t)cells[i + k] | (last_cell - (uint32_t)cells[i + k]);
    }
    return outside | outside_bits(cells + i, n - i, last_cell);
}

#endif
