/* Reads R's serialisation: vectors are big-endian at any alignment; strings come one after another, each with a flag
   word and a length. The code checks every read against the end of the source. */
#include "cellworker.h"

#include <string.h>

#include "strings.h"

static inline uint32_t load32(const uint8_t *source) {
    uint32_t word;
    memcpy(&word, source, sizeof word);
    return __builtin_bswap32(word);
}

static inline uint64_t load64(const uint8_t *source) {
    uint64_t word;
    memcpy(&word, source, sizeof word);
    return __builtin_bswap64(word);
}

void cw_rds_swap32(const uint8_t *source, int64_t count, uint32_t *out) {
    for (int64_t i = 0; i < count; i++) out[i] = load32(source + 4 * i);
}

void cw_rds_swap64(const uint8_t *source, int64_t count, uint64_t *out) {
    for (int64_t i = 0; i < count; i++) out[i] = load64(source + 8 * i);
}

void cw_rds_doubles_to_floats(const uint8_t *source, int64_t count, float *out) {
    for (int64_t i = 0; i < count; i++) {
        uint64_t word = load64(source + 8 * i);
        double value;
        memcpy(&value, &word, sizeof value);
        out[i] = (float)value;
    }
}

enum { HAS_ATTRIBUTES = 0x200, LATIN1 = 4 << 12, UTF8 = 8 << 12 };

static inline uint32_t word_at(const uint8_t *source, int32_t little) {
    uint32_t word;
    memcpy(&word, source, sizeof word);
    return little ? word : __builtin_bswap32(word);
}

/* Reads up to `count` strings from `source` (`size` bytes): their text goes to `text` (`size` bytes), the end of each
   in it to `ends`, and whether it is NA to `missing` (`count`). Returns the number of strings read; `state` gets the
   bytes taken and the bytes of text. It stops early at the source's end, and before any string that is not plain:
   another type, attributes, a wrong length, a NUL, or an encoding that needs conversion. `native_utf8` says that text
   without a mark is UTF-8, `little` that words are little-endian. */
int64_t cw_rds_strings(const uint8_t *source, int64_t size, int64_t count, int32_t native_utf8, int32_t little,
                       uint8_t *text, int64_t *ends, uint8_t *missing, int64_t *state) {
    int64_t done = 0, taken = 0, written = 0;
    while (done < count && size - taken >= 8) {
        uint32_t flags = word_at(source + taken, little);
        int32_t length = (int32_t)word_at(source + taken + 4, little);
        if ((flags & 0xFF) != 9 || (flags & HAS_ATTRIBUTES) || length < -1) break;
        missing[done] = length == -1;
        if (length > 0) {
            const uint8_t *content = source + taken + 8;
            if (size - taken - 8 < length) break;
            int kind = classify(content, length);
            if (kind == HOLDS_NUL || kind == OTHER) break;
            if (kind == VALID_UTF8 && ((flags & LATIN1) || !(native_utf8 || (flags & UTF8)))) break;
            memcpy(text + written, content, (size_t)length);
            written += length;
            taken += length;
        }
        taken += 8;
        ends[done++] = written;
    }
    state[0] = taken;
    state[1] = written;
    return done;
}

/* Skips up to `count` strings; otherwise as above. */
int64_t cw_rds_skip_strings(const uint8_t *source, int64_t size, int64_t count, int32_t little, int64_t *state) {
    int64_t done = 0, taken = 0;
    while (done < count && size - taken >= 8) {
        uint32_t flags = word_at(source + taken, little);
        int32_t length = (int32_t)word_at(source + taken + 4, little);
        if ((flags & 0xFF) != 9 || (flags & HAS_ATTRIBUTES) || length < -1) break;
        if (length > 0) {
            if (size - taken - 8 < length) break;
            taken += length;
        }
        taken += 8;
        done++;
    }
    state[0] = taken;
    return done;
}
