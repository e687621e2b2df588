/* Sparse rows as a file has them: checked once, then rewritten with sorted columns and without stored zeros. */
#include "cellworker.h"

#include <string.h>

#include "dispatch.h"
#include "radix.h"

enum { NO_PROBLEM = 0, BAD_INDPTR = 1, BAD_COLUMN = 2, TOO_LONG = 3, INFINITE = 0x7F800000 };

struct RowSummary {
    int64_t kept, nan, infinite, negative, fractional, unsorted_rows, problem, problem_row;
    int32_t largest,
        smallest; /* keys in the order of the floats: all bits but the sign of a negative float are flipped */
};

static inline int32_t ordered(int32_t raw) { return raw ^ ((raw >> 31) & 0x7FFFFFFF); }

INLINE void check_rows(const int64_t *indptr, int64_t start, int64_t stop, const int32_t *columns,
                       const int32_t *values, int64_t nnz, int32_t n_columns, int64_t *nonzeros, int64_t *per_column,
                       RowSummary *out) {
    RowSummary s = {0};
    s.largest = INT32_MIN;
    s.smallest = INT32_MAX;
    for (int64_t row = start; row < stop; row++) {
        const int64_t begin = indptr[row], end = indptr[row + 1];
        if (begin < 0 || end < begin || end > nnz) s.problem = BAD_INDPTR;
        else if (end - begin > n_columns) s.problem = TOO_LONG;
        if (s.problem) {
            s.problem_row = row;
            break;
        }
        const int64_t n = end - begin;
        const int32_t *c = columns + begin;
        const int32_t *v = values + begin;
        int32_t descents = 0;
        uint32_t highest = 0; /* as an unsigned number a negative column is a large one */
        for (int64_t i = 0; i < n; i++) highest = (uint32_t)c[i] > highest ? (uint32_t)c[i] : highest;
        if (n && highest >= (uint32_t)n_columns) {
            s.problem = BAD_COLUMN;
            s.problem_row = row;
            break;
        }
        for (int64_t i = 1; i < n; i++) descents += c[i] <= c[i - 1];
        /* All comparisons are on the bits, as integers: the compiler does not vectorise comparisons of floats. */
        int32_t nonzero = 0, nan = 0, infinite = 0, negative = 0, fractional = 0, largest = s.largest,
                smallest = s.smallest;
        for (int64_t i = 0; i < n; i++) {
            const int32_t raw = v[i], magnitude = raw & 0x7FFFFFFF;
            nonzero += magnitude != 0;
            nan += magnitude > INFINITE;
            infinite += magnitude == INFINITE;
            negative += raw < 0;
            negative -= raw == INT32_MIN;
        }
        for (int64_t i = 0; i < n; i++) {
            const int32_t key = ordered(v[i]);
            largest = key > largest ? key : largest;
            smallest = key < smallest ? key : smallest;
        }
        if (nan) {
            largest = s.largest;
            smallest = s.smallest;
            for (int64_t i = 0; i < n; i++) {
                const int32_t key = ordered(v[i]);
                if ((v[i] & 0x7FFFFFFF) > INFINITE) {
                    negative -= v[i] < 0;
                    continue;
                }
                largest = key > largest ? key : largest;
                smallest = key < smallest ? key : smallest;
            }
        }
        /* Adding 2^23 rounds to a whole number; every float from 2^23 on is whole. */
        const float *f = (const float *)values + begin;
        for (int64_t i = 0; i < n; i++) {
            const float magnitude = __builtin_fabsf(f[i]);
            const int32_t whole = (magnitude + 8388608.0f) - 8388608.0f == magnitude;
            fractional += (magnitude < 8388608.0f) & !whole;
        }
        s.largest = largest;
        s.smallest = smallest;
        s.kept += nonzero;
        s.nan += nan;
        s.infinite += infinite;
        s.negative += negative;
        s.fractional += fractional;
        s.unsorted_rows += descents > 0;
        nonzeros[row - start] = nonzero;
        if (per_column) {
            if (nonzero == n)
                for (int64_t i = 0; i < n; i++) per_column[c[i]]++;
            else
                for (int64_t i = 0; i < n; i++) per_column[c[i]] += (v[i] & 0x7FFFFFFF) != 0;
        }
    }
    *out = s;
}

typedef void CheckRows(const int64_t *, int64_t, int64_t, const int32_t *, const int32_t *, int64_t, int32_t, int64_t *,
                       int64_t *, RowSummary *);

static void check_rows_anywhere(const int64_t *indptr, int64_t start, int64_t stop, const int32_t *columns,
                                const int32_t *values, int64_t nnz, int32_t n_columns, int64_t *nonzeros,
                                int64_t *per_column, RowSummary *out) {
    check_rows(indptr, start, stop, columns, values, nnz, n_columns, nonzeros, per_column, out);
}

#ifdef CW_AVX2
CW_AVX2 static void check_rows_avx2(const int64_t *indptr, int64_t start, int64_t stop, const int32_t *columns,
                                    const int32_t *values, int64_t nnz, int32_t n_columns, int64_t *nonzeros,
                                    int64_t *per_column, RowSummary *out) {
    check_rows(indptr, start, stop, columns, values, nnz, n_columns, nonzeros, per_column, out);
}

CW_AVX512 static void check_rows_avx512(const int64_t *indptr, int64_t start, int64_t stop, const int32_t *columns,
                                        const int32_t *values, int64_t nnz, int32_t n_columns, int64_t *nonzeros,
                                        int64_t *per_column, RowSummary *out) {
    check_rows(indptr, start, stop, columns, values, nnz, n_columns, nonzeros, per_column, out);
}
#endif

/* Check rows [start, stop); `values` are the bits of floats. Writes the number of non-zeros of each row to `nonzeros`
   (from index 0) and, where `per_column` is given, adds the non-zeros of each column to it. Stops at the first row that
   breaks a rule. */
void cw_scan_rows(const int64_t *indptr, int64_t start, int64_t stop, const int32_t *columns, const int32_t *values,
                  int64_t nnz, int32_t n_columns, int64_t *nonzeros, int64_t *per_column, RowSummary *out) {
    CheckRows *run = check_rows_anywhere;
#ifdef CW_AVX2
    if (cw_has_avx2()) run = check_rows_avx2;
    if (cw_has_avx512()) run = check_rows_avx512;
#endif
    run(indptr, start, stop, columns, values, nnz, n_columns, nonzeros, per_column, out);
}

/* Rewrite rows [start, stop) that passed cw_scan_rows: without zeros, columns ascending. `bounds` (stop - start + 1)
   are the rows' bounds in the output, from 0; the output arrays are one entry longer. `a` and `b` each hold the longest
   row. Returns -1, or else the first row that names a column twice (or has changed since the scan).
 */
int64_t cw_convert_rows(const int64_t *indptr, int64_t start, int64_t stop, const int32_t *columns, const float *values,
                        const int64_t *bounds, int32_t *out_columns, float *out_values, uint64_t *a, uint64_t *b) {
    for (int64_t row = start; row < stop; row++) {
        const int64_t n = indptr[row + 1] - indptr[row];
        const int32_t *c = columns + indptr[row];
        const float *v = values + indptr[row];
        int32_t *oc = out_columns + bounds[row - start];
        float *ov = out_values + bounds[row - start];
        const int64_t expected = bounds[row - start + 1] - bounds[row - start];
        int32_t descents = 0;
        for (int64_t i = 1; i < n; i++) descents += c[i] <= c[i - 1];
        if (!descents && expected == n) {
            memcpy(oc, c, (size_t)n * sizeof *oc);
            memcpy(ov, v, (size_t)n * sizeof *ov);
            continue;
        }
        int64_t k = 0;
        if (!descents) {
            for (int64_t i = 0; i < n && k <= expected; i++) {
                oc[k] = c[i];
                ov[k] = v[i];
                k += v[i] != 0.0f;
            }
            if (k != expected) return row;
            continue;
        }
        for (int64_t i = 0; i < n; i++) {
            uint32_t raw;
            memcpy(&raw, v + i, sizeof raw);
            a[k] = (uint64_t)(uint32_t)c[i] << 32 | raw;
            k += v[i] != 0.0f;
        }
        if (k != expected) return row;
        radix_split(a, k, b, (uint32_t *)ov, (uint32_t *)oc);
        for (int64_t i = 1; i < k; i++)
            if (oc[i] == oc[i - 1]) return row;
    }
    return -1;
}
