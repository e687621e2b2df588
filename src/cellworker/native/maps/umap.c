/* The epochs of UMAP's layout (McInnes, Healy and Melville, 2018).
 *
 * An epoch moves every point, given the layout after the last epoch. So points may move in any order, on any number of
 * threads, with the same result to the last bit. Attraction is the weighted sum over all links of a point; nothing is
 * drawn. Repulsion comes from a window of a shuffled copy of the layout: a uniform sample that is contiguous in memory.
 * Sums run in eight lanes on every processor; powers are polynomials. */
#include "cellworker.h"
#include "dispatch.h"

#include <math.h>
#include <string.h>

enum { LANES = 8, PAIRS = 64 };

typedef float Reals __attribute__((vector_size(4 * LANES)));
typedef int32_t Wholes __attribute__((vector_size(4 * LANES)));

INLINE Reals all(float x) { return (Reals){x, x, x, x, x, x, x, x}; }
INLINE Wholes alls(int32_t x) { return (Wholes){x, x, x, x, x, x, x, x}; }
INLINE Reals choose(Wholes which, Reals yes, Reals no) {
    return (Reals)(((Wholes)yes & which) | ((Wholes)no & ~which));
}
INLINE Reals min_of(Reals a, Reals b) { return choose(a < b, a, b); }
INLINE Reals max_of(Reals a, Reals b) { return choose(a > b, a, b); }
INLINE Reals load(const float *at) {
    Reals out;
    memcpy(&out, at, sizeof out);
    return out;
}
INLINE float sum(Reals v) { return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7])); }

/* x to the power of b, to six digits, for finite x > 0. */
INLINE Reals power(Reals x, Reals b) {
    const Wholes bits = (Wholes)x;
    const Wholes e = (bits - alls(0x3f3504f3)) >> 23;
    const Reals t = (Reals)(bits - (e << 23)) - all(1.0f); /* from sqrt(1/2) - 1 to sqrt(2) - 1 */
    Reals log2 = all(0.172128731f);
    log2 = log2 * t + all(-0.269506274f);
    log2 = log2 * t + all(0.2956336f);
    log2 = log2 * t + all(-0.359350653f);
    log2 = log2 * t + all(0.480629147f);
    log2 = log2 * t + all(-0.72136404f);
    log2 = log2 * t + all(1.44269643f);
    const Reals y = min_of(max_of(b * (log2 * t + __builtin_convertvector(e, Reals)), all(-126.0f)), all(126.0f));
    const Reals magic = all(12582912.0f); /* adding it rounds to a whole number, in the low bits */
    const Reals rounded = y + magic;
    const Reals f = y - (rounded - magic);
    Reals exp2 = all(0.00134004322f);
    exp2 = exp2 * f + all(0.0096760371f);
    exp2 = exp2 * f + all(0.0555032721f);
    exp2 = exp2 * f + all(0.240221074f);
    exp2 = exp2 * f + all(0.693147207f);
    exp2 = exp2 * f + all(1.00000008f);
    return (Reals)((Wholes)exp2 + (((Wholes)rounded - (Wholes)magic) << 23));
}

INLINE Reals clip(Reals v) { return min_of(max_of(v, all(-4.0f)), all(4.0f)); }

static inline uint64_t mixed(uint64_t x) { /* the finalizer of SplitMix64 */
    x += 0x9e3779b97f4a7c15ULL;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
    return x ^ (x >> 31);
}

static inline int32_t below(uint64_t random, int64_t n) { return (int32_t)(((random >> 32) * (uint64_t)n) >> 32); }

struct UmapLayout {
    /* links of the points that move, compressed rows */
    const int64_t *first;
    const int32_t *to;
    const float *weight;
    const float *strength; /* sum of each row */
    /* the ends of links, pairs; and the same layout shuffled, with its first `window` points repeated at its end */
    const float *anchors;
    const float *pool_x, *pool_y;
    /* the moving points, pairs, before and after; their running means of gradients and of squares, pairs */
    const float *old;
    float *new, *moments;
    /* the shuffled copy that the next epoch reads, NULL where the anchors stay; each point's place in it */
    float *next_x, *next_y;
    const int32_t *place;
    uint64_t seed;
    int32_t n_pool, window;
    float a, b, negatives;
};

struct UmapStep {
    float rate, beta1, beta2, eps;
};

INLINE void move(const UmapLayout *l, int64_t i, int32_t epoch, UmapStep step) {
    const Reals a = all(l->a), b = all(l->b), clamp = all(1.1920929e-7f);
    const Reals x = all(l->old[2 * i]), y = all(l->old[2 * i + 1]);
    Reals gx = all(0), gy = all(0);
    float tx[PAIRS], ty[PAIRS], tw[PAIRS];
    const Reals pull = all(-2.0f * l->a * l->b);
    for (int64_t e = l->first[i]; e < l->first[i + 1]; e += PAIRS) {
        const int64_t left = l->first[i + 1] - e;
        const int count = left < PAIRS ? (int)left : PAIRS;
        for (int k = 0; k < count; k++) {
            const float *at = l->anchors + 2 * (int64_t)l->to[e + k];
            tx[k] = at[0];
            ty[k] = at[1];
            tw[k] = l->weight[e + k];
        }
        for (int k = count; k % LANES; k++) tx[k] = ty[k] = tw[k] = 0;
        for (int k = 0; k < count; k += LANES) {
            const Reals dx = x - load(tx + k), dy = y - load(ty + k), w = load(tw + k);
            const Reals d2 = max_of(dx * dx + dy * dy, clamp);
            const Reals p = power(d2, b);
            const Reals c = pull * p / (d2 * (all(1.0f) + a * p));
            gx += w * clip(c * dx);
            gy += w * clip(c * dy);
        }
    }
    Reals rx = all(0), ry = all(0);
    const int32_t from = below(mixed(mixed(l->seed + (uint64_t)epoch) + (uint64_t)i), l->n_pool);
    const Reals push = all(2.0f * l->b);
    for (int32_t k = from; k < from + l->window; k += LANES) {
        const Reals dx = x - load(l->pool_x + k), dy = y - load(l->pool_y + k);
        const Reals d2 = max_of(dx * dx + dy * dy, clamp);
        const Reals p = power(d2, b);
        const Reals c = push / ((all(0.001f) + d2) * (all(1.0f) + a * p));
        rx += clip(c * dx);
        ry += clip(c * dy);
    }
    const float share = l->strength[i] * l->negatives / (float)l->window;
    const float g[2] = {2.0f * sum(gx) + share * sum(rx), 2.0f * sum(gy) + share * sum(ry)};
    for (int d = 0; d < 2; d++) {
        float *mean = l->moments + 4 * i + d, *square = mean + 2;
        *mean = step.beta1 * *mean + (1 - step.beta1) * g[d];
        *square = step.beta2 * *square + (1 - step.beta2) * g[d] * g[d];
        l->new[2 * i + d] = l->old[2 * i + d] + step.rate * *mean / (sqrtf(*square) + step.eps);
    }
    if (l->next_x) {
        for (int64_t at = l->place[i]; at < l->n_pool + l->window; at += l->n_pool) {
            l->next_x[at] = l->new[2 * i];
            l->next_y[at] = l->new[2 * i + 1];
        }
    }
}

INLINE void moves(const UmapLayout *l, int64_t start, int64_t stop, int32_t epoch, UmapStep step) {
    for (int64_t i = start; i < stop; i++) move(l, i, epoch, step);
}

#ifdef CW_AVX2
/* The same operations on the same numbers, eight at a time; multiplications and additions are not fused here either. */
CW_AVX2 static void moves_avx2(const UmapLayout *l, int64_t start, int64_t stop, int32_t epoch, UmapStep step) {
    moves(l, start, stop, epoch, step);
}
#endif

/* Moves the points start to stop by one epoch. */
void cw_umap_move(const UmapLayout *l, int64_t start, int64_t stop, int32_t epoch, const UmapStep *step) {
#ifdef CW_AVX2
    if (cw_has_avx2()) {
        moves_avx2(l, start, stop, epoch, *step);
        return;
    }
#endif
    moves(l, start, stop, epoch, *step);
}

/* Fisher-Yates shuffle: `order` becomes a permutation of 0 to n - 1. */
void cw_umap_shuffle(int32_t *order, int64_t n, uint64_t seed) {
    for (int64_t i = 0; i < n; i++) order[i] = (int32_t)i;
    for (int64_t i = n - 1; i > 0; i--) {
        const int32_t j = below(mixed(seed ^ mixed((uint64_t)i)), i + 1), held = order[i];
        order[i] = order[j];
        order[j] = held;
    }
}

/* Uniform random numbers in [-1, 1). */
void cw_umap_noise(float *out, int64_t n, uint64_t seed) {
    for (int64_t i = 0; i < n; i++) {
        out[i] = (float)(mixed(mixed(seed) + (uint64_t)i) >> 40) / 8388608.0f - 1.0f;
    }
}
