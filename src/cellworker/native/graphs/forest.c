/* The growth of a forest of random hyperplane trees (forest.h). All trees share one generator, so they are built one
 * after the other. */
#include "forest.h"

enum {
    STEPS = 200, /* points drawn to find the two centres of a split */
    ATTEMPTS = 3 /* hyperplanes tried before a side is drawn at random */
};

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

static inline float distance(const Forest *f, const float *a, float a2, const float *b, float b2) {
    return f->cosine ? angular(dot(a, b, f->n_dims), a2, b2) : euclidean(a, b, f->n_dims);
}

static void normalize(float *v, int32_t n) {
    const float length = sqrtf(dot(v, v, n));
    if (length > 0) {
        for (int32_t i = 0; i < n; i++) v[i] /= length;
    }
}

/* The plane half way between two centres, which move towards the drawn points. Returns the plane's offset. */
static float split(Forest *f, const int32_t *items, int64_t count) {
    const int32_t n = f->n_dims;
    float *p = f->centre, *q = p + n, *normal = q + n;
    const uint64_t i = draw(f) % (uint64_t)count;
    uint64_t j = draw(f) % (uint64_t)(count - 1);
    j += j >= i;
    memcpy(p, point(f, items[i]), (size_t)n * sizeof *p);
    memcpy(q, point(f, items[j]), (size_t)n * sizeof *q);
    if (f->cosine) {
        normalize(p, n);
        normalize(q, n);
    }
    float p2 = dot(p, p, n), q2 = dot(q, q, n);
    int32_t of_p = 1, of_q = 1;
    for (int step = 0; step < STEPS; step++) {
        const int32_t item = items[draw(f) % (uint64_t)count];
        const float *v = point(f, item), v2 = f->norms[item];
        const float to_p = (float)of_p * distance(f, p, p2, v, v2);
        const float to_q = (float)of_q * distance(f, q, q2, v, v2);
        const float length = f->cosine ? sqrtf(v2) : 1;
        if (!(length > 0)) continue;
        if (to_p < to_q) {
            for (int32_t d = 0; d < n; d++) p[d] = (p[d] * (float)of_p + v[d] / length) / (float)(of_p + 1);
            p2 = dot(p, p, n);
            of_p++;
        } else if (to_q < to_p) {
            for (int32_t d = 0; d < n; d++) q[d] = (q[d] * (float)of_q + v[d] / length) / (float)(of_q + 1);
            q2 = dot(q, q, n);
            of_q++;
        }
    }
    for (int32_t d = 0; d < n; d++) normal[d] = p[d] - q[d];
    normalize(normal, n);
    float offset = 0;
    if (!f->cosine) {
        for (int32_t d = 0; d < n; d++) offset += -normal[d] * (p[d] + q[d]) / 2;
    }
    return offset;
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
    float *normal = f->centre + 2 * (int64_t)n, offset = 0;
    int64_t right = 0;
    for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
        offset = split(f, items, count);
        right = 0;
        for (int64_t i = 0; i < count; i++) {
            const float margin = offset + dot(normal, point(f, items[i]), n);
            side[i] = margin != 0 ? margin > 0 : (uint8_t)(draw(f) & 1);
            right += side[i];
        }
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
    f->centre = malloc(3 * (size_t)n_dims * sizeof *f->centre);
    if (!f->norms || !f->order || !f->spare || !f->side || !f->roots || !f->centre) {
        cw_forest_free(f);
        return NULL;
    }
    for (int32_t i = 0; i < n_items; i++) f->norms[i] = dot(point(f, i), point(f, i), n_dims);
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
