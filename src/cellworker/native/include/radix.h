/* Least-significant-digit radix sort of 64-bit entries by their upper half, for rows and for genes. */
#ifndef CELLWORKER_RADIX_H
#define CELLWORKER_RADIX_H

#include <stdint.h>

enum { RADIX_BITS = 11, RADIX_PASSES = 6 };

/* Sort `n` < 2^32 entries ascending and split them: `high` gets the sort keys, `low` the payloads. Stable, so payloads
   that come in ascending order stay ascending among equal keys. `a` and `b` are both overwritten.
 */
static void radix_split(uint64_t *a, int64_t n, uint64_t *b, uint32_t *low, uint32_t *high) {
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
    const int widest = n < 200 ? 6 : n < 1500 ? 8 : n < 6000 ? 9 : RADIX_BITS;
    const int passes = (bits + widest - 1) / widest;
    const int width = (bits + passes - 1) / passes;
    const uint32_t mask = (1u << width) - 1;
    uint32_t counts[RADIX_PASSES][1 << RADIX_BITS];
    for (int p = 0; p < passes; p++)
        for (uint32_t d = 0; d <= mask; d++) counts[p][d] = 0;
    if (passes == 3) {
        for (int64_t i = 0; i < n; i++) {
            const uint32_t key = (uint32_t)(a[i] >> 32) - base;
            counts[0][key & mask]++;
            counts[1][(key >> width) & mask]++;
            counts[2][key >> (2 * width)]++;
        }
    } else {
        for (int64_t i = 0; i < n; i++) {
            uint32_t key = (uint32_t)(a[i] >> 32) - base;
            for (int p = 0; p < passes; p++, key >>= width) counts[p][key & mask]++;
        }
    }
    for (int p = 0; p < passes; p++) {
        uint32_t total = 0;
        for (uint32_t d = 0; d <= mask; d++) {
            const uint32_t count = counts[p][d];
            counts[p][d] = total;
            total += count;
        }
    }
    int shift = 0;
    for (int p = 0; p + 1 < passes; p++, shift += width) {
        uint32_t *next = counts[p];
        for (int64_t i = 0; i < n; i++) {
            const uint64_t entry = a[i];
            b[next[(((uint32_t)(entry >> 32) - base) >> shift) & mask]++] = entry;
        }
        uint64_t *swap = a;
        a = b;
        b = swap;
    }
    uint32_t *next = counts[passes - 1];
    for (int64_t i = 0; i < n; i++) {
        const uint32_t key = (uint32_t)(a[i] >> 32);
        const uint32_t slot = next[((key - base) >> shift) & mask]++;
        low[slot] = (uint32_t)a[i];
        high[slot] = key;
    }
}

#endif
