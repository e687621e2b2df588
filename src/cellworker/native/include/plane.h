/* A grid of buckets over points of a plane, which can move between buckets. */
#ifndef CW_PLANE_H
#define CW_PLANE_H

#include <stdint.h>
#include <stdlib.h>

typedef struct {
    double left, bottom, side;
    int32_t width, height;
    int32_t *head, *next, *prev, *bucket;
} Plane;

static inline int32_t plane_step(double offset, double side, int32_t count) {
    const double at = offset / side;
    return at >= count ? count - 1 : at > 0 ? (int32_t)at : 0;
}

static inline int32_t plane_column(const Plane *p, double x) { return plane_step(x - p->left, p->side, p->width); }

static inline int32_t plane_row(const Plane *p, double y) { return plane_step(y - p->bottom, p->side, p->height); }

static inline void plane_add(Plane *p, int32_t i, int32_t bucket) {
    const int32_t first = p->head[bucket];
    p->bucket[i] = bucket;
    p->prev[i] = -1;
    p->next[i] = first;
    if (first >= 0) p->prev[first] = i;
    p->head[bucket] = i;
}

/* Moves a point, into another bucket where needed. */
static inline void plane_move(Plane *p, int32_t i, double x, double y) {
    const int32_t bucket = plane_row(p, y) * p->width + plane_column(p, x);
    if (bucket == p->bucket[i]) return;
    const int32_t prev = p->prev[i], next = p->next[i];
    if (prev >= 0) p->next[prev] = next;
    else p->head[p->bucket[i]] = next;
    if (next >= 0) p->prev[next] = prev;
    plane_add(p, i, bucket);
}

static void plane_free(Plane *p) {
    free(p->head);
    free(p->next);
    free(p->prev);
    free(p->bucket);
}

/* `box` is left, bottom, right, top of the area of all later places too; all of `x` (pairs) lie in it. Returns -1 when
   memory runs out. */
static int plane_make(Plane *p, const double *box, const double *x, int32_t n) {
    const double width = box[2] - box[0], height = box[3] - box[1];
    const double longer = width > height ? width : height, shorter = width > height ? height : width;
    const int32_t wanted = n<8 ? 16 : n>(1 << 24) ? 1 << 25 : 2 * n; /* buckets */
    /* Where the box is thinner than a bucket, the buckets are one row. */
    double side = longer / wanted;
    if (shorter > side) {
        const double area = longer * shorter / wanted;
        double guess = longer; /* Newton's square root: the same on every machine */
        for (int i = 0; i < 200; i++) guess = (guess + area / guess) / 2;
        side = guess;
    }
    if (!(side > 0)) side = 1;
    p->left = box[0];
    p->bottom = box[1];
    p->side = side;
    p->width = (int32_t)(width / side) + 1;
    p->height = (int32_t)(height / side) + 1;
    const size_t n_buckets = (size_t)p->width * (size_t)p->height, size = (size_t)n + 1;
    p->head = malloc(n_buckets * sizeof *p->head);
    p->next = malloc(size * sizeof *p->next);
    p->prev = malloc(size * sizeof *p->prev);
    p->bucket = malloc(size * sizeof *p->bucket);
    if (!p->head || !p->next || !p->prev || !p->bucket) {
        plane_free(p);
        return -1;
    }
    for (size_t b = 0; b < n_buckets; b++) p->head[b] = -1;
    for (int32_t i = n - 1; i >= 0; i--) {
        plane_add(p, i, plane_row(p, x[2 * i + 1]) * p->width + plane_column(p, x[2 * i]));
    }
    return 0;
}

/* Rings of buckets around a place, the nearest first. */
typedef struct {
    int32_t column, row, ring, last;
    double margin; /* distance from the place to the nearest side of its bucket */
} Rings;

static inline Rings plane_rings(const Plane *p, double x, double y) {
    Rings r = {plane_column(p, x), plane_row(p, y), 0, 0, 0};
    const double from_left = x - p->left - r.column * p->side, from_bottom = y - p->bottom - r.row * p->side;
    double margin = from_left < p->side - from_left ? from_left : p->side - from_left;
    if (from_bottom < margin) margin = from_bottom;
    if (p->side - from_bottom < margin) margin = p->side - from_bottom;
    r.margin = margin > 0 ? margin : 0;
    r.last = p->width > p->height ? p->width : p->height;
    return r;
}

/* A lower bound (squared) of the distance to the points of the ring and beyond, with a margin for rounding. */
static inline double plane_bound(const Plane *p, const Rings *r) {
    if (!r->ring) return 0;
    const double d = (r->margin + (r->ring - 1) * p->side) * (1 - 1e-12);
    return d * d;
}

/* Runs BODY for each point `i` of the ring. */
#define PLANE_RING(p, r, i, BODY)                                                                               \
    do {                                                                                                        \
        const int32_t low_ = (r).row - (r).ring < 0 ? 0 : (r).row - (r).ring;                                   \
        const int32_t high_ = (r).row + (r).ring >= (p)->height ? (p)->height - 1 : (r).row + (r).ring;         \
        for (int32_t row_ = low_; row_ <= high_; row_++) {                                                      \
            const int edge_ = row_ == (r).row - (r).ring || row_ == (r).row + (r).ring;                         \
            const int32_t step_ = edge_ || !(r).ring ? 1 : 2 * (r).ring;                                        \
            for (int32_t column_ = (r).column - (r).ring; column_ <= (r).column + (r).ring; column_ += step_) { \
                if (column_ < 0 || column_ >= (p)->width) continue;                                             \
                for (int32_t i = (p)->head[row_ * (p)->width + column_]; i >= 0; i = (p)->next[i]) BODY         \
            }                                                                                                   \
        }                                                                                                       \
    } while (0)

#endif
