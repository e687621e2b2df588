/* The growth of a forest of random hyperplane trees (forest.h). All trees share one generator, so they are built one
 * after the other. */
#include "dispatch.h"
#include "forest.h"

enum {
    STEPS = 200,  /* points drawn to find the two centres of a split */
    ATTEMPTS = 3, /* hyperplanes tried before a side is drawn at random */
    LANES = 4
};

static const float SMALL = 1e-12F; /* squared lengths beyond it, or 1 / it, leave too few exponents for products */

typedef float Lanes __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t Masks __attribute__((vector_size(4 * LANES)));

#if defined(__clang__)
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (Masks){__VA_ARGS__})
#endif

INLINE Lanes chosen(Masks yes, Lanes a, Lanes b) { return (Lanes)(((Masks)a & yes) | ((Masks)b & ~yes)); }

INLINE Lanes roots(Lanes x) { return (Lanes){sqrtf(x[0]), sqrtf(x[1]), sqrtf(x[2]), sqrtf(x[3])}; }

/* Marsaglia's KISS, 64 bits. */
static uint64_t draw(Forest *f) {
    f->z = 6906969069ULL * f->z + 1234567;
    f->y ^= f->y << 13;
    f->y ^= f->y >> 17;
    f->y ^= f->y << 43;
    const uint64_t t = (f->x << 58) + f->c;
    f->c = f->x >> 6;
    f->x += t;
    f->c += f->x < t;
    return f->x + f->y + f->z;
}

/* Divides a point by its length. */
static void normalize(float *v, int32_t n) {
    const float length = sqrtf(dot(v, v, n));
    if (length > 0) {
        for (int32_t i = 0; i < n; i++) v[i] /= length;
    }
}

/* The two centres of a split: the means of the points that they drew, unit vectors where angles count. Each is a row of
 * `width` numbers; what is beyond the dimensions is 0. */
typedef struct {
    float *mean[2];
    float drawn[2];             /* numbers of points in the means */
    float not_zeros[2];         /* whether the first point is not zeros */
    int32_t next[2][STEPS + 1]; /* the items that move each mean next */
    int32_t n_next[2];
} Centres;

/* Moves the means towards their next items. The two chains of divisions run beside each other. */
INLINE void move(const Forest *f, Centres *c, int32_t width) {
    const int32_t *n_next = c->n_next, both = n_next[0] < n_next[1] ? n_next[0] : n_next[1];
    for (int32_t k = 0; k < n_next[0] || k < n_next[1]; k++) {
        const int from = k < both || n_next[0] > n_next[1] ? 0 : 1, to = k < both ? 1 : from;
        for (int which = from; which <= to; which++) {
            const float *unit = f->units + (int64_t)c->next[which][k] * width;
            const float before = c->drawn[which], after = before + 1;
            for (int32_t i = 0; i < width; i += LANES) {
                Lanes *mean = (Lanes *)(c->mean[which] + i);
                *mean = (*mean * before + *(const Lanes *)(unit + i)) / after;
            }
            c->drawn[which] = after;
        }
    }
    c->n_next[0] = c->n_next[1] = 0;
}

/* The centre that a point moves, as the original's rounding has it; -1 where the point is as near to both. */
static int nearer(const Forest *f, Centres *c, int32_t item) {
    const int32_t n = f->n_dims;
    const float *v = point(f, item);
    float apart[2];
    move(f, c, (int32_t)f->width);
    for (int which = 0; which < 2; which++) {
        const float *mean = c->mean[which];
        const float distance =
            f->cosine ? angular(dot(mean, v, n), dot(mean, mean, n), f->norms[item]) : euclidean(mean, v, n);
        apart[which] = c->drawn[which] * distance;
    }
    return apart[0] < apart[1] ? 0 : apart[1] < apart[0] ? 1 : -1;
}

static void settle_euclidean(const Forest *f, Centres *c, const int32_t *items, int32_t n_items) {
    for (int32_t step = 0; step < n_items; step++) {
        const int which = nearer(f, c, items[step]);
        if (which >= 0) c->next[which][c->n_next[which]++] = items[step];
    }
}

/* The same for angles, where a step would wait for a chain of sums, a root and divisions of the step before. Instead,
 * the sums S of the drawn points tell which centre is nearer, by cos = S u / |S|; the means follow later. Where both
 * are nearly as near, the means tell. */
INLINE void settle_angular(const Forest *f, Centres *c, const int32_t *items, int32_t n_items, Lanes *sum_p,
                           Lanes *sum_q, int32_t n) {
    const int32_t width = (n + LANES - 1) / LANES * LANES, m = width / LANES;
    const Lanes firsts = {1, 1, 0, 0};
    /* Of the first centre, of the second; squared lengths are 1, or 0 of zeros. */
    Lanes drawn = firsts, squared = {c->not_zeros[0], c->not_zeros[1], 1, 1}, inverse = drawn / roots(squared);
    for (int32_t l = 0; l < m; l++) {
        sum_p[l] = ((const Lanes *)c->mean[0])[l];
        sum_q[l] = ((const Lanes *)c->mean[1])[l];
    }
    int32_t n_p = 0, n_q = 0;
    for (int32_t step = 0; step < n_items; step++) {
        const int32_t item = items[step];
        const Lanes *unit = (const Lanes *)(f->units + (int64_t)item * width);
        Lanes a = sum_p[0] * unit[0], b = sum_q[0] * unit[0];
        for (int32_t l = 1; l < m; l++) {
            a += sum_p[l] * unit[l];
            b += sum_q[l] * unit[l];
        }
        const Lanes pairs = SHUFFLE(a, b, 0, 4, 1, 5) + SHUFFLE(a, b, 2, 6, 3, 7);
        const Lanes product = pairs + SHUFFLE(pairs, pairs, 2, 3, 2, 3);
        const Lanes apart = drawn - inverse * product;
        /* as if both moved: known before the step is decided */
        const Lanes more = drawn + 1, longer = squared + product * 2 + 1, next = more / roots(longer);
        /* A mean of k points of length 1 is wrong by up to 1.5 k roundings, the sums by less, |S| by k / 3 / cos^2. */
        const Lanes error = (drawn * 4 + f->error) * drawn * (inverse + 1) * (inverse + 1);
        Masks nearer_p = SHUFFLE(apart, apart, 0, 0, 0, 0) < SHUFFLE(apart, apart, 1, 1, 1, 1);
        if (__builtin_expect(!(fabsf(apart[0] - apart[1]) > (error[0] + error[1]) * 0x1p-24F), 0)) {
            c->n_next[0] = n_p;
            c->n_next[1] = n_q;
            n_p = n_q = 0;
            const int which = nearer(f, c, item);
            if (which < 0) continue;
            nearer_p = (Masks){-!which, -!which, -!which, -!which};
        }
        for (int32_t l = 0; l < m; l++) {
            sum_p[l] += (Lanes)((Masks)unit[l] & nearer_p);
            sum_q[l] += (Lanes)((Masks)unit[l] & ~nearer_p);
        }
        const Masks moved = SHUFFLE(nearer_p, ~nearer_p, 0, 4, 0, 4);
        inverse = chosen(moved, next, inverse);
        squared = chosen(moved, longer, squared);
        drawn = chosen(moved, more, drawn);
        c->next[0][n_p] = c->next[1][n_q] = item;
        n_p -= nearer_p[0];
        n_q += 1 + nearer_p[0];
    }
    c->n_next[0] = n_p;
    c->n_next[1] = n_q;
    move(f, c, width);
}

/* The plane half way between two centres, which move towards the drawn points. Returns the plane's offset. */
INLINE float split_any(Forest *f, const int32_t *items, int64_t count, int32_t n) {
    const int32_t width = (n + LANES - 1) / LANES * LANES;
    Centres c;
    c.mean[0] = f->centre;
    c.mean[1] = f->centre + width;
    c.drawn[0] = c.drawn[1] = 1;
    c.n_next[0] = c.n_next[1] = 0;
    int32_t sample[STEPS], n_sample = 0;
    const uint64_t i = draw(f) % (uint64_t)count;
    uint64_t j = draw(f) % (uint64_t)(count - 1);
    j += j >= i;
    for (int step = 0; step < STEPS; step++) {
        sample[n_sample] = items[draw(f) % (uint64_t)count];
        n_sample += !f->cosine || f->norms[sample[n_sample]] > 0;
    }
    c.not_zeros[0] = f->norms[items[i]] > 0;
    c.not_zeros[1] = f->norms[items[j]] > 0;
    memcpy(c.mean[0], f->units + (int64_t)items[i] * width, (size_t)width * sizeof(float));
    memcpy(c.mean[1], f->units + (int64_t)items[j] * width, (size_t)width * sizeof(float));
    if (!f->cosine) {
        settle_euclidean(f, &c, sample, n_sample);
        move(f, &c, width);
    } else if (n == USUAL_DIMS) {
        Lanes p[(USUAL_DIMS + LANES - 1) / LANES], q[(USUAL_DIMS + LANES - 1) / LANES];
        settle_angular(f, &c, sample, n_sample, p, q, n);
    } else {
        Lanes *sums = (Lanes *)(f->centre + 3 * width);
        settle_angular(f, &c, sample, n_sample, sums, sums + width / LANES, n);
    }
    float *normal = f->centre + 2 * width, offset = 0;
    for (int32_t d = 0; d < n; d++) normal[d] = c.mean[0][d] - c.mean[1][d];
    normalize(normal, n);
    if (!f->cosine) {
        for (int32_t d = 0; d < n; d++) offset += -normal[d] * (c.mean[0][d] + c.mean[1][d]) / 2;
    }
    return offset;
}

static float split(Forest *f, const int32_t *items, int64_t count) {
    return f->n_dims == USUAL_DIMS ? split_any(f, items, count, USUAL_DIMS) : split_any(f, items, count, f->n_dims);
}

/* Notes each item's side of a plane; returns how many are on the right. */
INLINE int64_t part_any(Forest *f, const int32_t *items, int64_t count, const float *normal, float offset, int32_t n) {
    uint8_t *side = f->side + (items - f->order);
    int64_t right = 0;
    for (int64_t i = 0; i < count; i++) {
        const float margin = offset + dot(normal, f->points + (int64_t)items[i] * n, n);
        side[i] = margin != 0 ? margin > 0 : (uint8_t)(draw(f) & 1);
        right += side[i];
    }
    return right;
}

static int64_t part(Forest *f, const int32_t *items, int64_t count, const float *normal, float offset) {
    if (f->n_dims == USUAL_DIMS) return part_any(f, items, count, normal, offset, USUAL_DIMS);
    return part_any(f, items, count, normal, offset, f->n_dims);
}

static float imbalance(int64_t left, int64_t right) {
    const float share = (float)((double)left / ((double)(left + right) + 1e-9));
    return share > 1 - share ? share : 1 - share;
}

/* Appends a node and returns its id, or -1. The nodes may move: addresses taken before the call are stale. */
static int64_t new_node(Forest *f) {
    if (f->n_nodes == f->n_allocated) {
        const int64_t n_allocated = f->n_allocated + f->n_allocated / 2 + 1024;
        if (n_allocated + f->n_items > INT32_MAX) return -1;
        Word *nodes = realloc(f->nodes, (size_t)n_allocated * (size_t)(HEAD + f->capacity) * sizeof *nodes);
        if (!nodes) return -1;
        f->nodes = nodes;
        f->n_allocated = n_allocated;
    }
    return f->n_items + f->n_nodes++;
}

/* Makes the tree of some items and returns its root, or -1 when memory runs out. A node gets its number when it is
 * complete: queries break ties by number. */
static int64_t grow(Forest *f, int32_t *items, int64_t count, int is_root) {
    if (count == 1 && !is_root) return items[0];
    if (count <= f->capacity && (!is_root || f->n_items <= f->capacity)) {
        const int64_t id = new_node(f);
        if (id < 0) return -1;
        Word *leaf = node_at(f, id);
        leaf[0].whole = (int32_t)count;
        leaf[1].real = 0;
        memcpy(leaf + HEAD, items, (size_t)count * sizeof *items);
        return id;
    }
    const int32_t n = f->n_dims;
    uint8_t *side = f->side + (items - f->order);
    float *normal = f->centre + 2 * f->width, offset = 0;
    int64_t right = 0;
    for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
        offset = split(f, items, count);
        right = part(f, items, count, normal, offset);
        if ((double)imbalance(count - right, right) < 0.95) break;
    }
    while ((double)imbalance(count - right, right) > 0.99) { /* equal points: no plane parts them */
        memset(normal, 0, (size_t)n * sizeof *normal);
        right = 0;
        for (int64_t i = 0; i < count; i++) {
            side[i] = (uint8_t)(draw(f) & 1);
            right += side[i];
        }
    }
    const int64_t left = count - right;
    int64_t l = 0, r = left;
    for (int64_t i = 0; i < count; i++) f->spare[side[i] ? r++ : l++] = items[i];
    memcpy(items, f->spare, (size_t)count * sizeof *items);

    Word *plane = malloc((size_t)n * sizeof *plane); /* the subtrees use the centres */
    if (!plane) return -1;
    memcpy(plane, normal, (size_t)n * sizeof *plane);
    int64_t child[2];
    const int first = left > right;
    for (int k = 0; k < 2; k++) {
        const int which = k ^ first;
        child[which] = grow(f, which ? items + left : items, which ? right : left, 0);
        if (child[which] < 0) {
            free(plane);
            return -1;
        }
    }
    const int64_t id = new_node(f);
    if (id >= 0) {
        Word *node = node_at(f, id);
        node[0].whole = is_root ? f->n_items : (int32_t)count;
        node[1].real = offset;
        node[HEAD].whole = (int32_t)child[0];
        node[HEAD + 1].whole = (int32_t)child[1];
        memcpy(node + HEAD + 2, plane, (size_t)n * sizeof *plane);
    }
    free(plane);
    return id;
}

void cw_forest_free(Forest *f) {
    if (!f) return;
    free(f->norms);
    free(f->units);
    free(f->nodes);
    free(f->roots);
    free(f->order);
    free(f->spare);
    free(f->side);
    free(f->centre);
    free(f);
}

/* A forest without trees, or NULL. The points stay the caller's and must outlive it. */
Forest *cw_forest_new(const float *points, int32_t n_items, int32_t n_dims, int32_t cosine, int32_t n_trees) {
    Forest *f = calloc(1, sizeof *f);
    if (!f) return NULL;
    const size_t n = (size_t)n_items;
    f->points = points;
    f->n_items = n_items;
    f->n_dims = n_dims;
    f->cosine = cosine;
    f->capacity = n_dims + 2;
    f->x = 1234567890987654321ULL;
    f->y = 362436362436362436ULL;
    f->z = 1066149217761810ULL;
    f->c = 123456123456123456ULL;
    f->norms = malloc(n * sizeof *f->norms);
    f->order = malloc(n * sizeof *f->order);
    f->spare = malloc(n * sizeof *f->spare);
    f->side = malloc(n);
    f->roots = malloc((size_t)n_trees * sizeof *f->roots);
    f->width = (n_dims + LANES - 1) / LANES * LANES;
    f->centre = calloc(5 * (size_t)f->width, sizeof *f->centre);
    f->units = calloc(n * (size_t)f->width, sizeof *f->units);
    if (!f->norms || !f->units || !f->order || !f->spare || !f->side || !f->roots || !f->centre) {
        cw_forest_free(f);
        return NULL;
    }
    f->error = (float)(8 * n_dims + 40);
    for (int32_t i = 0; i < n_items; i++) {
        float *unit = f->units + (int64_t)i * f->width;
        memcpy(unit, point(f, i), (size_t)n_dims * sizeof *unit);
        f->norms[i] = dot(unit, unit, n_dims);
        if (cosine) normalize(unit, n_dims);
        if (f->norms[i] > 0 && !(f->norms[i] > SMALL && f->norms[i] < 1 / SMALL)) f->error = INFINITY;
    }
    return f;
}

/* Adds one tree; the caller adds no more than announced. Returns -1 when memory runs out. */
int32_t cw_forest_grow(Forest *f) {
    for (int32_t i = 0; i < f->n_items; i++) f->order[i] = i;
    const int64_t root = grow(f, f->order, f->n_items, 1);
    if (root < 0) return -1;
    f->roots[f->n_roots++] = (int32_t)root;
    return 0;
}
