/* Reads files of R's package qs: the XXH32 check value of blocks, vectors whose bytes are sorted by significance
   ("shuffled"), and strings that come one after another. The code checks every read against the end of the source, and
   every write against the size of the output. */
#include "cellworker.h"

#include <string.h>

#include "strings.h"

/* ---- XXH32 ---- */

enum { STRIPE = 16 };
static const uint32_t P1 = 0x9E3779B1u, P2 = 0x85EBCA77u, P3 = 0xC2B2AE3Du, P4 = 0x27D4EB2Fu, P5 = 0x165667B1u;

struct QsHash {
    uint64_t total;
    uint32_t lane[4];
    uint32_t seed, held;
    uint8_t rest[STRIPE];
};

static inline uint32_t rotate(uint32_t x, int by) { return x << by | x >> (32 - by); }

static inline uint32_t little32(const uint8_t *source) {
    return (uint32_t)source[0] | (uint32_t)source[1] << 8 | (uint32_t)source[2] << 16 | (uint32_t)source[3] << 24;
}

static inline void stripe(uint32_t *lane, const uint8_t *source) {
    for (int i = 0; i < 4; i++) lane[i] = rotate(lane[i] + little32(source + 4 * i) * P2, 13) * P1;
}

int64_t cw_qs_hash_size(void) { return (int64_t)sizeof(QsHash); }

void cw_qs_hash_start(QsHash *state, uint32_t seed) {
    memset(state, 0, sizeof *state);
    state->seed = seed;
    state->lane[0] = seed + P1 + P2;
    state->lane[1] = seed + P2;
    state->lane[2] = seed;
    state->lane[3] = seed - P1;
}

void cw_qs_hash_add(QsHash *state, const uint8_t *source, int64_t size) {
    state->total += (uint64_t)size;
    if (state->held) {
        int64_t lacking = STRIPE - (int64_t)state->held, here = size < lacking ? size : lacking;
        memcpy(state->rest + state->held, source, (size_t)here);
        state->held += (uint32_t)here;
        source += here;
        size -= here;
        if (state->held < STRIPE) return;
        stripe(state->lane, state->rest);
        state->held = 0;
    }
    uint32_t lane[4];
    memcpy(lane, state->lane, sizeof lane);
    for (; size >= STRIPE; size -= STRIPE, source += STRIPE) stripe(lane, source);
    memcpy(state->lane, lane, sizeof lane);
    memcpy(state->rest, source, (size_t)size);
    state->held = (uint32_t)size;
}

uint32_t cw_qs_hash_value(const QsHash *state) {
    const uint32_t *lane = state->lane;
    uint32_t hash = state->seed + P5;
    if (state->total >= STRIPE)
        hash = rotate(lane[0], 1) + rotate(lane[1], 7) + rotate(lane[2], 12) + rotate(lane[3], 18);
    hash += (uint32_t)state->total;
    uint32_t at = 0;
    for (; at + 4 <= state->held; at += 4) hash = rotate(hash + little32(state->rest + at) * P3, 17) * P4;
    for (; at < state->held; at++) hash = rotate(hash + state->rest[at] * P5, 11) * P1;
    hash = (hash ^ hash >> 15) * P2;
    hash = (hash ^ hash >> 13) * P3;
    return hash ^ hash >> 16;
}

/* ---- vectors ----
   `planes` holds the first byte of each of `n` elements, then the second of each, and so on. Elements `start` to `start
   + count` are put together again. */

void cw_qs_unshuffle32(const uint8_t *planes, int64_t n, int64_t start, int64_t count, uint32_t *out) {
    const uint8_t *p = planes + start;
    for (int64_t i = 0; i < count; i++)
        out[i] = (uint32_t)p[i] | (uint32_t)p[i + n] << 8 | (uint32_t)p[i + 2 * n] << 16 | (uint32_t)p[i + 3 * n] << 24;
}

static inline uint64_t gather64(const uint8_t *p, int64_t n) {
    uint64_t word = 0;
    for (int k = 0; k < 8; k++) word |= (uint64_t)p[k * n] << (8 * k);
    return word;
}

void cw_qs_unshuffle64(const uint8_t *planes, int64_t n, int64_t start, int64_t count, uint64_t *out) {
    for (int64_t i = 0; i < count; i++) out[i] = gather64(planes + start + i, n);
}

void cw_qs_unshuffle_to_floats(const uint8_t *planes, int64_t n, int64_t start, int64_t count, float *out) {
    for (int64_t i = 0; i < count; i++) {
        uint64_t word = gather64(planes + start + i, n);
        double value;
        memcpy(&value, &word, sizeof value);
        out[i] = (float)value;
    }
}

/* ---- strings ----
   The first byte of a string holds its encoding (two bits) and either its length (five bits, marked by 0x20) or how
   many bytes the length takes; 15 there is NA. */

enum {
    ENCODING = 0xC0,
    LATIN1 = 0x80,
    SHORT = 0x20,
    LENGTH = 0x1F,
    LENGTH8 = 1,
    LENGTH16 = 2,
    LENGTH32 = 3,
    MISSING = 15
};

/* As cw_rds_strings: reads up to `count` strings, their text to `text` (of `size` bytes), the end of each to
   `ends`, and whether it is NA to `missing`. Returns how many; `state` gets the bytes taken and the bytes of text.
   Stops at the source's end and before any string that is not plain. */
int64_t cw_qs_strings(const uint8_t *source, int64_t size, int64_t count, uint8_t *text, int64_t *ends,
                      uint8_t *missing, int64_t *state) {
    int64_t done = 0, taken = 0, written = 0;
    while (done < count && taken < size) {
        uint8_t head = source[taken], form = head & LENGTH;
        int64_t length = form, at = taken + 1;
        missing[done] = 0;
        if (!(head & SHORT)) {
            int width = form == LENGTH8 ? 1 : form == LENGTH16 ? 2 : form == LENGTH32 ? 4 : 0;
            if (!width && form != MISSING) break;
            if (size - at < width) break;
            length = 0;
            for (int k = 0; k < width; k++) length |= (int64_t)source[at + k] << (8 * k);
            at += width;
            missing[done] = form == MISSING;
        }
        if (length > size - at) break;
        if (length) {
            int kind = classify(source + at, length);
            if (kind == HOLDS_NUL || kind == OTHER) break;
            if (kind == VALID_UTF8 && (head & ENCODING) >= LATIN1) break;
            memcpy(text + written, source + at, (size_t)length);
            written += length;
        }
        taken = at + length;
        ends[done++] = written;
    }
    state[0] = taken;
    state[1] = written;
    return done;
}
