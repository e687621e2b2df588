/* Classifies the bytes of a string, for the readers of R's files. */
#ifndef CELLWORKER_STRINGS_H
#define CELLWORKER_STRINGS_H
#include <stdint.h>

enum { PLAIN_ASCII, VALID_UTF8, OTHER, HOLDS_NUL };

static inline int classify(const uint8_t *text, int64_t size) {
    uint8_t high = 0;
    int nul = 0;
    for (int64_t i = 0; i < size; i++) {
        high |= text[i];
        nul |= text[i] == 0;
    }
    if (nul) return HOLDS_NUL;
    if (high < 0x80) return PLAIN_ASCII;
    int64_t i = 0;
    while (i < size) { /* well-formed sequences, Unicode standard table 3-7 */
        uint8_t a = text[i];
        int64_t more;
        uint8_t low = 0x80, top = 0xBF;
        if (a < 0x80) {
            i++;
            continue;
        }
        if (a >= 0xC2 && a <= 0xDF) more = 1;
        else if (a >= 0xE0 && a <= 0xEF) {
            more = 2;
            if (a == 0xE0) low = 0xA0;
            if (a == 0xED) top = 0x9F;
        } else if (a >= 0xF0 && a <= 0xF4) {
            more = 3;
            if (a == 0xF0) low = 0x90;
            if (a == 0xF4) top = 0x8F;
        } else return OTHER;
        if (size - i <= more) return OTHER;
        if (text[i + 1] < low || text[i + 1] > top) return OTHER;
        for (int64_t k = 2; k <= more; k++)
            if ((text[i + k] & 0xC0) != 0x80) return OTHER;
        i += more + 1;
    }
    return VALID_UTF8;
}

#endif
