/* Reads numbers and entries of matrices that are stored as text. The text comes from an untrusted file, so the code
   checks everything about it. */
#include "cellworker.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LONGEST_NUMBER = 63, EXACT_DIGITS = 15, EXACT_POWER = 22 };

static const double POWERS[EXACT_POWER + 1] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                               1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

static inline int is_digit(char c) { return c >= '0' && c <= '9'; }

/* Parses what is no plain short decimal with strtod. `c` holds only characters of a number, so neither hexadecimal
   digits nor words get through. */
static const char *slow_number(const char *text, const char *end, double *out) {
    char copy[LONGEST_NUMBER + 1];
    int size = 0;
    while (text + size < end && size < LONGEST_NUMBER) {
        const char c = text[size];
        if (!is_digit(c) && c != '.' && c != '-' && c != '+' && c != 'e' && c != 'E') break;
        copy[size++] = c;
    }
    copy[size] = 0;
    char *stop;
    *out = strtod(copy, &stop);
    return stop == copy ? 0 : text + (stop - copy);
}

/* Read a decimal; returns where it ends, NULL where there is none. Up to 15 digits and a power of ten up to 22 are both
   exact doubles, so their one product or quotient rounds once, as strtod does (W. D. Clinger, "How to read floating
   point numbers accurately", 1990). */
static const char *number(const char *text, const char *end, double *out) {
    const char *p = text;
    const int negative = p < end && *p == '-';
    if (p < end && (*p == '-' || *p == '+')) p++;
    uint64_t digits = 0;
    int n_digits = 0, n_decimals = 0;
    for (; p < end && is_digit(*p); p++) {
        digits = digits * 10 + (uint64_t)(*p - '0');
        if (digits != 0) n_digits++;
        if (n_digits > EXACT_DIGITS) return slow_number(text, end, out);
    }
    const int any = p > text && is_digit(p[-1]);
    if (p < end && *p == '.') {
        p++;
        for (; p < end && is_digit(*p); p++) {
            digits = digits * 10 + (uint64_t)(*p - '0');
            if (digits != 0) n_digits++;
            n_decimals++;
            if (n_digits > EXACT_DIGITS || n_decimals > EXACT_POWER) return slow_number(text, end, out);
        }
        if (!any && n_decimals == 0) return 0;
    } else if (!any) return 0;
    if (p < end && (*p == 'e' || *p == 'E')) return slow_number(text, end, out);
    const double value = (double)digits / POWERS[n_decimals];
    *out = negative ? -value : value;
    return p;
}

static inline const char *blanks(const char *p, const char *end) {
    while (p < end && (*p == ' ' || *p == '\t' || *p == '\r')) p++;
    return p;
}

static const char *position(const char *p, const char *end, int64_t top, int64_t *out) {
    if (p >= end || !is_digit(*p)) return 0;
    int64_t value = 0;
    for (; p < end && is_digit(*p); p++) {
        value = value * 10 + (*p - '0');
        if (value > top) return 0;
    }
    *out = value;
    return value >= 1 ? p : 0;
}

/* Read lines "row column value" (Matrix Market; without `has_value` the value is 1), rows 1..n_rows and columns
   1..n_columns, up to `capacity` entries. `text` ends with a line break. Returns the number of entries and sets `used`
   to the bytes of the whole lines read. For a line that is no such entry, returns -1 with `used` at its start. */
int64_t cw_market_entries(const char *text, int64_t size, int32_t has_value, int64_t n_rows, int64_t n_columns,
                          int64_t capacity, int32_t *rows, int32_t *columns, double *values, int64_t *used) {
    const char *p = text, *end = text + size;
    int64_t n = 0;
    while (p < end && n < capacity) {
        const char *line = p, *stop = memchr(p, '\n', (size_t)(end - p));
        if (!stop) break;
        p = blanks(p, stop);
        if (p < stop && *p != '%') {
            int64_t row, column;
            double value = 1;
            p = position(p, stop, n_rows, &row);
            if (p) p = position(blanks(p, stop), stop, n_columns, &column);
            if (p && has_value) p = number(blanks(p, stop), stop, &value);
            if (!p || blanks(p, stop) != stop) {
                *used = line - text;
                return -1;
            }
            rows[n] = (int32_t)(row - 1);
            columns[n] = (int32_t)(column - 1);
            values[n++] = value;
        }
        p = stop + 1;
        *used = p - text;
    }
    if (p == text) *used = 0;
    return n;
}

static const char *missing(const char *p, const char *end) {
    static const char *const WORDS[] = {"NaN", "nan", "NA", "N/A", "NULL"};
    for (int i = 0; i < 5; i++) {
        const int64_t size = (int64_t)strlen(WORDS[i]);
        if (end - p >= size && memcmp(p, WORDS[i], (size_t)size) == 0) return p + size;
    }
    return 0;
}

/* Read up to `capacity` fields of one line: numbers separated by `separator` (a blank stands for any number of blanks).
   An empty field or a word for a missing value is NaN. Quotes around a number are skipped. Returns the number of
   fields; for a field that is no number, -1 with `at` at its start. */
int64_t cw_delimited_numbers(const char *text, int64_t size, int32_t separator, int64_t capacity, double *out,
                             int64_t *at) {
    const char *p = text, *end = text + size;
    int64_t n = 0;
    while (n < capacity) {
        while (p < end && (*p == ' ' || *p == '\r' || (*p == '\t' && separator != '\t'))) p++;
        if (separator == ' ' && p == end) return n;
        const char *start = p;
        *at = start - text;
        const int quoted = p < end && *p == '"';
        p += quoted;
        double value = NAN;
        if (p < end && *p != (char)separator && *p != '"') {
            const char *next = number(p, end, &value);
            if (!next) next = missing(p, end);
            if (!next) return -1;
            p = next;
        }
        if (quoted) {
            if (p == end || *p != '"') return -1;
            p++;
        }
        out[n++] = value;
        while (p < end && (*p == ' ' || *p == '\r') && separator != ' ') p++;
        if (p == end) return n;
        if (*p != (char)separator && !(separator == ' ' && (*p == '\t' || *p == '\r'))) return -1;
        p++;
    }
    *at = p - text;
    return p == end ? n : n + 1;
}

/* Append entries, in any order, to their rows; `filled` (n_rows) holds the place of each row's next entry. */
void cw_lay_entries(const int32_t *rows, const int32_t *columns, const float *values, int64_t n, int64_t *filled,
                    int32_t *columns_out, float *values_out) {
    for (int64_t i = 0; i < n; i++) {
        const int64_t place = filled[rows[i]]++;
        columns_out[place] = columns[i];
        values_out[place] = values[i];
    }
}
