/* Numbers as text: what goes on the wire and into CSV files. */
#include "cellworker.h"

#include <math.h>
#include <string.h>

#include "decimal_text.h"

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

/* n floats with commas between them; NaN and infinite values, which JSON lacks, become null. `out` holds 25 bytes a
 * value and 32 more; returns the length. */
int64_t cw_floats_json(const float *values, int64_t n, char *out) {
    char *at = out;
    for (int64_t i = 0; i < n; i++) {
        at = put_json_float(at, values[i]);
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
