/* Sums of counts per group of cells and gene, in one pass that also makes sure that they are counts. */
#include "cellworker.h"

#include <float.h>

#include "dispatch.h"

enum { SOUND = 0, DAMAGED = 1, NO_COUNTS = 2 };

typedef struct {
    const int64_t *indptr;
    const void *genes, *values;
    int64_t n_stored;
    const int32_t *code;
    int64_t n_genes;
    double *sums;
} Counts;

/* Whether x is a whole number from 0. Adding 2^23 (2^52) leaves no digits behind the point; of larger numbers some are
 * called fractional, and the caller looks again. */
INLINE int is_count_f32(float x) { return (x >= 0.0f) & (x <= FLT_MAX) & ((x + 8388608.0f) - 8388608.0f == x); }
INLINE int is_count_f64(double x) {
    return (x >= 0.0) & (x <= DBL_MAX) & ((x + 4503599627370496.0) - 4503599627370496.0 == x);
}
INLINE int is_count_signed(int64_t x) { return x >= 0; }
INLINE int is_count_unsigned(uint64_t x) {
    (void)x;
    return 1;
}

#define SUM_ROWS(NAME, TYPE, ID, IS_COUNT)                                              \
    static int32_t NAME(const Counts *all, int64_t from, int64_t to) {                  \
        for (int64_t i = from; i < to; i++) {                                           \
            const int64_t start = all->indptr[i], end = all->indptr[i + 1];             \
            if (start < 0 || end < start || end > all->n_stored) return DAMAGED;        \
            const int64_t n = end - start;                                              \
            const ID *genes = (const ID *)all->genes + start, width = (ID)all->n_genes; \
            const TYPE *values = (const TYPE *)all->values + start;                     \
            int outside = 0, odd = 0;                                                   \
            for (int64_t k = 0; k < n; k++) outside |= genes[k] >= width;               \
            if (outside) return DAMAGED;                                                \
            for (int64_t k = 0; k < n; k++) odd |= !IS_COUNT(values[k]);                \
            if (odd) return NO_COUNTS;                                                  \
            if (all->code[i] < 0) continue;                                             \
            double *sums = all->sums + all->code[i] * all->n_genes;                     \
            for (int64_t k = 0; k < n; k++) sums[genes[k]] += (double)values[k];        \
        }                                                                               \
        return SOUND;                                                                   \
    }
#define SUM_DENSE_ROWS(NAME, TYPE, IS_COUNT)                              \
    static int32_t NAME(const Counts *all, int64_t from, int64_t to) {    \
        const int64_t n = all->n_genes;                                   \
        for (int64_t i = from; i < to; i++) {                             \
            const TYPE *values = (const TYPE *)all->values + i * n;       \
            int odd = 0;                                                  \
            for (int64_t k = 0; k < n; k++) odd |= !IS_COUNT(values[k]);  \
            if (odd) return NO_COUNTS;                                    \
            if (all->code[i] < 0) continue;                               \
            double *sums = all->sums + all->code[i] * n;                  \
            for (int64_t k = 0; k < n; k++) sums[k] += (double)values[k]; \
        }                                                                 \
        return SOUND;                                                     \
    }
#define OF_TYPE(NAME, TYPE, IS_COUNT)                \
    SUM_ROWS(NAME##_by_32, TYPE, uint32_t, IS_COUNT) \
    SUM_ROWS(NAME##_by_64, TYPE, uint64_t, IS_COUNT) \
    SUM_DENSE_ROWS(NAME##_dense, TYPE, IS_COUNT)
OF_TYPE(u8, uint8_t, is_count_unsigned)
OF_TYPE(u16, uint16_t, is_count_unsigned)
OF_TYPE(u32, uint32_t, is_count_unsigned)
OF_TYPE(u64, uint64_t, is_count_unsigned)
OF_TYPE(i8, int8_t, is_count_signed)
OF_TYPE(i16, int16_t, is_count_signed)
OF_TYPE(i32, int32_t, is_count_signed)
OF_TYPE(i64, int64_t, is_count_signed)
OF_TYPE(f32, float, is_count_f32)
OF_TYPE(f64, double, is_count_f64)

typedef int32_t SumRows(const Counts *all, int64_t from, int64_t to);
#define ALL(NAME) {NAME##_by_32, NAME##_by_64, NAME##_dense}
static SumRows *const known[][3] = {ALL(u8),  ALL(u16), ALL(u32), ALL(u64), ALL(i8),
                                    ALL(i16), ALL(i32), ALL(i64), ALL(f32), ALL(f64)};

/* Adds rows [from, to) to the sums of their groups; a row whose code is below 0 is only checked. `type` is a place of
 * `known`; `layout` 0 and 1 are compressed rows with genes of 32 and 64 bits, in any order and repeated or not, 2 is
 * dense. Returns 0, 1 where rows or genes do not fit, 2 where a value may be no whole number from 0. */
int32_t cw_count_sums(int32_t type, int32_t layout, const int64_t *indptr, const void *genes, const void *values,
                      int64_t n_stored, int64_t from, int64_t to, const int32_t *code, int64_t n_genes, double *sums) {
    const Counts all = {indptr, genes, values, n_stored, code, n_genes, sums};
    return known[type][layout](&all, from, to);
}
