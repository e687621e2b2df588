/* Unpacks vectors of BPCells: blocks of 128 values, each with as few bits as the block needs, in four interleaved bit
 * streams. The code checks everything the file says: no read leaves `words`, `idx` or `starts`, no write leaves `out`.
 * */
#include "cellworker.h"

enum { BLOCK = 128, LANES = 4 };

static void unpack_block(const uint32_t *words, int bits, uint32_t *out) {
    if (!bits) {
        for (int k = 0; k < BLOCK; k++) out[k] = 0;
        return;
    }
    uint32_t mask = bits == 32 ? UINT32_MAX : (1u << bits) - 1;
    for (int slot = 0; slot < BLOCK / LANES; slot++) {
        int at = slot * bits, word = at / 32, shift = at % 32;
        for (int lane = 0; lane < LANES; lane++) {
            uint32_t value = words[word * LANES + lane] >> shift;
            if (shift + bits > 32) value |= words[(word + 1) * LANES + lane] << (32 - shift);
            out[slot * LANES + lane] = value & mask;
        }
    }
}

/* Decodes the values `from[r]` to `to[r]` of each of `n_ranges`, one range after another, to `out`.
 *
 * words, n_words: the packed data.
 * idx: where each block begins in `words`, n_blocks + 1 numbers modulo 2^32.
 * offsets: offsets[k] is the first block whose begin is at k * 2^32 or later; the first and last element are not used.
 *   begin of block b = idx[b] + 2^32 * (how many of offsets[1 .. n_offsets - 2] are <= b).
 *   Example: idx = {5, 9, 3} and offsets = {0, 2, 3} give begins 5, 9 and 2^32 + 3.
 * starts: the value before each block's first, for differences in zig-zag form; NULL for values stored minus one.
 *
 * Returns 0, or -(b + 1) for a broken block b. The caller has checked that ranges lie within n_blocks * 128. */
int64_t cw_bpcells_unpack(const uint32_t *words, int64_t n_words, const uint32_t *idx, int64_t n_blocks,
                          const uint64_t *offsets, int64_t n_offsets, const uint32_t *starts, const int64_t *from,
                          const int64_t *to, int64_t n_ranges, uint32_t *out) {
    uint32_t block[BLOCK];
    int64_t held = -1;
    for (int64_t r = 0; r < n_ranges; r++) {
        for (int64_t at = from[r]; at < to[r];) {
            int64_t b = at / BLOCK;
            if (b >= n_blocks) return -b - 1;
            if (b != held) {
                uint64_t begin = idx[b], end = idx[b + 1];
                for (int64_t k = 1; k < n_offsets - 1; k++) {
                    begin += (uint64_t)(offsets[k] <= (uint64_t)b) << 32;
                    end += (uint64_t)(offsets[k] <= (uint64_t)b + 1) << 32;
                }
                if (end < begin || end > (uint64_t)n_words || (end - begin) % LANES || (end - begin) / LANES > 32)
                    return -b - 1;
                unpack_block(words + begin, (int)((end - begin) / LANES), block);
                if (starts) {
                    uint32_t value = starts[b];
                    for (int k = 0; k < BLOCK; k++) {
                        value += block[k] >> 1 ^ (0u - (block[k] & 1));
                        block[k] = value;
                    }
                } else
                    for (int k = 0; k < BLOCK; k++) block[k] += 1;
                held = b;
            }
            int64_t stop = (b + 1) * BLOCK < to[r] ? (b + 1) * BLOCK : to[r];
            for (; at < stop; at++) *out++ = block[at - b * BLOCK];
        }
    }
    return 0;
}
