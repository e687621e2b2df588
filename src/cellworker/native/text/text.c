/* Numbers as text: what goes on the wire and into CSV files.
 *
 * A float becomes the shortest decimal that reads back as the same float; of several, the closest to it. The method is
 * R. Giulietti's, "The Schubfach way to render doubles" (2020/2022), for 24-bit significands. It multiplies a float c *
 * 2^q and the ends of its rounding interval by 4 * 10^-k, with one 64 x 32 bit product each, rounded to odd. One
 * comparison with a multiple of 10 and one with its neighbours then decide the digits.
 */
#include "cellworker.h"

#include <math.h>
#include <string.h>

/* POWERS[e + 31] = ceil(10^e * 2^(63 - floor(log2(10^e)))) for e = -31 .. 45; tests/analysis/test_number_text.py
 * recomputes it. */
const uint64_t cw_powers_of_ten[77] = {
    0x81ceb32c4b43fcf5u, 0xa2425ff75e14fc32u, 0xcad2f7f5359a3b3fu, 0xfd87b5f28300ca0eu, 0x9e74d1b791e07e49u,
    0xc612062576589ddbu, 0xf79687aed3eec552u, 0x9abe14cd44753b53u, 0xc16d9a0095928a28u, 0xf1c90080baf72cb2u,
    0x971da05074da7befu, 0xbce5086492111aebu, 0xec1e4a7db69561a6u, 0x9392ee8e921d5d08u, 0xb877aa3236a4b44au,
    0xe69594bec44de15cu, 0x901d7cf73ab0acdau, 0xb424dc35095cd810u, 0xe12e13424bb40e14u, 0x8cbccc096f5088ccu,
    0xafebff0bcb24aaffu, 0xdbe6fecebdedd5bfu, 0x89705f4136b4a598u, 0xabcc77118461cefdu, 0xd6bf94d5e57a42bdu,
    0x8637bd05af6c69b6u, 0xa7c5ac471b478424u, 0xd1b71758e219652cu, 0x83126e978d4fdf3cu, 0xa3d70a3d70a3d70bu,
    0xcccccccccccccccdu, 0x8000000000000000u, 0xa000000000000000u, 0xc800000000000000u, 0xfa00000000000000u,
    0x9c40000000000000u, 0xc350000000000000u, 0xf424000000000000u, 0x9896800000000000u, 0xbebc200000000000u,
    0xee6b280000000000u, 0x9502f90000000000u, 0xba43b74000000000u, 0xe8d4a51000000000u, 0x9184e72a00000000u,
    0xb5e620f480000000u, 0xe35fa931a0000000u, 0x8e1bc9bf04000000u, 0xb1a2bc2ec5000000u, 0xde0b6b3a76400000u,
    0x8ac7230489e80000u, 0xad78ebc5ac620000u, 0xd8d726b7177a8000u, 0x878678326eac9000u, 0xa968163f0a57b400u,
    0xd3c21bcecceda100u, 0x84595161401484a0u, 0xa56fa5b99019a5c8u, 0xcecb8f27f4200f3au, 0x813f3978f8940985u,
    0xa18f07d736b90be6u, 0xc9f2c9cd04674edfu, 0xfc6f7c4045812297u, 0x9dc5ada82b70b59eu, 0xc5371912364ce306u,
    0xf684df56c3e01bc7u, 0x9a130b963a6c115du, 0xc097ce7bc90715b4u, 0xf0bdc21abb48db21u, 0x96769950b50d88f5u,
    0xbc143fa4e250eb32u, 0xeb194f8e1ae525feu, 0x92efd1b8d0cf37bfu, 0xb7abc627050305aeu, 0xe596b7b0c643c71au,
    0x8f7e32ce7bea5c70u, 0xb35dbf821ae4f38cu};

typedef struct {
    uint32_t digits; /* may end in zeros */
    int32_t exponent;
} decimal;

static inline uint32_t scaled(uint64_t power, uint32_t value) {
    /* floor(power * value / 2^64), made odd when the part cut off exceeds the table's own error */
    unsigned __int128 product = (unsigned __int128)power * value;
    return (uint32_t)(product >> 64) | ((uint32_t)(product >> 32) > 1);
}

/* The shortest decimal of a positive finite float, given as its bits: the method in full. */
static decimal shortest_exact(uint32_t bits) {
    uint32_t fraction = bits & 0x7fffff;
    int32_t biased = (int32_t)(bits >> 23);
    uint32_t c = biased ? fraction | 0x800000 : fraction;
    int32_t q = (biased ? biased : 1) - 150;
    uint32_t near_below = fraction == 0 && biased > 1; /* a power of two: the float below is at half the distance */
    int32_t k = (q * 1262611 - (near_below ? 524031 : 0)) >> 22; /* floor(log10(2^q)), or of 3/4 of it */
    int32_t shift = q + ((-k * 1741647) >> 19) + 1;              /* floor(log2(10^-k)) */
    uint64_t power = cw_powers_of_ten[-k + 31];
    uint32_t open = c & 1; /* ties round to even: the ends of the interval belong to even significands only */
    uint32_t low = scaled(power, (4 * c - 2 + near_below) << shift) + open;
    uint32_t mid = scaled(power, (4 * c) << shift);
    uint32_t high = scaled(power, (4 * c + 2) << shift) - open;
    uint32_t digits = mid / 4, tens = digits / 10;
    /* Try candidates one digit shorter, then those of full length. When both neighbours lie inside, take the closer
     * one. */
    uint32_t tens_down = low <= 40 * tens, tens_up = 40 * tens + 40 <= high;
    uint32_t down = low <= 4 * digits, up = 4 * digits + 4 <= high;
    uint32_t half = 4 * digits + 2;
    uint32_t closer = (mid > half) | ((mid == half) & (digits & 1));
    uint32_t full = digits + (down != up ? up : closer);
    int shorter = (tens > 0) & (tens_down != tens_up);
    decimal found = {shorter ? tens + tens_up : full, k + shorter};
    return found;
}

/* The same with one product, where one product can decide.
 *
 * The float and half of its interval, both times 10^-k, are fixed point numbers with 36 bits after the point. A
 * comparison tells whether a multiple of ten lies inside, else which whole number does. Both numbers have an error
 * below 3 units in the last place. The full method takes what comes within 8 units of a boundary (this includes ties
 * and whole numbers), and powers of two and subnormals, whose intervals are not symmetric. */
static inline decimal shortest(uint32_t bits) {
    uint64_t one = (uint64_t)1 << 36, ten = 10 * one, margin = 8;
    uint32_t fraction = bits & 0x7fffff;
    int32_t q = (int32_t)(bits >> 23) - 150;
    if (fraction == 0 || q < -149) return shortest_exact(bits);
    int32_t k = (q * 1262611) >> 22;
    int32_t shift = q + ((-k * 1741647) >> 19) + 1; /* 1 .. 4 */
    uint64_t power = cw_powers_of_ten[-k + 31] >> (4 - shift);
    uint64_t value = (uint64_t)(((unsigned __int128)power * ((uint64_t)(fraction | 0x800000) << 40)) >> 64);
    uint64_t half_width = power >> 25;
    uint32_t tens = (uint32_t)(value >> 36) / 10;
    uint64_t above = value - tens * ten; /* distance from the multiple of ten below */
    uint64_t below = ten - above;
    uint64_t part = value & (one - 1);
    if ((above - half_width + margin <= 2 * margin) | (below - half_width + margin <= 2 * margin) |
        (part - one / 2 + margin <= 2 * margin))
        return shortest_exact(bits);
    uint32_t up = below < half_width, shorter = (above < half_width) | up;
    uint32_t full = (uint32_t)((value + one / 2) >> 36);
    decimal found = {full ^ ((full ^ (tens + up)) & (0u - shorter)), k + (int32_t)shorter}; /* branch-free selection */
    return found;
}

static const uint32_t POWERS[10] = {1, 10, 100, 1000, 10000, 100000, 1000000, 10000000, 100000000, 1000000000};

static inline int digit_count(uint32_t v) {
    int guess = ((32 - __builtin_clz(v | 1)) * 1233) >> 12; /* log10(2) = 1233 / 4096, nearly */
    return guess + (guess > 9 || v >= POWERS[guess]) + (v == 0);
}

/* Eight digits, leading zeros included, as eight bytes 0 .. 9, with the first digit in the lowest byte: divide and
 * conquer in one word. */
static inline uint64_t eight_digits(uint32_t v) {
    uint64_t x = v / 10000, t;
    x |= (uint64_t)(v - 10000 * (uint32_t)x) << 32;
    t = ((x * 10486) >> 20) & 0x0000007f0000007fu;
    x = t | ((x - 100 * t) << 16);
    t = ((x * 103) >> 10) & 0x000f000f000f000fu;
    return t | ((x - 10 * t) << 8);
}

static const uint64_t ASCII_ZEROS = 0x3030303030303030u;

/* Writes 10 bytes at most and returns the end. */
static inline char *put_uint(char *out, uint32_t v) {
    int n = digit_count(v);
    uint32_t top = v / 100000000;
    if (n > 8) {
        if (n > 9) *out++ = (char)('0' + top / 10);
        *out++ = (char)('0' + top % 10);
        v -= top * 100000000;
        n = 8;
    }
    uint64_t text = (eight_digits(v) + ASCII_ZEROS) >> (8 * (8 - n));
    memcpy(out, &text, 8);
    return out + n;
}

/* The rare layouts: all but the common ones below. */
static char *put_decimal(char *out, decimal d, int point) {
    while (d.digits % 10 == 0) {
        d.digits /= 10;
        d.exponent++;
    }
    char text[16];
    int n = (int)(put_uint(text, d.digits) - text);
    int whole = n + d.exponent;
    if (whole > -5 && whole <= 15) {
        if (whole <= 0) {
            memcpy(out, "0.0000", 6);
            memcpy(out + 2 - whole, text, (size_t)n);
            return out + 2 - whole + n;
        }
        if (whole >= n) {
            memcpy(out, text, (size_t)n);
            memset(out + n, '0', (size_t)(whole - n));
            memcpy(out + whole, ".0", 2);
            return out + whole + (point ? 2 : 0);
        }
        memcpy(out, text, (size_t)whole);
        out[whole] = '.';
        memcpy(out + whole + 1, text + whole, (size_t)(n - whole));
        return out + n + 1;
    }
    out[0] = text[0];
    out[1] = '.';
    memcpy(out + 2, text + 1, (size_t)(n - 1));
    out += n == 1 ? 1 : n + 1;
    *out++ = 'e';
    int exponent = whole - 1;
    if (exponent < 0) {
        *out++ = '-';
        exponent = -exponent;
    }
    return put_uint(out, (uint32_t)exponent);
}

/* Writes up to 32 bytes; those beyond the returned end are scratch. Whole numbers end in ".0" if `point`, as JSON
 * floats do. */
static inline char *put_float(char *out, float value, int point) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    *out = '-';
    out += bits >> 31;
    bits &= 0x7fffffff;
    if (bits == 0) {
        memcpy(out, "0.0", 3);
        return out + (point ? 3 : 1);
    }
    decimal d = shortest(bits);
    if (d.digits >= 100000000) return put_decimal(out, d, point);
    int n = digit_count(d.digits);
    int whole = n + d.exponent; /* digits before the decimal point */
    uint64_t text = eight_digits(d.digits * POWERS[8 - n]);
    n = 8 - (__builtin_clzll(text) >> 3); /* without zeros at the end */
    text += ASCII_ZEROS;
    if (whole > -5 && whole < n && whole < 8) {
        /* No branches on the layout: the processor cannot predict it. Write the digits before the point (or one zero)
         * and the point, then zeros after it, which the digits after the point overwrite. */
        int small = whole < 1, before = small ? 1 : whole, zeros = small ? -whole : 0;
        uint64_t mask = ((uint64_t)1 << (8 * before)) - 1;
        uint64_t head = (small ? ASCII_ZEROS : text) & mask;
        head |= (ASCII_ZEROS & ~mask) ^ ((uint64_t)('.' ^ '0') << (8 * before));
        uint64_t tail = text >> (small ? 0 : 8 * whole);
        memcpy(out, &head, 8);
        memcpy(out + before + 1 + zeros, &tail, 8);
        return out + n + 1 + (small ? 1 - whole : 0);
    }
    return put_decimal(out, d, point);
}

/* n floats with commas between them; NaN and infinite values, which JSON lacks, become null. `out` holds 25 bytes a
 * value and 32 more; returns the length. */
int64_t cw_floats_json(const float *values, int64_t n, char *out) {
    char *at = out;
    for (int64_t i = 0; i < n; i++) {
        if (isfinite(values[i])) {
            at = put_float(at, values[i], 1);
        } else {
            memcpy(at, "null", 4);
            at += 4;
        }
        *at++ = ',';
    }
    return n ? at - out - 1 : 0;
}

/* n points as [x,y] with commas between them; a point without both coordinates is null. `out` holds 52 bytes a point
 * and 32 more. */
int64_t cw_points_json(const float *x, const float *y, int64_t n, char *out) {
    char *at = out;
    for (int64_t i = 0; i < n; i++) {
        if (isfinite(x[i]) && isfinite(y[i])) {
            *at++ = '[';
            at = put_float(at, x[i], 1);
            *at++ = ',';
            at = put_float(at, y[i], 1);
            *at++ = ']';
        } else {
            memcpy(at, "null", 4);
            at += 4;
        }
        *at++ = ',';
    }
    return n ? at - out - 1 : 0;
}

/* n integers with commas between them. `out` holds 12 bytes a value and 32 more. */
int64_t cw_ints_json(const int32_t *values, int64_t n, char *out) {
    char *at = out;
    for (int64_t i = 0; i < n; i++) {
        uint32_t v = (uint32_t)values[i];
        if (values[i] < 0) {
            *at++ = '-';
            v = 0u - v;
        }
        at = put_uint(at, v);
        *at++ = ',';
    }
    return n ? at - out - 1 : 0;
}

static inline char *put_zeros(char *out, int64_t n) {
    static const char zeros[64] = ",0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,";
    char *end = out + 2 * n;
    for (; out + 62 <= end; out += 62) memcpy(out, zeros, 62);
    memcpy(out, zeros, (size_t)(end - out));
    return end;
}

/* Rows `first` .. `last` - 1 of a table genes x cells: row number, gene id, one value per column, line feed.
 *
 * indptr, cells, values: the matrix gene after gene, cells in any order; column_of: column of each of n_cells cells, -1
 * for those left out; n_columns columns; ids: text of the gene ids end to end, id_ends its ends (n_genes + 1 of them).
 * dense (n_columns floats) and marks (one bit a column, in whole words, zero) are scratch. For each row, `out` must
 * hold 2 bytes per column, 25 per stored value, the id, and 32 more. Returns the length, or -1 for a cell that does not
 * exist. */
int64_t cw_csv_rows(const int64_t *indptr, const int32_t *cells, const float *values, int64_t first, int64_t last,
                    const int32_t *column_of, int64_t n_cells, int64_t n_columns, const char *ids,
                    const int64_t *id_ends, float *dense, uint64_t *marks, char *out) {
    char *at = out;
    for (int64_t gene = first; gene < last; gene++) {
        for (int64_t i = indptr[gene]; i < indptr[gene + 1]; i++) {
            if ((uint64_t)(int64_t)cells[i] >= (uint64_t)n_cells) return -1;
            int32_t column = column_of[cells[i]];
            if (column < 0) continue;
            dense[column] = values[i];
            marks[column >> 6] |= (uint64_t)1 << (column & 63);
        }
        at = put_uint(at, (uint32_t)(gene + 1));
        *at++ = ',';
        int64_t length = id_ends[gene + 1] - id_ends[gene];
        memcpy(at, ids + id_ends[gene], (size_t)length);
        at += length;
        int64_t next = 0;
        for (int64_t word = 0; word < (n_columns + 63) / 64; word++) {
            uint64_t left = marks[word];
            marks[word] = 0;
            while (left) {
                int64_t column = word * 64 + __builtin_ctzll(left);
                left &= left - 1;
                at = put_zeros(at, column - next);
                next = column + 1;
                *at++ = ',';
                float value = dense[column];
                if (isfinite(value)) {
                    at = put_float(at, value, 0);
                } else {
                    const char *name = isnan(value) ? "NA" : value > 0 ? "Inf" : "-Inf";
                    size_t n = strlen(name);
                    memcpy(at, name, n);
                    at += n;
                }
            }
        }
        at = put_zeros(at, n_columns - next);
        *at++ = '\n';
    }
    return at - out;
}
