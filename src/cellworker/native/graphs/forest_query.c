/* The search in a forest of random hyperplane trees (forest.h). Queries are independent. */
#include "dispatch.h"
#include "forest.h"

/* A node that waits: its distance, as a number that orders like it, above the node's own number, which breaks ties. */
typedef uint64_t Key;

static inline Key key_of(float distance, int32_t id) {
    const float ordered = distance + 0.0F; /* -0 becomes 0 */
    uint32_t bits;
    memcpy(&bits, &ordered, sizeof bits);
    bits ^= (uint32_t)((int32_t)bits >> 31) | 0x80000000U;
    return (Key)bits << 32 | (uint32_t)id;
}

static inline float distance_of(Key key) {
    uint32_t bits = (uint32_t)(key >> 32);
    bits ^= ~(uint32_t)((int32_t)bits >> 31) | 0x80000000U;
    float distance;
    memcpy(&distance, &bits, sizeof distance);
    return distance;
}

/* A heap with the largest key first. */
typedef struct {
    Key *keys;
    int64_t size, capacity;
} Queue;

static inline int push(Queue *q, Key key) {
    if (q->size == q->capacity) {
        const int64_t capacity = 2 * q->capacity + 256;
        Key *keys = realloc(q->keys, (size_t)capacity * sizeof *keys);
        if (!keys) return -1;
        q->keys = keys;
        q->capacity = capacity;
    }
    int64_t at = q->size++;
    while (at && key > q->keys[(at - 1) / 2]) {
        q->keys[at] = q->keys[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    q->keys[at] = key;
    return 0;
}

/* Takes the first key out; `key` takes its place in the heap. */
static inline Key replace(Queue *q, Key key) {
    Key *keys = q->keys, first = keys[0];
    int64_t at = 0, next = 1;
    for (; next + 1 < q->size; next = 2 * at + 1) {
        next += keys[next + 1] > keys[next];
        if (keys[next] < key) break;
        keys[at] = keys[next];
        at = next;
    }
    if (next + 1 == q->size && keys[next] > key) {
        keys[at] = keys[next];
        at = next;
    }
    keys[at] = key;
    return first;
}

static inline Key pop(Queue *q) {
    const Key last = q->keys[--q->size];
    return q->size ? replace(q, last) : last;
}

typedef struct {
    float distance;
    int32_t id;
} Ranked;

static inline int above(Ranked a, Ranked b) {
    return a.distance > b.distance || (a.distance == b.distance && a.id > b.id);
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

/* A search and its scratch. */
typedef struct {
    const Forest *forest;
    const float *queries;
    int64_t search;
    int32_t k;
    Queue queue;
    uint64_t *met; /* a bit per item */
    int32_t *items;
    float *distances; /* of the items met */
    Ranked *best;
} Search;

/* Lists the items of the leaves on the query's side of the planes, or nearest to them, each once. Returns their number,
 * or -1 when memory runs out. */
INLINE int64_t collect(Search *s, const float *query, int32_t n) {
    const Forest *f = s->forest;
    Queue *queue = &s->queue;
    int64_t n_met = 0, passed = 0;
    queue->size = 0;
    for (int32_t r = 0; r < f->n_roots; r++) {
        if (push(queue, key_of(INFINITY, f->roots[r]))) return -1;
    }
    Key top = pop(queue);
    for (;;) {
        const int32_t id = (int32_t)(uint32_t)top;
        const int is_item = id < f->n_items;
        const Word *node = is_item ? NULL : node_at(f, id);
        if (is_item || node[0].whole <= f->capacity) {
            const int32_t count = is_item ? 1 : node[0].whole;
            for (int32_t i = 0; i < count; i++) {
                const int32_t item = is_item ? id : node[HEAD + i].whole;
                const uint64_t word = s->met[item >> 6], bit = 1ULL << (item & 63);
                s->items[n_met] = item;
                n_met += !(word & bit);
                s->met[item >> 6] = word | bit;
            }
            passed += count;
            if (passed >= s->search || !queue->size) break;
            top = pop(queue);
        } else {
            __builtin_prefetch(node_at(f, node[HEAD].whole));
            __builtin_prefetch(node_at(f, node[HEAD + 1].whole));
            const float margin = node[1].real + dot(&node[HEAD + 2].real, query, n), distance = distance_of(top);
            const Key right = key_of(margin < distance ? margin : distance, node[HEAD + 1].whole);
            const Key left = key_of(-margin < distance ? -margin : distance, node[HEAD].whole);
            const Key near = right > left ? right : left;
            if (push(queue, right > left ? left : right)) return -1;
            top = near > queue->keys[0] ? near : replace(queue, near); /* mostly the near one: no queue is needed */
        }
    }
    for (int64_t i = 0; i < n_met; i++) s->met[s->items[i] >> 6] = 0;
    return n_met;
}

INLINE int32_t find(Search *s, const float *query, int32_t n, int32_t cosine) {
    const Forest *f = s->forest;
    const int64_t n_met = collect(s, query, n);
    if (n_met < 0) return -1;
    if (cosine) {
        const float squared = dot(query, query, n);
        for (int64_t i = 0; i < n_met; i++) {
            const int32_t item = s->items[i];
            s->distances[i] = angular(dot(query, f->points + (int64_t)item * n, n), squared, f->norms[item]);
        }
    } else {
        for (int64_t i = 0; i < n_met; i++) {
            s->distances[i] = euclidean(query, f->points + (int64_t)s->items[i] * n, n);
        }
    }
    int32_t held = 0;
    for (int64_t i = 0; i < n_met; i++) offer(s->best, &held, s->k, (Ranked){s->distances[i], s->items[i]});
    return held;
}

static int32_t find_usual(Search *s, const float *query, int32_t cosine) {
    return cosine ? find(s, query, USUAL_DIMS, 1) : find(s, query, USUAL_DIMS, 0);
}

static int32_t find_any(Search *s, const float *query, int32_t cosine) {
    return find(s, query, s->forest->n_dims, cosine);
}

/* Writes for each query the last node on its way down the first tree. Queries with the same node, or with nodes of near
 * numbers, read nearly the same nodes in all trees. */
void cw_forest_places(const Forest *f, const float *queries, int64_t n_queries, int32_t *places) {
    for (int64_t row = 0; row < n_queries; row++) {
        int32_t id = f->roots[0];
        do {
            places[row] = id;
            const Word *node = node_at(f, id);
            if (node[0].whole <= f->capacity) break;
            const float margin = node[1].real + dot(&node[HEAD + 2].real, queries + row * f->n_dims, f->n_dims);
            id = node[HEAD + (margin > 0)].whole;
        } while (id >= f->n_items);
    }
}

/* Writes the k nearest items of the queries asked, nearest first (ties by number), with -1 where the search met fewer.
 * Distances are those of the original: for cosine, chord lengths of unit vectors. Returns -1 when memory runs out. */
int32_t cw_forest_query(const Forest *f, const float *queries, const int32_t *asked, int64_t n_asked, int32_t k,
                        int64_t search, int32_t *items, float *distances) {
    const int64_t n_met = search < f->n_items ? search + f->capacity : f->n_items;
    Search s = {.forest = f, .queries = queries, .search = search, .k = k};
    s.met = calloc((size_t)f->n_items / 64 + 1, sizeof *s.met);
    s.items =
        malloc((size_t)(n_met + 1) * sizeof *s.items); /* one more: a place is written before it is known as new */
    s.distances = malloc((size_t)n_met * sizeof *s.distances);
    s.best = malloc((size_t)k * sizeof *s.best);
    int32_t failed = s.met && s.items && s.distances && s.best ? 0 : -1;
    for (int64_t a = 0; a < n_asked && !failed; a++) {
        const int64_t row = asked[a];
        const float *query = queries + row * f->n_dims;
        const int32_t held =
            f->n_dims == USUAL_DIMS ? find_usual(&s, query, f->cosine) : find_any(&s, query, f->cosine);
        failed = held < 0 ? -1 : 0;
        for (int32_t i = 0; i < k; i++) {
            const float d = i < held ? s.best[i].distance : 0;
            items[row * k + i] = i < held ? s.best[i].id : -1;
            distances[row * k + i] = sqrtf(d > 0 ? d : 0);
        }
    }
    free(s.met);
    free(s.items);
    free(s.distances);
    free(s.best);
    free(s.queue.keys);
    return failed;
}
