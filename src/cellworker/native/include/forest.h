/* A forest of random hyperplane trees: the method of Annoy (Erik Bernhardsson), which Seurat uses, step by step in
 * single precision, so every neighbour is the same (algorithms.md, section 6.2). Sums run in the order of the
 * dimensions, and no compiler may reorder them. */
#ifndef CW_FOREST_H
#define CW_FOREST_H

#include "cellworker.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    HEAD = 2,        /* words of a node before its body: descendants and offset of the plane */
    USUAL_DIMS = 10, /* of clusterings: code for this number is compiled apart, its loops unrolled */
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
    int64_t width; /* n_dims, to the next number of lanes */
    float *units;  /* n_items x width: the points that centres move towards, for cosine of length 1 */
    float *centre; /* two centres, a normal and two sums, width each */
    float error;   /* of a distance to an exact mean, in roundings; infinity where squares lose their digits */
};

static inline float dot(const float *a, const float *b, int32_t n) {
    float sum = 0;
    for (int32_t i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

/* The distance of two points by their product and their squared lengths. */
static inline float angular(float product, float a2, float b2) {
    const float both = a2 * b2;
    return both > 0 ? (float)(2.0 - 2.0 * product / sqrtf(both)) : 2;
}

static inline float euclidean(const float *a, const float *b, int32_t n) {
    float sum = 0;
    for (int32_t i = 0; i < n; i++) {
        const float d = a[i] - b[i];
        sum += d * d;
    }
    return sum;
}

static inline const float *point(const Forest *f, int32_t item) { return f->points + (int64_t)item * f->n_dims; }

static inline Word *node_at(const Forest *f, int64_t id) { return f->nodes + (id - f->n_items) * (HEAD + f->capacity); }

#endif
