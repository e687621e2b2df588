/* t-SNE (van der Maaten and Hinton 2008; van der Maaten 2014): attraction along the links of a sparse graph, and
 * repulsion between all points by a grid, as in Linderman et al. 2019, but with a particle mesh. This file holds the
 * layout and runs the steps of tsne_repulsion.h and tsne_move.h.
 *
 * The order of every sum depends on the points alone: the cut into pieces is fixed, and threads take pieces. */
#include "tsne.h"

#include "radix.h"
#include "tsne_move.h"
#include "tsne_repulsion.h"

enum {
    MARGIN = 8,       /* nodes over which the inverse of the spline's filter fades */
    MIN_STEPS = 48,   /* grid nodes across the points, when they are close */
    MAX_STEPS = 2048, /* grid nodes, when they are far apart */
    FINEST = -16,     /* halvings of the step */
    EXACT = 768       /* max points whose repulsion is summed over all pairs */
};

static const double STEP = 0.375; /* of the grid, in units of the layout, where the points are spread out */

enum {
    COUNT,
    PLACE,
    SPREAD_EVEN,
    SPREAD_ODD,
    ALONG,
    ACROSS,
    BACK,
    GATHER,
    MOVE,
    PAIRS,
    KERNEL_ALONG,
    KERNEL_ACROSS,
    RELABEL,
    REWEIGH
};

INLINE void work(Tsne *s, int32_t what, int32_t piece, int32_t thread) {
    switch (what) {
    case COUNT:
        count(s, piece);
        break;
    case PLACE:
        put(s, piece);
        break;
    case SPREAD_EVEN:
        spread(s, 2 * piece, 1);
        break;
    case SPREAD_ODD:
        spread(s, 2 * piece + 1, 0);
        break;
    case ALONG:
        along(s, piece, thread);
        break;
    case ACROSS:
        across(s, piece, thread);
        break;
    case BACK:
        back(s, piece, thread);
        break;
    case GATHER:
        gather(s, piece);
        break;
    case MOVE:
        move(s, piece);
        break;
    case PAIRS:
        pairs(s, piece);
        break;
    case RELABEL:
        relabel(s, piece, 0);
        break;
    case REWEIGH:
        relabel(s, piece, 1);
        break;
    case KERNEL_ALONG:
        kernel_along(s, piece, thread);
        break;
    default:
        kernel_across(s, piece, thread);
    }
}

static void work_narrow(void *s, int32_t what, int32_t piece, int32_t thread) { work(s, what, piece, thread); }

#ifdef CW_AVX2
static CW_AVX2 void work_wide(void *s, int32_t what, int32_t piece, int32_t thread) { work(s, what, piece, thread); }
static PieceFunction *worker(void) { return cw_has_avx2() ? work_wide : work_narrow; }
#else
static PieceFunction *worker(void) { return work_narrow; }
#endif

static void all(Tsne *s, int32_t what, int32_t pieces) { run_pieces(&s->pool, worker(), s, what, pieces); }

/* ---- the layout's surroundings ---- */

/* Makes capacity for `wanted` numbers; the old values are lost. */
static int reserve(void **numbers, int64_t *capacity, int64_t wanted, size_t size) {
    if (*capacity >= wanted) return 0;
    free(*numbers);
    *numbers = malloc((size_t)wanted * size);
    *capacity = *numbers ? wanted : 0;
    return *numbers ? 0 : -1;
}

/* Lays the grid over the points and computes the kernel's transform for it, unless the old grid suffices. */
static int lay_grid(Tsne *s, Summary box) {
    const double width = box.high_x - box.low_x, height = box.high_y - box.low_y;
    const double span = width > height ? width : height;
    int32_t halvings = 0;
    double step = STEP;
    while (span > MAX_STEPS * step) {
        step *= 2;
        halvings++;
    }
    while (span < MIN_STEPS * step && halvings > FINEST) {
        step /= 2;
        halvings--;
    }
    s->low_x = box.low_x;
    s->low_y = box.low_y;
    s->nodes_x = (int32_t)(width / step) + NODES;
    s->nodes_y = (int32_t)(height / step) + NODES;
    const int32_t min_x = 2 * s->nodes_x + MARGIN, min_y = 2 * s->nodes_y + MARGIN;
    const int fits = s->along.length >= min_x && s->along.length < 2 * min_x && s->across.length >= min_y &&
                     s->across.length < 2 * min_y;
    s->blocks = (s->nodes_y + ROWS - 1) / ROWS;
    const int same = fits && s->halvings == halvings && s->step > 0;
    s->step = step;
    s->halvings = halvings;
    if (!same) {
        fourier_free(&s->along);
        fourier_free(&s->across);
        if (fourier_new(&s->along, good_length(min_x)) || fourier_new(&s->across, good_length(min_y))) return -1;
        s->chunks = s->along.length / 2 / LANES + 1;
    }
    const int64_t longest = s->along.length > s->across.length ? s->along.length : s->across.length;
    const int64_t per_thread = 2 * longest * ELEMENT;
    if (s->capacity_scratch < per_thread) {
        free(s->scratch);
        s->scratch = malloc((size_t)(s->n_threads * per_thread) * sizeof *s->scratch);
        s->capacity_scratch = s->scratch ? per_thread : 0;
        if (!s->scratch) return -1;
    }
    if (reserve((void **)&s->grid, &s->capacity_grid, (int64_t)s->blocks * s->nodes_x * ROWS, sizeof *s->grid) ||
        reserve((void **)&s->spectrum, &s->capacity_spectrum, (int64_t)s->chunks * s->blocks * ROWS * ELEMENT,
                sizeof *s->spectrum) ||
        reserve((void **)&s->kernel, &s->capacity_kernel, (int64_t)s->chunks * s->across.length * LANES,
                sizeof *s->kernel) ||
        reserve((void **)&s->counts, &s->capacity_counts, (int64_t)s->pieces * s->blocks, sizeof *s->counts) ||
        reserve((void **)&s->starts, &s->capacity_starts, (int64_t)s->blocks + 1, sizeof *s->starts)) {
        return -1;
    }
    if (!same) {
        all(s, KERNEL_ALONG, s->across.length / 2 / ROWS + 1);
        all(s, KERNEL_ACROSS, s->chunks);
    }
    return 0;
}

static Summary gathered(const Tsne *s) {
    Summary whole = nowhere();
    for (int32_t p = 0; p < s->pieces; p++) {
        const Point low = {(float)s->summaries[p].low_x, (float)s->summaries[p].low_y};
        const Point high = {(float)s->summaries[p].high_x, (float)s->summaries[p].high_y};
        reach(&whole, low);
        reach(&whole, high);
    }
    return whole;
}

/* The pushes on all points and the sum of the kernel over all pairs. */
static int repel(Tsne *s, int exact) {
    const Summary box = gathered(s);
    if (exact) {
        all(s, PAIRS, s->pieces);
    } else {
        if (lay_grid(s, box)) return -1;
        all(s, COUNT, s->pieces);
        int32_t at = 0;
        for (int32_t b = 0; b < s->blocks; b++) {
            s->starts[b] = at;
            for (int32_t p = 0; p < s->pieces; p++) {
                int32_t *counts = s->counts + (int64_t)p * s->blocks + b;
                const int32_t here = *counts;
                *counts = at;
                at += here;
            }
        }
        s->starts[s->blocks] = at;
        all(s, PLACE, s->pieces);
        all(s, SPREAD_EVEN, (s->blocks + 1) / 2);
        if (s->blocks > 1) all(s, SPREAD_ODD, s->blocks / 2);
        all(s, ALONG, s->blocks);
        all(s, ACROSS, s->chunks);
        all(s, BACK, s->blocks);
        all(s, GATHER, s->pieces);
    }
    s->total = 0;
    for (int32_t p = 0; p < s->pieces; p++) s->total += s->summaries[p].total;
    /* A lower bound, needed where the grid is too coarse for lone points: no pair is farther apart than the corners of
     * the layout. */
    const double width = box.high_x - box.low_x, height = box.high_y - box.low_y;
    const double min_total = (double)s->n * (double)(s->n - 1) / (1 + width * width + height * height);
    if (!(s->total > min_total)) s->total = min_total;
    return 0;
}

void cw_tsne_free(Tsne *s) {
    if (!s) return;
    void *held[] = {s->first,  s->to,        s->weight, s->counted, s->from,  s->back,     s->original, s->now,
                    s->before, s->new_first, s->place,  s->next,    s->speed, s->gain,     s->push,     s->summaries,
                    s->sorted, s->order,     s->counts, s->starts,  s->grid,  s->spectrum, s->kernel,   s->scratch};
    for (size_t i = 0; i < sizeof held / sizeof *held; i++) free(held[i]);
    fourier_free(&s->along);
    fourier_free(&s->across);
    free(s);
}

static void look_around(Tsne *s) {
    for (int32_t p = 0; p < s->pieces; p++) {
        s->summaries[p] = nowhere();
        for (int64_t i = begin_of(s, p); i < end_of(s, p); i++) reach(&s->summaries[p], s->place[i]);
    }
}

/* Sets the points' places, with speed 0. */
void cw_tsne_place(Tsne *s, const float *points) {
    for (int32_t i = 0; i < s->n; i++) {
        s->place[i] = (Point){points[2 * (int64_t)s->original[i]], points[2 * (int64_t)s->original[i] + 1]};
        s->speed[i] = (Point){0, 0};
        s->gain[i] = (Point){1, 1};
    }
    look_around(s);
}

/* Copies the points' places, in the caller's order. */
void cw_tsne_layout(const Tsne *s, float *points) {
    for (int32_t i = 0; i < s->n; i++) memcpy(points + 2 * (int64_t)s->original[i], s->place + i, sizeof *s->place);
}

/* A layout of n points (pairs x, y) without a graph, or NULL; up to `n_threads` threads may work on it. */
Tsne *cw_tsne_new(const float *points, int32_t n, int32_t n_threads) {
    Tsne *s = calloc(1, sizeof *s);
    if (!s) return NULL;
    s->n = n;
    s->n_threads = n_threads;
    s->piece = n < 8192 ? 64 : 512;
    while (n / s->piece >= MAX_PIECES) s->piece *= 2;
    s->pieces = (n + s->piece - 1) / s->piece;
    s->pool.closed = 1;
    const size_t size = (size_t)n;
    s->first = calloc(size + 1, sizeof *s->first);
    s->new_first = malloc((size + 1) * sizeof *s->new_first);
    int32_t **wholes[] = {&s->original, &s->now, &s->before, &s->order};
    Point **places[] = {&s->place, &s->next, &s->speed, &s->gain, &s->push, &s->sorted};
    s->summaries = malloc((size_t)s->pieces * sizeof *s->summaries);
    int failed = !s->first || !s->new_first || !s->summaries;
    for (size_t i = 0; i < sizeof wholes / sizeof *wholes; i++) {
        failed |= !(*wholes[i] = malloc(size * sizeof **wholes[i]));
    }
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        failed |= !(*places[i] = malloc(size * sizeof **places[i]));
    }
    if (failed) {
        cw_tsne_free(s);
        return NULL;
    }
    for (int32_t i = 0; i < n; i++) s->original[i] = i;
    cw_tsne_place(s, points);
    return s;
}

/* ---- the descent ---- */

void cw_tsne_open_pool(Tsne *s) { atomic_store(&s->pool.closed, 0); }

void cw_tsne_close_pool(Tsne *s) { atomic_store(&s->pool.closed, 1); }

/* Runs pieces on a worker thread, numbered from 1. Returns after cw_tsne_close_pool. */
void cw_tsne_work(Tsne *s, int32_t thread) { work_until_closed(&s->pool, worker(), s, thread); }

/* Runs `iterations` iterations; -1 when memory runs out. */
int32_t cw_tsne_descend(Tsne *s, int32_t iterations, float rate, float momentum, float exaggeration) {
    s->rate = rate;
    s->momentum = momentum;
    s->exaggeration = exaggeration;
    for (int32_t i = 0; i < iterations; i++) {
        if (repel(s, s->n <= EXACT)) return -1;
        all(s, MOVE, s->pieces);
        Point *swap = s->place;
        s->place = s->next;
        s->next = swap;
    }
    return 0;
}

/* Spreads the lower 16 bits, a gap after each. */
static uint32_t spaced(uint32_t x) {
    x = (x | x << 8) & 0x00FF00FF;
    x = (x | x << 4) & 0x0F0F0F0F;
    x = (x | x << 2) & 0x33333333;
    return (x | x << 1) & 0x55555555;
}

static void permute(Point **points, Point **spare, const int32_t *before, int32_t n) {
    for (int32_t i = 0; i < n; i++) (*spare)[i] = (*points)[before[i]];
    Point *swap = *points;
    *points = *spare;
    *spare = swap;
}

/* Orders the points along Morton's curve, so that neighbours are close in memory too. Returns -1 when memory runs out.
 */
int32_t cw_tsne_sort(Tsne *s) {
    const int32_t n = s->n;
    const Summary box = gathered(s);
    const double width = box.high_x - box.low_x, height = box.high_y - box.low_y;
    const double span = width > height ? width : height, scale = span > 0 ? 65535 / span : 0;
    uint64_t *keys = malloc(2 * (size_t)n * sizeof *keys);
    uint32_t *high = malloc((size_t)n * sizeof *high);
    s->moved = malloc((size_t)(s->first[n] + 1) * sizeof *s->to);
    int32_t failed = keys && high && s->moved ? 0 : -1;
    if (!failed) {
        for (int32_t i = 0; i < n; i++) {
            const uint32_t x = (uint32_t)(((double)s->place[i].x - box.low_x) * scale);
            const uint32_t y = (uint32_t)(((double)s->place[i].y - box.low_y) * scale);
            keys[i] = (uint64_t)(spaced(x) | spaced(y) << 1) << 32 | (uint64_t)i;
        }
        radix_split(keys, n, keys + n, (uint32_t *)s->before, high);
        s->new_first[0] = 0;
        for (int32_t i = 0; i < n; i++) {
            const int32_t old = s->before[i];
            s->now[old] = i;
            s->order[i] = s->original[old];
            s->new_first[i + 1] = s->new_first[i] + (s->first[old + 1] - s->first[old]);
        }
        memcpy(s->original, s->order, (size_t)n * sizeof *s->original);
        permute(&s->place, &s->sorted, s->before, n);
        permute(&s->speed, &s->sorted, s->before, n);
        permute(&s->gain, &s->sorted, s->before, n);
        all(s, RELABEL, s->pieces);
        int32_t *to = s->moved;
        s->moved = s->to;
        s->to = to;
        all(s, REWEIGH, s->pieces); /* weights are of the same size */
        float *weight = s->moved;
        s->moved = s->weight;
        s->weight = weight;
        int64_t *swap = s->first;
        s->first = s->new_first;
        s->new_first = swap;
        look_around(s);
    }
    free(keys);
    free(high);
    free(s->moved);
    s->moved = NULL;
    return failed;
}

/* For every point, the sum of (own place - other) / (1 + d^2)^2 over all other points; and the sum of 1 / (1 + d^2)
 * over all pairs. By the grid, or pair by pair. Returns -1 when memory runs out. */
int32_t cw_tsne_repulsion(Tsne *s, int32_t exact, float *pushes, double *total) {
    if (repel(s, exact)) return -1;
    for (int32_t i = 0; i < s->n; i++) memcpy(pushes + 2 * (int64_t)s->original[i], s->push + i, sizeof *s->push);
    *total = s->total;
    look_around(s);
    return 0;
}
