/* Undoes what Blosc, numcodecs and qs do to bytes: the LZ4 block format and the shuffle of bytes. The code checks every
 * read and write.
 *
 * A block is a list of sequences (LZ4's own description of its block format): a token, literals, and a copy of earlier
 * bytes. The token's high four bits are the number of literals, its low four bits the length of the copy minus 4. The
 * value 15 continues in further bytes, which are added up to and including the first one below 255. The distance of the
 * copy has 16 bits, little-endian. The last sequence ends with its literals, and the low bits of its token mean
 * nothing. */
#include "cellworker.h"

#include <string.h>

/* Length in the token, continued in bytes of 255. Returns -1 where the input ends. */
static int64_t length_of(const uint8_t *in, int64_t n, int64_t *at, int64_t start) {
    int64_t length = start;
    if (start == 15) {
        uint8_t more;
        do {
            if (*at >= n) return -1;
            more = in[(*at)++];
            length += more;
        } while (more == 255);
    }
    return length;
}

/* Decompress one block of n bytes into at most capacity bytes. Returns the number of bytes written, or -1 if the block
 * is damaged.
 */
int64_t cw_lz4_block(const uint8_t *in, int64_t n, uint8_t *out, int64_t capacity) {
    int64_t at = 0, done = 0;
    while (at < n) {
        const uint8_t token = in[at++];
        const int64_t literals = length_of(in, n, &at, token >> 4);
        if (literals < 0 || literals > n - at || literals > capacity - done) return -1;
        if (literals) memcpy(out + done, in + at, (size_t)literals);
        at += literals;
        done += literals;
        if (at == n) return done;
        if (n - at < 2) return -1;
        const int64_t offset = in[at] | (int64_t)in[at + 1] << 8;
        at += 2;
        int64_t length = length_of(in, n, &at, token & 15);
        if (length < 0 || offset == 0 || offset > done || (length += 4) > capacity - done) return -1;
        if (offset >= length) {
            memcpy(out + done, out + done - offset, (size_t)length);
            done += length;
        } else {
            const int64_t end = done + length; /* the copy runs into itself and repeats */
            for (; offset >= 8 && done + 8 <= end; done += 8) memcpy(out + done, out + done - offset, 8);
            for (; done < end; done++) out[done] = out[done - offset];
        }
    }
    return -1; /* the block is empty, or ends with a copy */
}

/* Join the bytes of `count` elements of `width` bytes again: the input holds all first bytes, then all second ones, and
 * so on.
 */
void cw_unshuffle(const uint8_t *in, int64_t count, int64_t width, uint8_t *out) {
    if (width == 4) {
        const uint8_t *a = in, *b = in + count, *c = in + 2 * count, *d = in + 3 * count;
        for (int64_t i = 0; i < count; i++, out += 4) {
            out[0] = a[i];
            out[1] = b[i];
            out[2] = c[i];
            out[3] = d[i];
        }
        return;
    }
    for (int64_t i = 0; i < count; i++)
        for (int64_t j = 0; j < width; j++) *out++ = in[j * count + i];
}
