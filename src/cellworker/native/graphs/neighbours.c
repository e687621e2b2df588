/* Approximate nearest neighbours by a forest of random hyperplane trees: the method of Annoy (Erik Bernhardsson), which
 * Seurat uses, step by step in single precision, so every neighbour is the same (algorithms.md, section 6.2). All trees
 * share one generator, so they are built one after the other; queries are independent. Sums run in the order of the
 * dimensions, and no compiler may reorder them. */
#include "cellworker.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    STEPS = 200,  /* points drawn to find the two centres of a split */
    ATTEMPTS = 3, /* hyperplanes tried before a side is drawn at random */
    HEAD = 2      /* words of a node before its body: descendants and offset of the plane */
};

typedef union {
    int32_t whole;
    float real;
} Word;

/* A node is HEAD words and a body: the items of a leaf, or two children and the normal of a plane. The items are the
 * nodes 0 to n_items - 1; they are not stored. */
struct Forest {
    const float *points; /* n_items x n_dims */
    float *norms;        /* squared lengths */
    int32_t n_items, n_dims, capacity, cosine;
    uint64_t x, y, z, c; /* the generator's state */
    Word *nodes;
    int64_t n_nodes, n_allocated;
    int32_t *roots;
    int32_t n_roots;
    int32_t *order, *spare; /* the items of the tree that is being built */
    uint8_t *side;
    float *centre; /* two centres and a normal */
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

static inline float dot(const float *a, const float *b, int32_t n) {
    float sum = 0;
    for (int32_t i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

static inline float distance(const Forest *f, const float *a, float a2, const float *b, float b2) {
    const int32_t n = f->n_dims;
    if (f->cosine) {
        const float both = a2 * b2;
        if (!(both > 0)) return 2;
        return (float)(2.0 - 2.0 * dot(a, b, n) / sqrtf(both));
    }
    float sum = 0;
    for (int32_t i = 0; i < n; i++) {
        const float d = a[i] - b[i];
        sum += d * d;
    }
    return sum;
}

static const float *point(const Forest *f, int32_t item) { return f->points + (int64_t)item * f->n_dims; }

static Word *node_at(const Forest *f, int64_t id) { return f->nodes + (id - f->n_items) * (HEAD + f->capacity); }

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

typedef struct {
    float distance;
    int32_t id;
} Ranked;

static inline int above(Ranked a, Ranked b) {
    return a.distance > b.distance || (a.distance == b.distance && a.id > b.id);
}

typedef struct {
    Ranked *heap;
    int64_t size, capacity;
} Queue;

static int push(Queue *q, float d, int32_t id) {
    if (q->size == q->capacity) {
        const int64_t capacity = 2 * q->capacity + 256;
        Ranked *heap = realloc(q->heap, (size_t)capacity * sizeof *heap);
        if (!heap) return -1;
        q->heap = heap;
        q->capacity = capacity;
    }
    const Ranked new = {d, id};
    int64_t at = q->size++;
    while (at && above(new, q->heap[(at - 1) / 2])) {
        q->heap[at] = q->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    q->heap[at] = new;
    return 0;
}

static Ranked pop(Queue *q) {
    const Ranked top = q->heap[0], last = q->heap[--q->size];
    int64_t at = 0;
    for (int64_t next = 1; next < q->size; next = 2 * at + 1) {
        if (next + 1 < q->size && above(q->heap[next + 1], q->heap[next])) next++;
        if (!above(q->heap[next], last)) break;
        q->heap[at] = q->heap[next];
        at = next;
    }
    if (q->size) q->heap[at] = last;
    return top;
}

static inline void offer(Ranked *best, int32_t *held, int32_t k, Ranked new) {
    if (*held == k && !above(best[k - 1], new)) return;
    int32_t at = *held < k ? (*held)++ : k - 1;
    while (at && above(best[at - 1], new)) {
        best[at] = best[at - 1];
        at--;
    }
    best[at] = new;
}

/* The k nearest items of each query, nearest first (ties by number), with -1 where the search met fewer. Distances are
 * those of the original: for cosine, chord lengths of unit vectors. Returns -1 when memory runs out. */
int32_t cw_forest_query(const Forest *f, const float *queries, int64_t n_queries, int32_t k, int64_t search,
                        int32_t *items, float *distances) {
    const int32_t n = f->n_dims;
    uint32_t *seen = calloc((size_t)f->n_items, sizeof *seen);
    Ranked *best = malloc((size_t)k * sizeof *best);
    Queue queue = {NULL, 0, 0};
    int32_t failed = seen && best ? 0 : -1;
    for (int64_t row = 0; row < n_queries && !failed; row++) {
        const float *v = queries + row * n, v2 = dot(v, v, n);
        const uint32_t stamp = (uint32_t)row + 1;
        int64_t met = 0;
        int32_t held = 0;
        int going = 0; /* `top` is mostly the nearer child of the last node, which needs no queue */
        Ranked top = {0, 0};
        queue.size = 0;
        for (int32_t r = 0; r < f->n_roots && !failed; r++) failed = push(&queue, INFINITY, f->roots[r]);
        while (met < search && (going || queue.size) && !failed) {
            if (!going) top = pop(&queue);
            going = 0;
            const int is_item = top.id < f->n_items;
            const Word *node = is_item ? NULL : node_at(f, top.id);
            if (is_item || node[0].whole <= f->capacity) {
                const int32_t count = is_item ? 1 : node[0].whole;
                met += count;
                for (int32_t i = 0; i < count; i++) {
                    const int32_t item = is_item ? top.id : node[HEAD + i].whole;
                    if (seen[item] == stamp) continue;
                    seen[item] = stamp;
                    const Ranked new = {distance(f, v, v2, point(f, item), f->norms[item]), item};
                    offer(best, &held, k, new);
                }
            } else {
                const float margin = node[1].real + dot(&node[HEAD + 2].real, v, n);
                const Ranked right = {fminf(top.distance, margin), node[HEAD + 1].whole};
                const Ranked left = {fminf(top.distance, -margin), node[HEAD].whole};
                const int to_right = above(right, left);
                const Ranked later = to_right ? left : right;
                top = to_right ? right : left;
                if (later.id >= f->n_items) __builtin_prefetch(node_at(f, later.id));
                failed = push(&queue, later.distance, later.id);
                going = above(top, queue.heap[0]);
                if (!going && !failed) failed = push(&queue, top.distance, top.id);
            }
        }
        for (int32_t i = 0; i < k; i++) {
            const float d = i < held ? best[i].distance : 0;
            items[row * k + i] = i < held ? best[i].id : -1;
            distances[row * k + i] = sqrtf(d > 0 ? d : 0);
        }
    }
    free(seen);
    free(best);
    free(queue.heap);
    return failed;
}
