/* Least-significant-digit radix sort of 64-bit entries by their upper half, for rows and for genes. */
#ifndef CELLWORKER_RADIX_H
#define CELLWORKER_RADIX_H

#include <stdint.h>

#include "dispatch.h"

/* Two wide passes take less than three narrow ones where clearing and summing the counters is soon paid, and the
   entries stay in a cache of a megabyte. */
enum { RADIX_BITS = 11, RADIX_WIDE_BITS = 13, RADIX_WIDE_LEAST = 12000, RADIX_WIDE_MOST = 60000 };
enum { RADIX_COUNTERS = 2 << RADIX_WIDE_BITS };

/* Sort `n` < 2^32 entries ascending and split them: `high` gets the sort keys, `low` the payloads. Stable, so payloads
   that come in ascending order stay ascending among equal keys. `a` and `b` are both overwritten.
 */
INLINE void radix_split(uint64_t *a, int64_t n, uint64_t *b, uint32_t *low, uint32_t *high) {
    if (n <= 24) {
        for (int64_t i = 1; i < n; i++) {
            uint64_t entry = a[i];
            int64_t j = i;
            for (; j > 0 && (a[j - 1] >> 32) > (entry >> 32); j--) a[j] = a[j - 1];
            a[j] = entry;
        }
        for (int64_t i = 0; i < n; i++) {
            low[i] = (uint32_t)a[i];
            high[i] = (uint32_t)(a[i] >> 32);
        }
        return;
    }
    uint64_t smallest = a[0], largest = a[0];
    for (int64_t i = 1; i < n; i++) {
        smallest = a[i] < smallest ? a[i] : smallest;
        largest = a[i] > largest ? a[i] : largest;
    }
    const uint32_t base = (uint32_t)(smallest >> 32);
    const uint32_t span = (uint32_t)(largest >> 32) - base;
    if (span == 0) {
        for (int64_t i = 0; i < n; i++) {
            low[i] = (uint32_t)a[i];
            high[i] = base;
        }
        return;
    }
    /* Keys of one gene span few exponents, so the digits are those of the distance to the smallest key. Small inputs
       get narrow digits: clearing and summing many counters would cost more than moving the entries. */
    int bits = 0;
    while (bits < 32 && (span >> bits) != 0) bits++;
    const int narrow = n < 200 ? 6 : n < 1500 ? 8 : n < 6000 ? 9 : RADIX_BITS;
    const int is_wide = n >= RADIX_WIDE_LEAST && n <= RADIX_WIDE_MOST && bits <= 2 * RADIX_WIDE_BITS;
    const int widest = is_wide ? RADIX_WIDE_BITS : narrow;
    const int passes = (bits + widest - 1) / widest;
    const int width = (bits + passes - 1) / passes;
    const uint32_t mask = (1u << width) - 1;
    uint32_t counters[RADIX_COUNTERS];
    for (int64_t d = 0; d < (int64_t)passes << width; d++) counters[d] = 0;
    if (passes == 2) {
        uint32_t *second = counters + (1 << width);
        for (int64_t i = 0; i < n; i++) {
            const uint32_t key = (uint32_t)(a[i] >> 32) - base;
            counters[key & mask]++;
            second[key >> width]++;
        }
    } else if (passes == 3) {
        uint32_t *second = counters + (1 << width), *third = counters + (2 << width);
        for (int64_t i = 0; i < n; i++) {
            const uint32_t key = (uint32_t)(a[i] >> 32) - base;
            counters[key & mask]++;
            second[(key >> width) & mask]++;
            third[key >> (2 * width)]++;
        }
    } else {
        for (int64_t i = 0; i < n; i++) {
            uint32_t key = (uint32_t)(a[i] >> 32) - base;
            for (int p = 0; p < passes; p++, key >>= width) counters[(p << width) + (int)(key & mask)]++;
        }
    }
    for (int p = 0; p < passes; p++) {
        uint32_t total = 0, *own = counters + (p << width);
        for (uint32_t d = 0; d <= mask; d++) {
            const uint32_t count = own[d];
            own[d] = total;
            total += count;
        }
    }
    int shift = 0;
    for (int p = 0; p + 1 < passes; p++, shift += width) {
        uint32_t *next = counters + (p << width);
        for (int64_t i = 0; i < n; i++) {
            const uint64_t entry = a[i];
            b[next[(((uint32_t)(entry >> 32) - base) >> shift) & mask]++] = entry;
        }
        uint64_t *swap = a;
        a = b;
        b = swap;
    }
    uint32_t *next = counters + ((passes - 1) << width);
    for (int64_t i = 0; i < n; i++) {
        const uint32_t key = (uint32_t)(a[i] >> 32);
        const uint32_t slot = next[((key - base) >> shift) & mask]++;
        low[slot] = (uint32_t)a[i];
        high[slot] = key;
    }
}

#endif
