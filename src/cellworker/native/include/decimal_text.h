/* Numbers as decimal text, inlined into text.c and gene_text.c.
 *
 * A float becomes the shortest decimal that reads back as the same float; of several, the closest to it. The method is
 * R. Giulietti's, "The Schubfach way to render doubles" (2020/2022), for 24-bit significands. It multiplies a float c *
 * 2^q and the ends of its rounding interval by 4 * 10^-k, with one 64 x 32 bit product each, rounded to odd. One
 * comparison with a multiple of 10 and one with its neighbours then decide the digits.
 */
#ifndef CW_DECIMAL_TEXT_H
#define CW_DECIMAL_TEXT_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "cellworker.h"

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

typedef struct {
    uint64_t power;
    int32_t k;
} scale;

/* k = floor(log10(2^q)), and 10^-k * 2^q as a fixed point number. */
static inline scale scale_of(int32_t q) {
    int32_t k = (q * 1262611) >> 22;
    int32_t shift = q + ((-k * 1741647) >> 19) + 1; /* 1 .. 4 */
    scale found = {cw_powers_of_ten[-k + 31] >> (4 - shift), k};
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
    scale of = scale_of(q);
    uint64_t power = of.power;
    int32_t k = of.k;
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

/* A float of a JSON array: NaN and infinite values, which JSON lacks, become null. Writes as `put_float`. */
static inline char *put_json_float(char *out, float value) {
    if (isfinite(value)) return put_float(out, value, 1);
    memcpy(out, "null", 4);
    return out + 4;
}

#endif
