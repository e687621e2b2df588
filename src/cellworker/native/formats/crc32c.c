/* CRC-32C (Castagnoli), as RFC 3720 (iSCSI), appendix B.4 defines it: the checksum that Zarr writes after each
   chunk. */
#include "cellworker.h"

enum { SLICES = 8 };

static const uint32_t POLYNOMIAL = 0x82F63B78; /* 0x1EDC6F41 with its bits in reverse order */

/* table[k][byte] is the effect of a byte on the checksum when k more bytes follow it. */
static void fill(uint32_t table[SLICES][256]) {
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t sum = byte;
        for (int bit = 0; bit < 8; bit++) sum = (sum >> 1) ^ (POLYNOMIAL & (0u - (sum & 1u)));
        table[0][byte] = sum;
    }
    for (int k = 1; k < SLICES; k++)
        for (int byte = 0; byte < 256; byte++)
            table[k][byte] = (table[k - 1][byte] >> 8) ^ table[0][table[k - 1][byte] & 0xFF];
}

/* Eight bytes at a time: eight table lookups that do not depend on each other. */
uint32_t cw_crc32c(const uint8_t *in, int64_t n) {
    uint32_t table[SLICES][256]; /* filled by each call, in microseconds: threads share no state */
    uint32_t sum = 0xFFFFFFFF;
    int64_t i = 0;
    fill(table);
    for (; i + SLICES <= n; i += SLICES) {
        const uint8_t *b = in + i;
        sum = table[7][b[0] ^ (sum & 0xFF)] ^ table[6][b[1] ^ (sum >> 8 & 0xFF)] ^ table[5][b[2] ^ (sum >> 16 & 0xFF)] ^
              table[4][b[3] ^ (sum >> 24)] ^ table[3][b[4]] ^ table[2][b[5]] ^ table[1][b[6]] ^ table[0][b[7]];
    }
    for (; i < n; i++) sum = (sum >> 8) ^ table[0][(sum ^ in[i]) & 0xFF];
    return ~sum;
}
