/* Genes of the gene-major matrix as JSON text, by ascending row: the values, and the rows that hold them.
 *
 * The values of a gene are stored in ascending order, so equal ones are neighbours. Each different value becomes text
 * once, and its text is copied to every row that has it.
 */
#include "cellworker.h"

#include <string.h>

#include "decimal_text.h"
#include "dispatch.h"

enum {
    UNIT = 4,         /* texts begin at multiples of so many bytes: a place then fits in 32 bits */
    LENGTH_BITS = 5,  /* the lower bits of a place hold the length of the text, comma included */
    TEXT_BYTES = 32,  /* no text is longer, and so many bytes of it may be copied */
    SHORT_BYTES = 16, /* nearly all texts of expression are shorter */
    BLOCK = 1 << 10   /* entries whose different values stay in the L1 cache */
};

INLINE uint32_t bits_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* The digits of n positive or negative normal floats of one exponent, as `shortest` finds them: `power` and
 * `half_width` are its own, `digits` are at its scale 10^k and end in a zero where one digit less is enough. `unsure`
 * is not 0 where the full method has to decide. */
INLINE void find_digits(const uint32_t *bits, int64_t n, uint64_t power, uint32_t *restrict digits,
                        uint32_t *restrict unsure) {
    const uint64_t one = (uint64_t)1 << 36, ten = 10 * one, margin = 8, half_width = power >> 25;
    const uint64_t high = power >> 32, low = power & 0xffffffffu;
    for (int64_t i = 0; i < n; i++) {
        const uint64_t fraction = bits[i] & 0x7fffff, c = fraction | 0x800000;
        const uint64_t value = ((high * c) << 8) + ((low * c) >> 24); /* floor(power * c / 2^24) */
        const uint64_t tens = ((value >> 36) * 0xcccccccdu) >> 35;    /* a tenth of it */
        const uint64_t above = value - tens * ten, below = ten - above, part = value & (one - 1);
        const uint64_t up = below < half_width, shorter = (above < half_width) | up;
        const uint64_t full = (value + one / 2) >> 36, short_one = 10 * (tens + up);
        digits[i] = (uint32_t)(full ^ ((full ^ short_one) & (0 - shorter)));
        unsure[i] = (above - half_width + margin <= 2 * margin) | (below - half_width + margin <= 2 * margin) |
                    (part - one / 2 + margin <= 2 * margin) | (fraction == 0);
    }
}

/* n numbers that are below 10^9 after the multiplication: their first of nine digits, and the others as bytes. */
INLINE void split_digits(const uint32_t *digits, int64_t n, uint32_t times, uint32_t *restrict first,
                         uint64_t *restrict rest) {
    for (int64_t i = 0; i < n; i++) {
        const uint32_t nine = digits[i] * times, top = nine / 100000000;
        first[i] = top;
        rest[i] = eight_digits(nine - top * 100000000);
    }
}

/* Writes a comma, says in `place` where the text is, and returns where the next one begins. */
INLINE char *end_text(const char *texts, char *begin, char *end, uint32_t *place) {
    *end++ = ',';
    *place = (uint32_t)((begin - texts) / UNIT) << LENGTH_BITS | (uint32_t)(end - begin);
    return begin + (end - begin + UNIT - 1) / UNIT * UNIT;
}

INLINE char *put_one(const char *texts, char *at, uint32_t bits, uint32_t *place) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return end_text(texts, at, put_json_float(at, value), place);
}

/* Texts of numbers of one sign with `whole` digits before the point, -4 to 8. */
INLINE char *lay_out(const uint32_t *bits, int64_t n, const uint32_t *first, const uint64_t *rest,
                     const uint32_t *unsure, int whole, const char *texts, char *at, uint32_t *places) {
    const int minus = n && bits[0] >> 31;
    const int before = minus + (whole > 0 ? 0 : 2 - whole), shift = whole > 0 ? whole - 1 : 0;
    const char *head = minus ? "-0.0000" : "0.0000\0"; /* eight bytes, the last is 0 */
    for (int64_t i = 0; i < n; i++) {
        if (unsure[i]) {
            at = put_one(texts, at, bits[i], places + i);
            continue;
        }
        const int more = (70 - __builtin_clzll(rest[i] << 1 | 1)) >> 3; /* without zeros at the end */
        const uint64_t text = rest[i] + ASCII_ZEROS;
        char *digits = at + before;
        memcpy(at, head, 8);
        *digits = (char)('0' + first[i]);
        memcpy(digits + 1, &text, 8);
        int length = 1 + more;
        if (whole > 0) {
            const uint64_t tail = text >> (8 * shift);
            digits[whole] = '.';
            memcpy(digits + whole + 1, &tail, 8);
            length = whole + 1 + (more > shift ? more - shift : 1);
        }
        at = end_text(texts, at, digits + length, places + i);
    }
    return at;
}

/* Writes texts of at most BLOCK different values in ascending order, and returns where the next one begins; `places`
 * says where each is. Neighbours share exponent and layout, so both are decided once for many. */
INLINE char *put_texts(const uint32_t *bits, int64_t n, const char *texts, char *at, uint32_t *places) {
    uint32_t digits[BLOCK], unsure[BLOCK], first[BLOCK];
    uint64_t rest[BLOCK];
    for (int64_t from = 0, to; from < n; from = to) {
        const uint32_t exponent = bits[from] >> 23, biased = exponent & 0xff;
        for (to = from + 1; to < n && bits[to] >> 23 == exponent;) to++;
        if (biased == 0 || biased == 0xff) {
            for (int64_t i = from; i < to; i++) at = put_one(texts, at, bits[i], places + i);
            continue;
        }
        const scale of = scale_of((int32_t)biased - 150);
        find_digits(bits + from, to - from, of.power, digits + from, unsure + from);
        for (int64_t i = from, next; i < to; i = next) {
            const int count = digit_count(digits[i]), whole = count + of.k;
            const uint32_t least = POWERS[count - 1];
            for (next = i + 1; next < to && digits[next] - least < 9 * least;) next++;
            if (whole > -5 && whole < 9 && count < 10) {
                split_digits(digits + i, next - i, POWERS[9 - count], first, rest);
                at = lay_out(bits + i, next - i, first, rest, unsure + i, whole, texts, at, places + i);
            } else {
                for (int64_t k = i; k < next; k++) at = put_one(texts, at, bits[k], places + k);
            }
        }
    }
    return at;
}

/* Whether a cell does not exist. */
INLINE int any_outside(const int32_t *cells, int64_t n, int64_t n_cells) {
    uint32_t largest = 0;
    for (int64_t i = 0; i < n; i++) largest = (uint32_t)cells[i] > largest ? (uint32_t)cells[i] : largest;
    return n > 0 && largest >= (uint64_t)n_cells;
}

#define VALUES_ARGUMENTS                                                                                          \
    const int32_t *cells, const float *values, int64_t n, const int32_t *row_of, int64_t n_cells, int64_t n_rows, \
        char *texts, uint32_t *place, uint64_t *marks, int64_t *count, char *out

INLINE int64_t values_json(VALUES_ARGUMENTS) {
    char *next = texts;
    uint32_t different[BLOCK];
    uint32_t at_place[BLOCK + 1] = {0}, last = n ? ~bits_of(values[0]) : 0;
    for (int64_t begin = 0; begin < n; begin += BLOCK) {
        const int64_t end = n - begin > BLOCK ? begin + BLOCK : n;
        const uint32_t before = last;
        if (any_outside(cells + begin, end - begin, n_cells)) return -1;
        int64_t runs = 0;
        for (int64_t i = begin; i < end; i++) { /* no branch: the processor cannot predict which values are equal */
            const uint32_t bits = bits_of(values[i]);
            runs += bits != last;
            different[runs ? runs - 1 : 0] = bits;
            last = bits;
        }
        next = put_texts(different, runs, texts, next, at_place + 1);
        last = before;
        const uint32_t *here = at_place;
        for (int64_t i = begin; i < end; i++) {
            const uint32_t bits = bits_of(values[i]);
            here += bits != last;
            last = bits;
            const int32_t row = row_of[cells[i]];
            place[row] = *here;
            marks[row >> 6] |= (uint64_t)1 << (row & 63);
        }
        at_place[0] = at_place[runs];
    }
    char *at = out;
    int64_t found = 0;
    for (int64_t word = 0; word < (n_rows + 63) / 64; word++) {
        uint64_t left = marks[word];
        marks[word] = 0;
        found += __builtin_popcountll(left);
        while (left) {
            const uint32_t from = place[word * 64 + __builtin_ctzll(left)], length = from & (TEXT_BYTES - 1);
            const char *text = texts + (size_t)(from >> LENGTH_BITS) * UNIT;
            left &= left - 1;
            memcpy(at, text, SHORT_BYTES);
            if (length > SHORT_BYTES) memcpy(at + SHORT_BYTES, text + SHORT_BYTES, TEXT_BYTES - SHORT_BYTES);
            at += length;
        }
    }
    *count = found;
    return at - out;
}

#define VALUES(NAME)                                                                                    \
    static int64_t NAME(VALUES_ARGUMENTS) {                                                             \
        return values_json(cells, values, n, row_of, n_cells, n_rows, texts, place, marks, count, out); \
    }
VALUES(values_plain)
#ifdef CW_AVX512
CW_AVX2 VALUES(values_avx2)
CW_AVX512 VALUES(values_avx512)
#endif

/* One gene's values by ascending row, a comma after each.
 *
 * cells, values: the n entries of a gene, equal values together; row_of[cell] (0 .. n_rows - 1) is a different row for
 * every one of n_cells cells. Scratch: texts (28 n + 64 bytes), place (n_rows numbers), marks (n_rows bits in whole
 * words, zero before and, without an error, after). n is below 2^27 / 7, so that places fit. `out` holds 26 bytes an
 * entry and 32 more. Returns the length, and in `count` the number of values; or -1 for a cell that does not exist.
 * `widest` is 0 for a processor's plain registers, 1 for those of AVX2 at most, 2 for any.
 */
int64_t cw_gene_values_json(VALUES_ARGUMENTS, int32_t widest) {
    int64_t (*write)(VALUES_ARGUMENTS) = values_plain;
#ifdef CW_AVX512
    if (widest > 0 && cw_has_avx2()) write = values_avx2;
    if (widest > 1 && cw_has_avx512()) write = values_avx512;
#else
    (void)widest;
#endif
    return write(cells, values, n, row_of, n_cells, n_rows, texts, place, marks, count, out);
}

/* One gene's rows in ascending order, a comma after each.
 *
 * As above. `out` holds 12 bytes an entry and 32 more. Returns the length, or -1 for a cell that does not exist. */
int64_t cw_gene_rows_json(const int32_t *cells, int64_t n, const int32_t *row_of, int64_t n_cells, int64_t n_rows,
                          uint64_t *marks, char *out) {
    if (any_outside(cells, n, n_cells)) return -1;
    for (int64_t i = 0; i < n; i++) {
        const int32_t row = row_of[cells[i]];
        marks[row >> 6] |= (uint64_t)1 << (row & 63);
    }
    char pairs[100][4]; /* the last two digits of a row, and the comma */
    for (int i = 0; i < 100; i++) memcpy(pairs[i], (char[4]){(char)('0' + i / 10), (char)('0' + i % 10), ',', 0}, 4);
    char *at = out;
    char hundreds[16] = {0}; /* the digits before those */
    int64_t first = 0, length = 0;
    for (int64_t word = 0; word < (n_rows + 63) / 64; word++) {
        uint64_t left = marks[word];
        marks[word] = 0;
        while (left) {
            const int64_t row = word * 64 + __builtin_ctzll(left);
            left &= left - 1;
            if (row < 100) {
                at = put_uint(at, (uint32_t)row);
                *at++ = ',';
                continue;
            }
            if (row >= first + 100) {
                first = row - row % 100;
                length = put_uint(hundreds, (uint32_t)(first / 100)) - hundreds;
            }
            memcpy(at, hundreds, 8);
            memcpy(at + length, pairs[row - first], 4);
            at += length + 3;
        }
    }
    return at - out;
}
