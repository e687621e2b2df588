/* The steps of one gene's rank test, each a plain loop over arrays that stay in the cache: pack the values of the cells
   that take part, find runs of equal values, and add each run's ranks and counts per class. Where it pays, a step
   exists twice: for any processor, and for those with 512-bit registers that can compress lanes. Inlined into rank.c,
   once for every kind of processor. */
#ifndef CW_RANK_STEPS_H
#define CW_RANK_STEPS_H

#include <stdint.h>
#include <string.h>

#include "dispatch.h"
#include "outside.h"

#ifdef CW_AVX512
#include <immintrin.h>
#endif

enum {
    AHEAD = 1 << 11, /* entries that the memory brings while labels are looked up */
    WIDTH = 16,      /* entry i adds its value to partial sum i mod WIDTH */
    COPIES = 4,      /* the same for many classes: consecutive entries of one class need not wait for each other */
    FULL = 65532     /* entries before a bin's 16-bit counter could overflow; a multiple of COPIES */
};

typedef struct {
    int64_t rank2, detected;
    double sum;
} Share;

/* One number holds twice the rank sum above 16 bits of count: half the stores. */
typedef struct {
    uint64_t ranks;
    double sum;
} Bin;

typedef struct {
    Share *share;
    Bin *bin;
    uint32_t *value; /* as bits: equal values have equal bits, since neither NaN nor zero is ranked */
    uint32_t *twice; /* per entry: twice its average rank */
    uint32_t *run;   /* per run: where it begins, then twice the average rank that its entries share */
    uint16_t *start; /* bit by bit: which entries begin a run */
    void *label;
} Buffers;

INLINE double number(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return (double)value;
}

INLINE int32_t label_at(const void *label, int64_t i, const int wide) {
    return wide ? ((const int16_t *)label)[i] : ((const int8_t *)label)[i];
}

/* Meanwhile the memory brings the entries that are AHEAD of these: a step that only reads would wait for it. */
INLINE void look_up(const void *code, const int32_t *cells, const uint32_t *values, int64_t n, void *restrict label,
                    const int wide) {
    const int16_t *of_two = code;
    const int8_t *of_one = code;
    int16_t *two = label;
    int8_t *one = label;
    int64_t i = 0;
    for (; i + WIDTH <= n; i += WIDTH) {
        __builtin_prefetch(cells + i + AHEAD);
        __builtin_prefetch(values + i + AHEAD);
        for (int64_t k = 0; k < WIDTH; k++) {
            if (wide) two[i + k] = of_two[cells[i + k]];
            else one[i + k] = of_one[cells[i + k]];
        }
    }
    for (; i < n; i++) {
        if (wide) two[i] = of_two[cells[i]];
        else one[i] = of_one[cells[i]];
    }
}

INLINE int64_t keep_labelled(const void *found, const uint32_t *values, int64_t n, uint32_t *value, void *label,
                             const int wide) {
    int64_t n_kept = 0;
    for (int64_t i = 0; i < n; i++) { /* no branch: the processor cannot predict which cells are listed */
        const int32_t c = label_at(found, i, wide);
        value[n_kept] = values[i];
        if (wide) ((int16_t *)label)[n_kept] = (int16_t)c;
        else ((int8_t *)label)[n_kept] = (int8_t)c;
        n_kept += c >= 0;
    }
    return n_kept;
}

INLINE int64_t find_runs(const uint32_t *value, int64_t n, uint32_t *run) {
    int64_t runs = 0;
    uint32_t last = n ? ~value[0] : 0;
    for (int64_t i = 0; i < n; i++) {
        run[runs] = (uint32_t)i;
        runs += value[i] != last;
        last = value[i];
    }
    return runs;
}

INLINE void spread_runs(const uint32_t *value, int64_t n, const uint32_t *run, uint32_t *twice) {
    uint32_t last = n ? value[0] : 0;
    for (int64_t i = 0; i < n; i++) {
        run += value[i] != last;
        last = value[i];
        twice[i] = *run;
    }
}

/* What a pass over a gene's entries finds for two classes: the partial sums of both, and how many entries the second
 * has. Per run, beside where it begins, it keeps how many entries of the second class come before: with the runs'
 * ranks, these counts give the rank sum without a rank per entry. */
typedef struct {
    double sums[2][WIDTH];
    int64_t entries, runs, ones;
    uint32_t last;
} TwoClasses;

INLINE void begin_two(TwoClasses *pass, uint32_t first) {
    memset(pass, 0, sizeof *pass);
    pass->last = ~first; /* so that the first entry begins a run */
}

/* Adds up to WIDTH values to the partial sums of their classes. */
INLINE void add_entries(double sums[2][WIDTH], const uint32_t *value, const void *label, int64_t at, int64_t n,
                        const int wide) {
    for (int64_t k = 0; k < n; k++) {
        const uint32_t in = -(uint32_t)label_at(label, at + k, wide);
        sums[0][k] += number(value[k] & ~in);
        sums[1][k] += number(value[k] & in);
    }
}

/* The next n entries: a multiple of WIDTH, but for the last ones of a gene. */
INLINE void pass_two(TwoClasses *pass, const uint32_t *value, const void *label, int64_t n, uint32_t *run,
                     uint32_t *ones_before, const int wide) {
    int64_t runs = pass->runs;
    uint32_t ones = (uint32_t)pass->ones, last = pass->last;
    for (int64_t i = 0; i < n; i++) {
        run[runs] = (uint32_t)(pass->entries + i);
        ones_before[runs] = ones;
        runs += value[i] != last;
        last = value[i];
        ones += (uint32_t)label_at(label, i, wide);
    }
    pass->runs = runs, pass->ones = ones, pass->last = last, pass->entries += n;
    int64_t i = 0;
    for (; i + WIDTH <= n; i += WIDTH) add_entries(pass->sums, value + i, label, i, WIDTH, wide);
    add_entries(pass->sums, value + i, label, i, n - i, wide);
}

/* After all entries: adds the second class up, from twice the average rank of each run. */
INLINE void end_two(const TwoClasses *pass, const uint32_t *twice, uint32_t *ones_before, Share *second) {
    ones_before[pass->runs] = (uint32_t)pass->ones;
    int64_t rank2 = 0;
    for (int64_t r = 0; r < pass->runs; r++)
        rank2 += (int64_t)((uint64_t)twice[r] * (ones_before[r + 1] - ones_before[r]));
    second->rank2 = rank2;
    second->detected = pass->ones;
}

#ifdef CW_AVX512
CW_AVX512 static int64_t keep_labelled_lanes(const int8_t *found, const uint32_t *values, int64_t n, uint32_t *value,
                                             int8_t *label) {
    int64_t n_kept = 0;
    for (int64_t i = 0; i < n; i += 64) {
        const __mmask64 here = n - i >= 64 ? ~0ull : (1ull << (n - i)) - 1;
        const __m512i labels = _mm512_maskz_loadu_epi8(here, found + i);
        const uint64_t keep = here & ~_mm512_movepi8_mask(labels);
        _mm512_storeu_si512(label + n_kept, _mm512_maskz_compress_epi8(keep, labels));
        for (int64_t k = 0; k < 64; k += WIDTH) {
            const uint32_t which = (uint16_t)(keep >> k);
            const __m512i some = _mm512_maskz_loadu_epi32((__mmask16)(here >> k), values + i + k);
            _mm512_storeu_si512(value + n_kept, _mm512_maskz_compress_epi32((__mmask16)which, some));
            n_kept += _mm_popcnt_u32(which);
        }
    }
    return n_kept;
}

CW_AVX512 static int64_t find_runs_lanes(const uint32_t *value, int64_t n, uint32_t *run, uint16_t *start) {
    int64_t runs = 0;
    __m512i at = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15), last = _mm512_setzero_si512();
    for (int64_t i = 0; i < n; i += WIDTH) {
        const __mmask16 here = n - i >= WIDTH ? 0xFFFF : (__mmask16)((1u << (n - i)) - 1);
        const __m512i some = _mm512_maskz_loadu_epi32(here, value + i);
        const __mmask16 begin =
            _mm512_mask_cmpneq_epi32_mask(here, some, _mm512_alignr_epi32(some, last, 15)) | (i == 0);
        _mm512_storeu_si512(run + runs, _mm512_maskz_compress_epi32(begin, at));
        *start++ = begin;
        runs += _mm_popcnt_u32(begin);
        at = _mm512_add_epi32(at, _mm512_set1_epi32(WIDTH));
        last = some;
    }
    return runs;
}

/* What the runs of 16 entries hold: `run` is the run of the first, or the one before if the first begins a run. */
CW_AVX512 static inline __m512i spread(const uint32_t *run, uint16_t begin) {
    const __m512i upto = _mm512_setr_epi32(0x1, 0x3, 0x7, 0xF, 0x1F, 0x3F, 0x7F, 0xFF, 0x1FF, 0x3FF, 0x7FF, 0xFFF,
                                           0x1FFF, 0x3FFF, 0x7FFF, 0xFFFF);
    const int32_t head = begin & 1;
    const __m512i nth = _mm512_popcnt_epi32(_mm512_and_si512(_mm512_set1_epi32(begin), upto));
    return _mm512_permutexvar_epi32(_mm512_sub_epi32(nth, _mm512_set1_epi32(head)), _mm512_loadu_si512(run + head));
}

CW_AVX512 static void spread_runs_lanes(int64_t n, const uint32_t *run, const uint16_t *start, uint32_t *twice) {
    run--;
    for (int64_t i = 0; i < n; i += WIDTH, start++) {
        _mm512_storeu_si512(twice + i, spread(run, *start));
        run += _mm_popcnt_u32(*start);
    }
}

CW_AVX512 static void pass_two_lanes(TwoClasses *pass, const uint32_t *value, const int8_t *label, int64_t n,
                                     uint32_t *run, uint32_t *ones_before) {
    const __m512i lower = _mm512_setr_epi32(0x0, 0x1, 0x3, 0x7, 0xF, 0x1F, 0x3F, 0x7F, 0xFF, 0x1FF, 0x3FF, 0x7FF, 0xFFF,
                                            0x1FFF, 0x3FFF, 0x7FFF);
    __m512i at = _mm512_add_epi32(_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
                                  _mm512_set1_epi32((int32_t)pass->entries));
    __m512i last = _mm512_set1_epi32((int32_t)pass->last);
    __m512d sum[2][2];
    for (int k = 0; k < 4; k++) sum[k / 2][k % 2] = _mm512_loadu_pd(pass->sums[k / 2] + 8 * (k % 2));
    int64_t runs = pass->runs, ones = pass->ones;
    for (int64_t i = 0; i < n; i += WIDTH) {
        const __mmask16 here = n - i >= WIDTH ? 0xFFFF : (__mmask16)((1u << (n - i)) - 1);
        const __m128i labels = _mm_maskz_loadu_epi8(here, label + i);
        const __mmask16 one = _mm_test_epi8_mask(labels, labels), zero = here & (__mmask16)~one;
        const __m512i bits = _mm512_maskz_loadu_epi32(here, value + i);
        const __mmask16 begin = _mm512_mask_cmpneq_epi32_mask(here, bits, _mm512_alignr_epi32(bits, last, 15));
        const __m512i before = _mm512_add_epi32(_mm512_popcnt_epi32(_mm512_and_si512(_mm512_set1_epi32(one), lower)),
                                                _mm512_set1_epi32((int32_t)ones));
        _mm512_storeu_si512(run + runs, _mm512_maskz_compress_epi32(begin, at));
        _mm512_storeu_si512(ones_before + runs, _mm512_maskz_compress_epi32(begin, before));
        runs += _mm_popcnt_u32(begin);
        ones += _mm_popcnt_u32(one);
        at = _mm512_add_epi32(at, _mm512_set1_epi32(WIDTH));
        last = bits;
        const __m512 some = _mm512_castsi512_ps(bits);
        const __m512d low = _mm512_cvtps_pd(_mm512_castps512_ps256(some));
        const __m512d high = _mm512_cvtps_pd(_mm512_extractf32x8_ps(some, 1));
        sum[0][0] = _mm512_mask_add_pd(sum[0][0], (__mmask8)zero, sum[0][0], low);
        sum[0][1] = _mm512_mask_add_pd(sum[0][1], (__mmask8)(zero >> 8), sum[0][1], high);
        sum[1][0] = _mm512_mask_add_pd(sum[1][0], (__mmask8)one, sum[1][0], low);
        sum[1][1] = _mm512_mask_add_pd(sum[1][1], (__mmask8)(one >> 8), sum[1][1], high);
    }
    for (int k = 0; k < 4; k++) _mm512_storeu_pd(pass->sums[k / 2] + 8 * (k % 2), sum[k / 2][k % 2]);
    pass->runs = runs, pass->ones = ones, pass->entries += n;
    if (n) pass->last = value[n - 1];
}
#define WITH_LANES(call, otherwise) (fast ? (call) : (otherwise))
#else
#define WITH_LANES(call, otherwise) (otherwise)
#endif

/* The next entries of a gene with two classes: see `pass_two`. */
INLINE void pass_entries(TwoClasses *pass, const uint32_t *value, const void *label, int64_t n, uint32_t *run,
                         uint32_t *ones_before, const int wide, const int fast) {
    if (wide) pass_two(pass, value, label, n, run, ones_before, 1);
    else
        WITH_LANES(pass_two_lanes(pass, value, label, n, run, ones_before),
                   pass_two(pass, value, label, n, run, ones_before, 0));
    (void)fast;
}

INLINE void add_many(const uint32_t *value, const uint32_t *twice, const void *label, int64_t n, int64_t n_classes,
                     Buffers buffers, const int wide) {
    const int64_t copies = wide ? 1 : COPIES;
    Bin *bin = buffers.bin;
    memset(bin, 0, (size_t)(copies * n_classes) * sizeof *bin);
    for (int64_t i = 0; i < n;) {
        const int64_t stop = n - i > FULL ? i + FULL : n;
        for (; i + COPIES <= stop; i += COPIES) {
            for (int64_t k = 0; k < COPIES; k++) {
                Bin *b = bin + k % copies * n_classes + label_at(label, i + k, wide);
                b->ranks += (uint64_t)twice[i + k] << 16 | 1;
                b->sum += number(value[i + k]);
            }
        }
        for (; i < stop; i++) {
            Bin *b = bin + label_at(label, i, wide);
            b->ranks += (uint64_t)twice[i] << 16 | 1;
            b->sum += number(value[i]);
        }
        for (int64_t k = 0; k < copies; k++) {
            for (int64_t c = 0; c < n_classes; c++) {
                Bin *b = bin + k * n_classes + c;
                buffers.share[c].rank2 += (int64_t)(b->ranks >> 16);
                buffers.share[c].detected += (int64_t)(b->ranks & 0xFFFF);
                b->ranks = 0;
            }
        }
    }
    for (int64_t k = 0; k < copies; k++)
        for (int64_t c = 0; c < n_classes; c++) buffers.share[c].sum += bin[k * n_classes + c].sum;
}

#endif
