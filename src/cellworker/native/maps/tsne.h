/* Data that the steps of t-SNE share: the layout, its graph, the grid over it, and the points of each piece of work. */
#ifndef CW_TSNE_H
#define CW_TSNE_H

#include "cellworker.h"

#include <float.h>

#include "dispatch.h"
#include "fourier.h"
#include "thread_pool.h"

enum {
    EDGES = 8,      /* links that one step handles; rows of the graph are padded to a multiple */
    ROWS = ELEMENT, /* rows of the grid that one step transforms */
    NODES = 4       /* of a cubic spline */
};

typedef struct {
    float x, y;
} Point;

typedef struct {
    double low_x, low_y, high_x, high_y, total;
} Summary;

struct Tsne {
    Pool pool;
    int32_t n, k, n_threads, piece, pieces;
    /* the graph, with rows padded by links of weight 0; `counted` only while it is built */
    int64_t *first;
    int32_t *to;
    float *weight;
    int64_t *counted;
    int32_t *from;
    float *back;
    /* the order of the points: the caller's number of each, and scratch for a new order */
    int32_t *original, *now, *before;
    int64_t *new_first;
    void *moved;
    /* the layout */
    Point *place, *next, *speed, *gain, *push;
    Summary *summaries;
    /* the points by blocks of rows of the grid */
    Point *sorted;
    int32_t *order, *counts;
    int64_t *starts;
    /* the grid */
    int32_t halvings, nodes_x, nodes_y, blocks, chunks;
    int64_t capacity_counts, capacity_starts, capacity_grid, capacity_spectrum, capacity_kernel, capacity_scratch;
    double step, low_x, low_y;
    Fourier along, across;
    double *grid, *spectrum, *kernel, *scratch;
    /* one iteration */
    double total;
    float rate, momentum, exaggeration;
};

static inline int64_t begin_of(const Tsne *s, int32_t piece) { return (int64_t)piece * s->piece; }

static inline int64_t end_of(const Tsne *s, int32_t piece) {
    const int64_t end = begin_of(s, piece) + s->piece;
    return end < s->n ? end : s->n;
}

INLINE Summary nowhere(void) { return (Summary){DBL_MAX, DBL_MAX, -DBL_MAX, -DBL_MAX, 0}; }

INLINE void reach(Summary *all, Point p) {
    if ((double)p.x < all->low_x) all->low_x = (double)p.x;
    if ((double)p.y < all->low_y) all->low_y = (double)p.y;
    if ((double)p.x > all->high_x) all->high_x = (double)p.x;
    if ((double)p.y > all->high_y) all->high_y = (double)p.y;
}

#endif
