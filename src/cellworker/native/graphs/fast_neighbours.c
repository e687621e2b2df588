/* Nearest neighbours for embeddings, in single precision: exact by a tree of boxes, or among the nearest lists of a
 * k-means partition. A distance is the sum of the squared differences in the order of the dimensions, so the result is
 * the same to the last bit on every processor. Points lie in blocks of WIDE: one instruction works on several points of
 * a block, never on several terms of one sum. */
#include "cellworker.h"
#include "dispatch.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define INSIDE static inline __attribute__((always_inline))

enum {
    LANES = 8,
    WIDE = 32, /* points of a block: four registers of sums keep the adders busy */
    HEAD = 10, /* dimensions after which a block may be skipped: the first principal components separate most points */
    DEEP = 64  /* more than the levels of any tree */
};

static const float SLACK = 0.5F;
static const float ROUNDED = 0x1p-21F; /* of a dimension: a single addition rounds by 2^-24 */

typedef float Lanes __attribute__((vector_size(4 * LANES), aligned(4)));
typedef int32_t Masks __attribute__((vector_size(4 * LANES)));

/* The points of an index. Coordinates are n_blocks x n_dims x WIDE, rows are n_blocks x WIDE, -1 for padding. */
typedef struct {
    const float *coordinates;
    const int32_t *rows;
    int32_t n_dims;
} Blocks;

/* The neighbours found so far, ascending: the bits of the distance, which order as the distances do since none is below
 * zero, above the row, so that ties are by row. One number to compare and to move. */
typedef struct {
    uint64_t *keys;
    int32_t held, capacity;
    float limit; /* the distance of the k-th neighbour so far: farther points are skipped */
} Found;

INSIDE float distance_of(uint64_t key) {
    const uint32_t bits = (uint32_t)(key >> 32);
    float distance;
    memcpy(&distance, &bits, sizeof distance);
    return distance;
}

INSIDE int32_t row_of(uint64_t key) { return (int32_t)(uint32_t)key; }

INSIDE void offer(Found *f, float distance, int32_t row) {
    uint32_t bits;
    memcpy(&bits, &distance, sizeof bits);
    const uint64_t key = (uint64_t)bits << 32 | (uint32_t)row;
    int32_t last = f->held;
    if (last == f->capacity) {
        last--;
        if (key > f->keys[last]) return;
    } else {
        f->held++;
    }
    int32_t at = 0;
    for (int32_t left = last; left > 0;) {
        const int32_t half = (left + 1) / 2;
        at += f->keys[at + half - 1] < key ? half : 0;
        left -= half;
    }
    memmove(f->keys + at + 1, f->keys + at, (size_t)(last - at) * sizeof *f->keys);
    f->keys[at] = key;
    if (f->held == f->capacity) f->limit = distance_of(f->keys[f->capacity - 1]);
}

INSIDE void add_dimensions(Lanes sums[4], const float *block, const float *query, int32_t from, int32_t to) {
    for (int32_t d = from; d < to; d++) {
        const Lanes *x = (const Lanes *)(block + (int64_t)d * WIDE);
        for (int i = 0; i < 4; i++) {
            const Lanes apart = x[i] - query[d];
            sums[i] += apart * apart;
        }
    }
}

INSIDE int some_within(const Lanes sums[4], float limit) {
    const Masks within = (sums[0] <= limit) | (sums[1] <= limit) | (sums[2] <= limit) | (sums[3] <= limit);
    uint64_t word[LANES / 2];
    memcpy(word, &within, sizeof word);
    return (word[0] | word[1] | word[2] | word[3]) != 0;
}

/* Offers the points of the blocks [first, last), except the point `self`. */
INSIDE void scan(const Blocks *b, int64_t first, int64_t last, const float *query, int32_t self, Found *found) {
    const int32_t n = b->n_dims, head = n < 2 * HEAD ? n : HEAD;
    for (int64_t i = first; i < last; i++) {
        const float *block = b->coordinates + i * n * WIDE;
        Lanes sums[4] = {{0}, {0}, {0}, {0}};
        add_dimensions(sums, block, query, 0, head);
        if (!some_within(sums, found->limit)) continue;
        if (head < n) {
            add_dimensions(sums, block, query, head, n);
            if (!some_within(sums, found->limit)) continue;
        }
        float distances[WIDE];
        memcpy(distances, sums, sizeof distances);
        const int32_t *rows = b->rows + i * WIDE;
        for (int lane = 0; lane < WIDE; lane++) {
            if (distances[lane] <= found->limit && rows[lane] >= 0 && rows[lane] != self) {
                offer(found, distances[lane], rows[lane]);
            }
        }
    }
}

/* The distance of a coordinate to an interval, squared, of LANES dimensions; nothing lies below and above at once. */
INSIDE Lanes beside(const float *low, const float *high, const float *query) {
    const Lanes q = *(const Lanes *)query, below = *(const Lanes *)low - q, over = q - *(const Lanes *)high;
    const Lanes apart = (Lanes)(((Masks)below & (below > 0)) | ((Masks)over & (over > 0)));
    return apart * apart;
}

/* A lower bound of the distance to any point of the box. The sum has another order than that of a distance, and may
 * differ from it by n roundings each: ROUNDED is more, so no point is missed. */
INSIDE float to_box(const float *box, const float *query, int32_t n) {
    const float *low = box, *high = box + n;
    float sum = 0;
    int32_t d = 0;
    if (n >= LANES) {
        Lanes sums = {0};
        for (; d + LANES <= n; d += LANES) sums += beside(low + d, high + d, query + d);
        for (int lane = 0; lane < LANES; lane++) sum += sums[lane];
    }
    for (; d < n; d++) {
        const float below = low[d] - query[d], over = query[d] - high[d];
        const float apart = (below > 0 ? below : 0) + (over > 0 ? over : 0);
        sum += apart * apart;
    }
    return sum * (1 - ROUNDED * (float)n);
}

typedef struct {
    int64_t node, first, last;
    float distance;
} Range;

/* The node of the blocks [first, last) has its halves at node + 1 and at node + 2 x (blocks of the first half). */
INSIDE void search_tree(const Blocks *b, const float *boxes, int64_t n_blocks, const float *query, int32_t self,
                        Found *found) {
    const int32_t n = b->n_dims;
    Range stack[DEEP];
    int depth = 0;
    stack[depth++] = (Range){0, 0, n_blocks, 0};
    while (depth) {
        const Range r = stack[--depth];
        if (r.distance > found->limit) continue;
        if (r.last - r.first == 1) {
            scan(b, r.first, r.last, query, self, found);
            continue;
        }
        const int64_t middle = (r.first + r.last) / 2, left = r.node + 1, right = r.node + 2 * (middle - r.first);
        const Range one = {left, r.first, middle, to_box(boxes + left * 2 * n, query, n)};
        const Range two = {right, middle, r.last, to_box(boxes + right * 2 * n, query, n)};
        const int one_first = one.distance <= two.distance;
        stack[depth++] = one_first ? two : one;
        stack[depth++] = one_first ? one : two;
    }
}

/* The squared distance of two points of an index. */
INSIDE float between(const Blocks *b, int32_t i, int32_t j) {
    const int32_t n = b->n_dims;
    const float *x = b->coordinates + (int64_t)(i / WIDE) * n * WIDE + i % WIDE;
    const float *y = b->coordinates + (int64_t)(j / WIDE) * n * WIDE + j % WIDE;
    float sum = 0;
    for (int32_t d = 0; d < n; d++) sum += (x[d * WIDE] - y[d * WIDE]) * (x[d * WIDE] - y[d * WIDE]);
    return sum;
}

/* Searches the lists of the n_probes nearest centres, and all lists where these hold too few points. The points of
 * another list lie beyond the plane half way between its centre and the query's own. A list is skipped when that plane
 * is farther than SLACK x the distance of the k-th neighbour so far: few of its points lie so near the plane. */
INSIDE void search_lists(const Blocks *b, const int64_t *starts, const Blocks *centres, int64_t n_lists,
                         int64_t n_blocks, const float *query, int32_t self, Found *probes, Found *found) {
    const int64_t centre_blocks = (n_lists + WIDE - 1) / WIDE;
    probes->held = 0;
    probes->limit = INFINITY;
    scan(centres, 0, centre_blocks, query, -1, probes);
    for (int32_t i = 0; i < probes->held; i++) {
        const int32_t list = row_of(probes->keys[i]), own = row_of(probes->keys[0]);
        const float farther = distance_of(probes->keys[i]) - distance_of(probes->keys[0]);
        if (i && farther * farther > 4 * SLACK * SLACK * between(centres, list, own) * found->limit) continue;
        scan(b, starts[list], starts[list + 1], query, self, found);
    }
    if (found->held < found->capacity) {
        found->held = 0;
        found->limit = INFINITY;
        scan(b, 0, n_blocks, query, self, found);
    }
}

/* The request of a search: in a tree where `boxes` is given, in lists where `starts` is. */
typedef struct {
    Blocks points, centres;
    const float *boxes;
    const int64_t *starts;
    int64_t n_blocks, n_lists;
    const float *queries;
    const int32_t *asked; /* rows of the queries, in the order of the searches */
    int64_t n_asked;
    int32_t k, n_probes, own; /* own: the queries are the indexed points, and a point is not its own neighbour */
    int32_t *rows;            /* all queries x k */
    float *distances;
} Search;

INSIDE int32_t run(const Search *s) {
    const size_t capacity = (size_t)(s->n_probes > 0 ? s->n_probes : 1);
    Found probes = {malloc(capacity * sizeof(uint64_t)), 0, s->n_probes, INFINITY};
    uint64_t *keys = malloc((size_t)s->k * sizeof *keys);
    const int32_t failed = probes.keys && keys ? 0 : -1;
    for (int64_t i = 0; i < s->n_asked && !failed; i++) {
        const int32_t row = s->asked[i];
        const float *query = s->queries + (int64_t)row * s->points.n_dims;
        const int32_t self = s->own ? row : -1;
        const int64_t at = (int64_t)row * s->k;
        Found found = {keys, 0, s->k, INFINITY};
        if (s->boxes) {
            search_tree(&s->points, s->boxes, s->n_blocks, query, self, &found);
        } else {
            search_lists(&s->points, s->starts, &s->centres, s->n_lists, s->n_blocks, query, self, &probes, &found);
        }
        for (int32_t j = 0; j < s->k; j++) {
            s->rows[at + j] = row_of(keys[j]);
            s->distances[at + j] = sqrtf(distance_of(keys[j]));
        }
    }
    free(probes.keys);
    free(keys);
    return failed;
}

#ifdef CW_AVX2
/* Wider registers only: the same operations in the same order. */
CW_AVX2 static int32_t run_avx2(const Search *s) { return run(s); }
#endif

static int32_t run_plain(const Search *s) { return run(s); }

/* Fills the rows of the queries given; -1 when memory runs out. Needs k points besides the query itself. */
int32_t cw_fast_neighbours(const float *coordinates, const int32_t *rows, int32_t n_dims, int64_t n_blocks,
                           const float *boxes, const int64_t *starts, const float *centres, const int32_t *centre_rows,
                           int64_t n_lists, int32_t n_probes, const float *queries, const int32_t *asked,
                           int64_t n_asked, int32_t k, int32_t own, int32_t *found_rows, float *found_distances) {
    const Search s = {{coordinates, rows, n_dims},
                      {centres, centre_rows, n_dims},
                      boxes,
                      starts,
                      n_blocks,
                      n_lists,
                      queries,
                      asked,
                      n_asked,
                      k,
                      n_probes,
                      own,
                      found_rows,
                      found_distances};
#ifdef CW_AVX2
    if (cw_has_avx2()) return run_avx2(&s);
#endif
    return run_plain(&s);
}
