/* Rank tests of every gene for every set of cells, from values that are already in order: one linear scan. Integers
 * wherever the result must be exact, and sums of floats in an order that is written down here, so that neither threads
 * nor blocks nor the processor's instructions can change a bit. One module because the steps of a gene are inlined into
 * one function, once for every kind of processor.
 *
 * A gene is done in steps, each a plain loop over arrays that stay in the cache: the values of cells that take part are
 * pushed together, runs of equal values found, and what a run shares among its entries added up per class. Where it
 * pays, a step is there twice: for any processor, and for those with 512-bit registers that can push lanes together. */
#include "cellworker.h"
#include "dispatch.h"

#include <math.h>
#include <string.h>

#ifdef CW_AVX512
#include <immintrin.h>
#endif

enum {
    BLOCK = 1 << 15, /* entries that stay in the cache while every plan reads them */
    PART = 1 << 11,  /* entries whose labels are looked up at once */
    PAD = 64,        /* entries that a step may write or read behind the end of its arrays */
    WIDTH = 16,      /* entry i adds its value to partial sum i mod WIDTH */
    COPIES = 4,      /* the same for many classes: consecutive entries of one class do not wait for each other */
    FULL = 65532     /* entries until a bin's counter of 16 bits may be full; a multiple of COPIES */
};

/* Sets of cells that share one ranking; the other side fills it in as eight int64. */
struct RankPlan {
    const void *code; /* class of each cell, negative for cells that are left out */
    int64_t n_classes, n_labelled;
    const int64_t *class_sizes;
    int64_t n_sets;
    const int64_t *bounds, *classes; /* the classes of set s are at bounds[s] to bounds[s + 1] */
    const int64_t *rows;             /* where the results of each set go */
};

/* One row per set, `stride` apart, one column per gene. */
struct RankTests {
    double *score, *auc, *fold, *inside, *outside;
    int64_t stride;
};

typedef struct {
    int64_t rank2, detected;
    double sum;
} Share;

/* Twice the rank sum above 16 bits of count, in one number: half the stores. */
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

INLINE void look_up(const void *code, const int32_t *cells, int64_t n, void *restrict label, const int wide) {
    const int16_t *of_two = code;
    const int8_t *of_one = code;
    int16_t *two = label;
    int8_t *one = label;
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) {
        for (int64_t k = 0; k < 8; k++) {
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

/* Two classes: of the second one twice the rank sum and the count, of both the partial sums. */
INLINE void add_two(const uint32_t *value, const uint32_t *twice, const void *label, int64_t n, Share *second,
                    double sums[2][WIDTH], const int wide) {
    for (int64_t i = 0; i < n; i++) {
        const uint32_t in = -(uint32_t)label_at(label, i, wide);
        second->rank2 += twice[i] & in;
        second->detected -= (int32_t)in;
        sums[0][i % WIDTH] += number(value[i] & ~in);
        sums[1][i % WIDTH] += number(value[i] & in);
    }
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

CW_AVX512 static void add_two_lanes(const uint32_t *value, const uint32_t *run, const uint16_t *start,
                                    const int8_t *label, int64_t n, Share *second, double sums[2][WIDTH]) {
    __m512i ranks = _mm512_setzero_si512();
    __m512d sum[2][2] = {{_mm512_setzero_pd(), _mm512_setzero_pd()}, {_mm512_setzero_pd(), _mm512_setzero_pd()}};
    int64_t ones = 0;
    run--;
    for (int64_t i = 0; i < n; i += WIDTH, start++) {
        const __mmask16 here = n - i >= WIDTH ? 0xFFFF : (__mmask16)((1u << (n - i)) - 1);
        const __m128i labels = _mm_maskz_loadu_epi8(here, label + i);
        const __mmask16 one = _mm_test_epi8_mask(labels, labels), zero = here & (__mmask16)~one;
        const __m512i twice = spread(run, *start);
        run += _mm_popcnt_u32(*start);
        ones += _mm_popcnt_u32(one);
        const __m512i first = _mm512_cvtepu32_epi64(_mm512_castsi512_si256(twice));
        const __m512i rest = _mm512_cvtepu32_epi64(_mm512_extracti64x4_epi64(twice, 1));
        ranks = _mm512_mask_add_epi64(ranks, (__mmask8)one, ranks, first);
        ranks = _mm512_mask_add_epi64(ranks, (__mmask8)(one >> 8), ranks, rest);
        const __m512 some = _mm512_castsi512_ps(_mm512_maskz_loadu_epi32(here, value + i));
        const __m512d low = _mm512_cvtps_pd(_mm512_castps512_ps256(some));
        const __m512d high = _mm512_cvtps_pd(_mm512_extractf32x8_ps(some, 1));
        sum[0][0] = _mm512_mask_add_pd(sum[0][0], (__mmask8)zero, sum[0][0], low);
        sum[0][1] = _mm512_mask_add_pd(sum[0][1], (__mmask8)(zero >> 8), sum[0][1], high);
        sum[1][0] = _mm512_mask_add_pd(sum[1][0], (__mmask8)one, sum[1][0], low);
        sum[1][1] = _mm512_mask_add_pd(sum[1][1], (__mmask8)(one >> 8), sum[1][1], high);
    }
    for (int k = 0; k < 4; k++) _mm512_storeu_pd(sums[k / 2] + 8 * (k % 2), sum[k / 2][k % 2]);
    second->rank2 = _mm512_reduce_add_epi64(ranks);
    second->detected = ones;
}
#define WITH_LANES(call, otherwise) (fast ? (call) : (otherwise))
#else
#define WITH_LANES(call, otherwise) (otherwise)
#endif

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

typedef unsigned __int128 Cubes; /* of ten million cells that tie, and more */

INLINE Cubes tie_term(uint64_t t) { return (Cubes)(t * t - 1) * t; }

/* The top bit is set if a cell is beyond `last_cell`. The values are fetched meanwhile: memory has time for both. */
INLINE uint32_t any_outside(const int32_t *cells, const void *values, int64_t n, uint32_t last_cell) {
    uint32_t outside = 0;
    int64_t i = 0;
    for (; i + WIDTH <= n; i += WIDTH) {
        __builtin_prefetch((const char *)values + 4 * i);
        for (int64_t k = 0; k < WIDTH; k++) outside |= (uint32_t)cells[i + k] | (last_cell - (uint32_t)cells[i + k]);
    }
    for (; i < n; i++) outside |= (uint32_t)cells[i] | (last_cell - (uint32_t)cells[i]);
    return outside;
}

/* What `rules` may ask for. */
enum { SKIP_TOP_BLOCK = 1, NO_CONTINUITY = 2 };

/* Each set against all other cells that take part: the normal approximation corrected for ties and by `step` for
 * continuity. The implicit zeros of a class share twice the rank `zero_rank`; `spread` is n^3 - n less the same of
 * every block of ties. */
static void test_sets(const RankPlan *plan, const Share *share, int64_t seen, int64_t zero_rank, double spread,
                      double step, int64_t gene, const RankTests *tests) {
    const double total = (double)plan->n_labelled;
    const double pairs = 12.0 * (total * total - total);
    double all = 0.0;
    for (int64_t c = 0; c < plan->n_classes; c++) all += share[c].sum;
    for (int64_t s = 0; s < plan->n_sets; s++) {
        int64_t rank2 = 0, detected = 0, cells = 0;
        double sum = 0.0;
        for (int64_t i = plan->bounds[s]; i < plan->bounds[s + 1]; i++) {
            const int64_t c = plan->classes[i];
            rank2 += share[c].rank2 + (plan->class_sizes[c] - share[c].detected) * zero_rank;
            detected += share[c].detected;
            cells += plan->class_sizes[c];
            sum += share[c].sum;
        }
        const double size = (double)cells, rest = total - size;
        const int64_t at = plan->rows[s] * tests->stride + gene;
        tests->inside[at] = 100.0 * (double)detected / size;
        tests->outside[at] = 100.0 * (double)(seen - detected) / rest;
        if (size == 0.0 || rest == 0.0) {
            tests->score[at] = tests->auc[at] = tests->fold[at] = NAN;
            continue;
        }
        const double u = (double)rank2 / 2.0 - size * (size + 1.0) / 2.0, distance = fabs(u - size * rest / 2.0);
        const double corrected = distance == 0.0 ? 0.0 : fabs(distance - step);
        tests->score[at] = corrected == 0.0 ? 0.0 : corrected / sqrt(size * rest * spread / pairs);
        tests->auc[at] = u / (size * rest);
        tests->fold[at] = sum / size - (all - sum) / rest;
    }
}

/* Implicit zeros sit between the negative and the positive values. */
INLINE void rank_gene(const int32_t *cells, const uint32_t *values, int64_t n, const RankPlan *plan, int64_t gene,
                      int64_t n_cells, int32_t rules, const RankTests *tests, Buffers buffers, const int wide,
                      const int fast) {
    (void)fast;
    const int64_t n_classes = plan->n_classes;
    const size_t size = wide ? sizeof(int16_t) : sizeof(int8_t);
    const int everybody = plan->n_labelled == n_cells;
    const uint32_t *value = everybody ? values : buffers.value;
    int16_t found[PART + PAD];
    int64_t seen = 0;
    for (int64_t k = 0; k < n; k += PART) {
        const int64_t part = n - k > PART ? PART : n - k;
        void *label = (char *)buffers.label + (size_t)seen * size, *into = everybody ? label : found;
        look_up(plan->code, cells + k, part, into, wide);
        if (everybody) seen += part;
        else if (wide) seen += keep_labelled(found, values + k, part, buffers.value + seen, label, 1);
        else
            seen += WITH_LANES(keep_labelled_lanes((int8_t *)found, values + k, part, buffers.value + seen, label),
                               keep_labelled(found, values + k, part, buffers.value + seen, label, 0));
    }
    const int64_t runs =
        WITH_LANES(find_runs_lanes(value, seen, buffers.run, buffers.start), find_runs(value, seen, buffers.run));
    uint32_t *run = buffers.run;
    run[runs] = (uint32_t)seen;
    const int64_t top = runs ? run[runs] - run[runs - 1] : 0;
    int64_t negative = 0;
    for (int64_t low = 0, high = seen && value[0] >> 31 ? seen : 0; low < high;) {
        const int64_t middle = low + (high - low) / 2;
        if (value[middle] >> 31) negative = low = middle + 1;
        else high = middle;
    }
    const int64_t zeros = plan->n_labelled - seen;
    Cubes tie = 0;
    int64_t r = 0;
    for (; r < runs && run[r] < negative; r++) {
        tie += tie_term(run[r + 1] - run[r]);
        run[r] += run[r + 1] + 1;
    }
    const uint32_t more = (uint32_t)(2 * zeros + 1);
    if (seen <= 1 << 21) { /* the sum of all cubes fits 63 bits */
        uint64_t small = 0;
        for (; r < runs; r++) {
            const uint64_t t = run[r + 1] - run[r];
            small += (t * t - 1) * t;
            run[r] += run[r + 1] + more;
        }
        tie += small;
    } else {
        for (; r < runs; r++) {
            tie += tie_term(run[r + 1] - run[r]);
            run[r] += run[r + 1] + more;
        }
    }
    Share *share = buffers.share;
    for (int64_t c = 0; c < n_classes; c++) share[c] = (Share){0, 0, 0.0};
    if (n_classes == 2) {
        double sums[2][WIDTH] = {{0.0}};
#ifdef CW_AVX512
        if (fast && !wide) add_two_lanes(value, run, buffers.start, buffers.label, seen, share + 1, sums);
        else
#endif
        {
            spread_runs(value, seen, run, buffers.twice);
            add_two(value, buffers.twice, buffers.label, seen, share + 1, sums, wide);
        }
        for (int64_t i = 0; i < WIDTH; i++) {
            share[0].sum += sums[0][i];
            share[1].sum += sums[1][i];
        }
        share[0].detected = seen - share[1].detected;
        share[0].rank2 = seen * (seen + 1) + 2 * zeros * (seen - negative) - share[1].rank2;
    } else {
        WITH_LANES(spread_runs_lanes(seen, run, buffers.start, buffers.twice),
                   spread_runs(value, seen, run, buffers.twice));
        add_many(value, buffers.twice, buffers.label, seen, n_classes, buffers, wide);
    }
    tie += zeros ? tie_term((uint64_t)zeros) : 0;
    if (rules & SKIP_TOP_BLOCK) { /* the block of the largest value: a positive one's, or that of the zeros */
        const int64_t block = negative < seen || !zeros ? top : zeros;
        /* without a stored value there is no correction: the original then counts no block of ties */
        tie = seen ? tie - tie_term((uint64_t)block) : 0;
    }
    const double spread = (double)(tie_term((uint64_t)plan->n_labelled) - tie);
    test_sets(plan, share, seen, 2 * negative + zeros + 1, spread, rules & NO_CONTINUITY ? 0.0 : 0.5, gene, tests);
}

INLINE int64_t rounded(int64_t bytes) { return (bytes + 63) / 64 * 64; }

INLINE int64_t lay_out(char *at, int64_t longest, int64_t n_classes, Buffers *buffers) {
    const int64_t begin = (int64_t)(uintptr_t)at, n = longest + PAD;
    buffers->share = (Share *)at, at += rounded(n_classes * (int64_t)sizeof(Share));
    buffers->bin = (Bin *)at, at += rounded(COPIES * n_classes * (int64_t)sizeof(Bin));
    buffers->value = (uint32_t *)at, at += rounded(n * 4);
    buffers->twice = (uint32_t *)at, at += rounded(n * 4);
    buffers->run = (uint32_t *)at + PAD, at += rounded((n + PAD) * 4);
    buffers->start = (uint16_t *)at, at += rounded(n * 2 / WIDTH);
    buffers->label = at, at += rounded(n * 2);
    return (int64_t)(uintptr_t)at - begin;
}

/* Bytes of scratch that a scan of genes with at most `longest` entries needs. */
int64_t cw_rank_scratch(int64_t longest, int64_t n_classes) {
    Buffers buffers;
    return lay_out(0, longest, n_classes, &buffers) + 64;
}

#define SCAN_ARGUMENTS                                                                             \
    const int64_t *indptr, const int32_t *cells, const uint32_t *values, int64_t from, int64_t to, \
        const RankPlan *plans, int64_t n_plans, int64_t n_cells, int32_t rules, const RankTests *tests

INLINE int32_t rank_scan(SCAN_ARGUMENTS, Buffers buffers, const int wide, const int fast) {
    const uint32_t last_cell = (uint32_t)n_cells - 1;
    for (int64_t first = from, last; first < to; first = last) {
        for (last = first + 1; last < to && indptr[last + 1] - indptr[first] <= BLOCK;) last++;
        const int64_t begin = indptr[first];
        if (any_outside(cells + begin, values + begin, indptr[last] - begin, last_cell) >> 31) return 1;
        for (const RankPlan *plan = plans; plan < plans + n_plans; plan++) {
            for (int64_t g = first; g < last; g++) {
                rank_gene(cells + indptr[g], values + indptr[g], indptr[g + 1] - indptr[g], plan, g - from, n_cells,
                          rules, tests, buffers, wide, fast);
            }
        }
    }
    return 0;
}

#define SCAN(NAME, WIDE, FAST)                                                                                         \
    static int32_t NAME(SCAN_ARGUMENTS, Buffers buffers) {                                                             \
        return rank_scan(indptr, cells, values, from, to, plans, n_plans, n_cells, rules, tests, buffers, WIDE, FAST); \
    }
SCAN(scan_narrow, 0, 0)
SCAN(scan_wide, 1, 0)
#ifdef CW_AVX512
CW_AVX512 SCAN(scan_narrow_lanes, 0, 1) CW_AVX512 SCAN(scan_wide_lanes, 1, 1)
#else
#define scan_narrow_lanes scan_narrow
#define scan_wide_lanes scan_wide
#endif

    /* Test genes [from, to) under every plan. Labels are int8, or int16 if `wide`: one byte stays in the nearest cache,
     * but more than 127 classes need two. `plain` does without 512-bit registers. Returns 1 at a cell beyond n_cells.
     */
    int32_t
    cw_rank_scan(SCAN_ARGUMENTS, int64_t longest, int64_t max_classes, void *scratch, int32_t wide, int32_t plain) {
    Buffers buffers;
    lay_out((char *)scratch + (64 - (uintptr_t)scratch % 64) % 64, longest, max_classes, &buffers);
    int32_t (*scan)(SCAN_ARGUMENTS, Buffers) = wide ? scan_wide : scan_narrow;
    if (!plain && cw_has_avx512()) scan = wide ? scan_wide_lanes : scan_narrow_lanes;
    return scan(indptr, cells, values, from, to, plans, n_plans, n_cells, rules, tests, buffers);
}

#define FORTY 0x42200000u /* 40.0f */

/* expm1 of -40 to 40 to the last digit, in steps that compilers turn into vector instructions and that give the same
 * bits on every machine: 2^n (1 + q) - 1 where q = expm1(x - n log 2) by its series. */
INLINE double exp_less_one(double x) {
    const double whole = 6755399441055744.0; /* 1.5 * 2^52: adding it rounds to a whole number */
    const double near = x * 1.44269504088896340736 + whole, n = near - whole;
    const double r = (x - n * 0.693147180369123816490) - n * 1.90821492927058770002e-10;
    double q = 1.0 / 6227020800.0;
    q = q * r + 1.0 / 479001600.0;
    q = q * r + 1.0 / 39916800.0;
    q = q * r + 1.0 / 3628800.0;
    q = q * r + 1.0 / 362880.0;
    q = q * r + 1.0 / 40320.0;
    q = q * r + 1.0 / 5040.0;
    q = q * r + 1.0 / 720.0;
    q = q * r + 1.0 / 120.0;
    q = q * r + 1.0 / 24.0;
    q = q * r + 1.0 / 6.0;
    q = q * r + 0.5;
    q = q * r * r + r;
    uint64_t bits;
    memcpy(&bits, &near, sizeof bits);
    bits = (bits + 1023) << 52;
    double scale; /* 2^n */
    memcpy(&scale, &bits, sizeof scale);
    return scale * q + (scale - 1.0);
}

INLINE void exps_less_one(const float *values, int64_t n, double *out) {
    for (int64_t i = 0; i < n; i++) out[i] = exp_less_one((double)values[i]);
}

static void exps(const float *values, int64_t n, double *out) { exps_less_one(values, n, out); }
#ifdef CW_AVX512
CW_AVX512 static void exps_lanes(const float *values, int64_t n, double *out) { exps_less_one(values, n, out); }
#else
#define exps_lanes exps
#endif

/* Sums of expm1(value) per class and gene, for means on the scale of counts. Returns 1 at a cell beyond n_cells. */
int32_t cw_expm1_sums(const int64_t *indptr, const int32_t *cells, const float *values, const int64_t *genes,
                      int64_t n_genes, const int16_t *code, int64_t n_cells, int32_t n_classes, double *sums,
                      int64_t *positive) {
    enum { SOME = 256 };
    double level[SOME];
    const int lanes = cw_has_avx512();
    for (int64_t i = 0; i < n_genes; i++) {
        double *s = sums + i * n_classes;
        int64_t *p = positive + i * n_classes;
        const int64_t end = indptr[genes[i] + 1];
        for (int64_t k = indptr[genes[i]]; k < end; k += SOME) {
            const int64_t n = end - k > SOME ? SOME : end - k;
            if (any_outside(cells + k, values + k, n, (uint32_t)n_cells - 1) >> 31) return 1;
            uint32_t large = 0;
            for (int64_t j = 0; j < n; j++) {
                uint32_t bits;
                memcpy(&bits, values + k + j, sizeof bits);
                large |= FORTY - (bits & 0x7FFFFFFFu);
            }
            if (large >> 31) { /* no logarithm of anything counted */
                for (int64_t j = 0; j < n; j++) level[j] = expm1((double)values[k + j]);
            } else {
                (lanes ? exps_lanes : exps)(values + k, n, level);
            }
            for (int64_t j = 0; j < n; j++) {
                const int32_t c = code[cells[k + j]];
                if (c >= 0) {
                    s[c] += level[j];
                    p[c] += values[k + j] > 0.0f;
                }
            }
        }
    }
    return 0;
}

/* Raw counts summed per class and gene, over the cells of the classes only. Gene numbers have `width` bytes, 2 or 4.
 * Returns 1 at a gene beyond n_genes. */
#define SUM_ROWS(ID)                                                      \
    for (int64_t i = 0; i < n_rows; i++) {                                \
        double *s = sums + (int64_t)code[i] * n_genes;                    \
        for (int64_t k = indptr[rows[i]]; k < indptr[rows[i] + 1]; k++) { \
            const uint32_t gene = (uint32_t)((const ID *)genes)[k];       \
            if (gene >= n_genes) return 1;                                \
            s[gene] += (double)values[k];                                 \
        }                                                                 \
    }
#define GROUP_SUMS(NAME, TYPE)                                                                                     \
    int32_t NAME(const int64_t *indptr, const void *genes, int32_t width, const TYPE *values, const int64_t *rows, \
                 int64_t n_rows, const int32_t *code, int64_t n_genes, double *sums) {                             \
        if (width == 2) {                                                                                          \
            SUM_ROWS(uint16_t)                                                                                     \
        } else {                                                                                                   \
            SUM_ROWS(int32_t)                                                                                      \
        }                                                                                                          \
        return 0;                                                                                                  \
    }
GROUP_SUMS(cw_group_sums_u8, uint8_t)
GROUP_SUMS(cw_group_sums_u16, uint16_t)
GROUP_SUMS(cw_group_sums_u32, uint32_t)
GROUP_SUMS(cw_group_sums_f32, float)
GROUP_SUMS(cw_group_sums_f64, double)
GROUP_SUMS(cw_group_sums_i64, int64_t)
