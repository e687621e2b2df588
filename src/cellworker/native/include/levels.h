/* Values that counts stand for: each row lists its distinct counts, ascending, and the value of each. Nothing here
 * trusts the lists: the code detects a count that its row does not list. */
#ifndef LEVELS_H
#define LEVELS_H

#include <stdint.h>

typedef struct {
    const int64_t *first; /* n_rows + 1: where each row's levels are */
    const void *counts;   /* of the same width as the counts of the matrix */
    const float *values;
    int64_t size; /* of both lists */
} Levels;

/* The level of a count in [low, high), or -1. Counts are distinct and at least 1, so count c is at place c - 1 or
 * before it. Small counts leave few gaps, so it is nearly always at c - 1. */
#define FIND_LEVEL(NAME, TYPE)                                                              \
    static inline int64_t NAME(const TYPE *counts, int64_t low, int64_t high, TYPE count) { \
        int64_t last = low + (int64_t)count - 1;                                            \
        if (last >= high) last = high - 1;                                                  \
        if (last < low) return -1;                                                          \
        if (counts[last] == count) return last;                                             \
        while (low < last) {                                                                \
            const int64_t middle = low + (last - low) / 2;                                  \
            if (counts[middle] < count) low = middle + 1;                                   \
            else last = middle;                                                             \
        }                                                                                   \
        return counts[low] == count ? low : -1;                                             \
    }
FIND_LEVEL(find_level_u8, uint8_t)
FIND_LEVEL(find_level_u16, uint16_t)
FIND_LEVEL(find_level_u32, uint32_t)

/* The place of the level of entry i of a row, -1 where there is none; `width` is a constant where this is used. */
static inline int64_t level_of(const Levels *levels, int64_t row, const void *counts, int32_t width, int64_t i) {
    const int64_t low = levels->first[row], high = levels->first[row + 1];
    if (low < 0 || high > levels->size) return -1;
    if (width == 1) return find_level_u8(levels->counts, low, high, ((const uint8_t *)counts)[i]);
    if (width == 2) return find_level_u16(levels->counts, low, high, ((const uint16_t *)counts)[i]);
    return find_level_u32(levels->counts, low, high, ((const uint32_t *)counts)[i]);
}

#endif
