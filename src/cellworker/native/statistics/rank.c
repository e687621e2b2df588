/* Rank tests of every gene for every set of cells, from sorted values, in one linear scan. What must be exact is in
 * integers, and this file and rank_steps.h fix the order of every sum of floats. So neither threads nor blocks nor the
 * processor's instructions change a bit. */
#include "cellworker.h"

#include <math.h>

#include "dispatch.h"
#include "outside.h"
#include "rank_steps.h"

enum {
    BLOCK = 1 << 15, /* entries that stay in the cache while every plan reads them */
    PART = 1 << 11,  /* entries whose labels one step looks up */
    PAD = 64         /* entries that a step may read or write beyond the end of its arrays */
};

/* Sets of cells that share one ranking. Python fills it in as eight int64. */
struct RankPlan {
    const void *code; /* class of each cell, negative for excluded cells */
    int64_t n_classes, n_labelled;
    const int64_t *class_sizes;
    int64_t n_sets;
    const int64_t *bounds, *classes; /* the classes of set s are at bounds[s] to bounds[s + 1] */
    const int64_t *rows;             /* the row of results of each set */
};

/* One row per set, `stride` apart, one column per gene. */
struct RankTests {
    double *score, *auc, *fold, *inside, *outside;
    int64_t stride;
};

typedef unsigned __int128 Cubes; /* exceeded by ten million cells that tie */

/* The nearest double, ties to even. Not by a cast, which calls the compiler's runtime (c_library.h). */
static double nearest(Cubes x) {
    const uint64_t high = (uint64_t)(x >> 64), low = (uint64_t)x;
    if (!high) return (double)low;
    const int shift = 64 - __builtin_clzll(high), rest = 64 - shift; /* 1 to 64 bits are beyond the first 64 */
    uint64_t first = shift == 64 ? high : high << rest | low >> shift;
    if (low << rest) first |= 1; /* what is beyond can only decide a tie: the 11 last bits are rounded anyway */
    double scale = 1.0;
    for (int i = 0; i < shift; i++) scale *= 2.0;
    return (double)first * scale;
}

INLINE Cubes tie_term(uint64_t t) { return (Cubes)(t * t - 1) * t; }

/* The flags of `rules`. */
enum { SKIP_TOP_BLOCK = 1, NO_CONTINUITY = 2 };

/* Each set against all other cells that take part: the normal approximation corrected for ties and by `step` for
 * continuity. Each implicit zero of a class has twice the rank `zero_rank`. `spread` is n^3 - n minus the sum of t^3 -
 * t over all blocks of t ties. */
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

/* Implicit zeros sit between the negative and the positive values. With `check`, returns 1 at a cell that does not
 * exist. */
INLINE int32_t rank_gene(const int32_t *cells, const uint32_t *values, int64_t n, const RankPlan *plan, int64_t gene,
                         int64_t n_cells, int32_t rules, const RankTests *tests, Buffers buffers, const int check,
                         const int wide, const int fast) {
    const int64_t n_classes = plan->n_classes;
    const uint32_t last_cell = (uint32_t)n_cells - 1;
    const size_t size = wide ? sizeof(int16_t) : sizeof(int8_t);
    const int everybody = plan->n_labelled == n_cells;
    const uint32_t *value = everybody ? values : buffers.value;
    int16_t found[PART + PAD];
    const int two = n_classes == 2;
    int64_t seen = 0;
    TwoClasses pass;
    begin_two(&pass, n ? values[0] : 0);
    for (int64_t k = 0; k < n; k += PART) {
        const int64_t part = n - k > PART ? PART : n - k;
        if (check && outside_bits(cells + k, part, last_cell) >> 31) return 1;
        void *label = (char *)buffers.label + (size_t)seen * size, *into = everybody && !two ? label : found;
        look_up(plan->code, cells + k, values + k, part, into, wide);
        if (everybody) {
            if (two) pass_entries(&pass, values + k, into, part, buffers.run, buffers.twice, wide, fast);
            seen += part;
        } else if (wide) {
            seen += keep_labelled(found, values + k, part, buffers.value + seen, label, 1);
        } else {
            seen += WITH_LANES(keep_labelled_lanes((int8_t *)found, values + k, part, buffers.value + seen, label),
                               keep_labelled(found, values + k, part, buffers.value + seen, label, 0));
        }
    }
    if (two && !everybody) {
        begin_two(&pass, seen ? value[0] : 0);
        pass_entries(&pass, value, buffers.label, seen, buffers.run, buffers.twice, wide, fast);
    }
    const int64_t runs =
        two ? pass.runs
            : WITH_LANES(find_runs_lanes(value, seen, buffers.run, buffers.start), find_runs(value, seen, buffers.run));
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
    if (seen <= 1 << 21) { /* the sum of all cubes fits in 63 bits */
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
        end_two(&pass, run, buffers.twice, share + 1);
        for (int64_t i = 0; i < WIDTH; i++) {
            share[0].sum += pass.sums[0][i];
            share[1].sum += pass.sums[1][i];
        }
        share[0].detected = seen - share[1].detected;
        share[0].rank2 = seen * (seen + 1) + 2 * zeros * (seen - negative) - share[1].rank2;
    } else {
        WITH_LANES(spread_runs_lanes(seen, run, buffers.start, buffers.twice),
                   spread_runs(value, seen, run, buffers.twice));
        add_many(value, buffers.twice, buffers.label, seen, n_classes, buffers, wide);
    }
    tie += zeros ? tie_term((uint64_t)zeros) : 0;
    if (rules & SKIP_TOP_BLOCK) { /* the block of the largest value: a positive one, or the zeros */
        const int64_t block = negative < seen || !zeros ? top : zeros;
        /* no correction without a stored value: the original then counts no block of ties */
        tie = seen ? tie - tie_term((uint64_t)block) : 0;
    }
    const double spread = nearest(tie_term((uint64_t)plan->n_labelled) - tie);
    test_sets(plan, share, seen, 2 * negative + zeros + 1, spread, rules & NO_CONTINUITY ? 0.0 : 0.5, gene, tests);
    return 0;
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
    for (int64_t first = from, last; first < to; first = last) {
        for (last = first + 1; last < to && indptr[last + 1] - indptr[first] <= BLOCK;) last++;
        for (const RankPlan *plan = plans; plan < plans + n_plans; plan++) {
            for (int64_t g = first; g < last; g++) { /* the first plan reads the entries before the others do */
                if (rank_gene(cells + indptr[g], values + indptr[g], indptr[g + 1] - indptr[g], plan, g - from, n_cells,
                              rules, tests, buffers, plan == plans, wide, fast))
                    return 1;
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

    /* Test genes [from, to) under every plan. Labels are int8, or int16 if `wide`: bytes stay in the L1 cache, but more
     * than 127 classes need two. `plain` uses no 512-bit registers. Returns 1 at a cell beyond n_cells.
     */
    int32_t
    cw_rank_scan(SCAN_ARGUMENTS, int64_t longest, int64_t max_classes, void *scratch, int32_t wide, int32_t plain) {
    Buffers buffers;
    lay_out((char *)scratch + (64 - (uintptr_t)scratch % 64) % 64, longest, max_classes, &buffers);
    int32_t (*scan)(SCAN_ARGUMENTS, Buffers) = wide ? scan_wide : scan_narrow;
    if (!plain && cw_has_avx512()) scan = wide ? scan_wide_lanes : scan_narrow_lanes;
    return scan(indptr, cells, values, from, to, plans, n_plans, n_cells, rules, tests, buffers);
}
