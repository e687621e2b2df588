/* A tree among points of the plane: soft assignment of the points to its nodes, the shortest tree that links the nodes, and
 * where the nodes lie best (Mao and others 2015, reversed graph embedding, doi:10.1145/2783258.2783309). */
#include <math.h>
#include <string.h>

#include "plane.h"

#define EXPORT __attribute__((visibility("default")))

typedef struct {
    const double *at;
    int32_t n;
    Plane plane;
} Nodes;

EXPORT void cw_nodes_free(Nodes *nodes) {
    if (!nodes) return;
    plane_free(&nodes->plane);
    free(nodes);
}

/* `at` are pairs that stay the caller's; `box` (left, bottom, right, top) holds them and all that is asked about. */
EXPORT Nodes *cw_nodes_new(const double *at, int32_t n, const double *box) {
    Nodes *nodes = malloc(sizeof *nodes);
    if (!nodes) return NULL;
    nodes->at = at;
    nodes->n = n;
    if (plane_make(&nodes->plane, box, at, n)) {
        free(nodes);
        return NULL;
    }
    return nodes;
}

static inline double squared(const Nodes *nodes, int32_t i, double x, double y) {
    const double a = x - nodes->at[2 * i], b = y - nodes->at[2 * i + 1];
    return a * a + b * b;
}

static inline int32_t nearest(const Nodes *nodes, double x, double y, double *distance) {
    double least = INFINITY;
    int32_t best = 0;
    Rings r = plane_rings(&nodes->plane, x, y);
    for (; r.ring <= r.last && plane_bound(&nodes->plane, &r) <= least; r.ring++) {
        PLANE_RING(&nodes->plane, r, i, {
            const double d = squared(nodes, i, x, y);
            if (d < least || (d == least && i < best)) {
                least = d;
                best = i;
            }
        });
    }
    *distance = least;
    return best;
}

/* The nearest node of each point, the first of equals. */
EXPORT void cw_nodes_nearest(const Nodes *nodes, const double *x, int32_t count, int32_t *best) {
    double distance;
    for (int32_t i = 0; i < count; i++) best[i] = nearest(nodes, x[2 * i], x[2 * i + 1], &distance);
}

/* e to the power of a number from -700 to 0, to about one unit in the last place, the same on every machine. */
static inline double power(double x) {
    const double n = floor(x * 1.4426950408889634 + 0.5);
    const double r = (x - n * 0x1.62e42fee00000p-1) - n * 0x1.a39ef35793c76p-33;
    double p = 1.0 / 6227020800.0;
    p = p * r + 1.0 / 479001600.0;
    p = p * r + 1.0 / 39916800.0;
    p = p * r + 1.0 / 3628800.0;
    p = p * r + 1.0 / 362880.0;
    p = p * r + 1.0 / 40320.0;
    p = p * r + 1.0 / 5040.0;
    p = p * r + 1.0 / 720.0;
    p = p * r + 1.0 / 120.0;
    p = p * r + 1.0 / 24.0;
    p = p * r + 1.0 / 6.0;
    p = p * r + 0.5;
    p = p * r + 1.0;
    p = p * r + 1.0;
    const uint64_t bits = (uint64_t)(1023 + (int64_t)n) << 52;
    double scale;
    memcpy(&scale, &bits, sizeof scale);
    return p * scale;
}

enum { NEGLIGIBLE = 45 }; /* e^-45 of a share is below half a unit in its last place, for any number of nodes */

/* Adds the points' shares in the nodes, proportional to exp(-d^2 / sigma): the shares to `weight`, the points times their
 * shares to `sums` (pairs). `figures` holds the product of the points' sums of exp(-(d^2 - least d^2) / sigma), as mantissa
 * and exponent of two, and the sum of the least d^2. `spare` has room for the nodes. */
EXPORT void cw_nodes_share(const Nodes *nodes, const double *x, int32_t count, double sigma, double *weight, double *sums,
                           double *figures, int32_t *spare, double *spare_share) {
    const Plane *p = &nodes->plane;
    double mantissa = figures[0], exponent = figures[1];
    for (int32_t k = 0; k < count; k++) {
        const double a = x[2 * k], b = x[2 * k + 1];
        double least;
        nearest(nodes, a, b, &least);
        const double most = least + NEGLIGIBLE * sigma, reach = sqrt(most) * (1 + 1e-12);
        const int32_t low = plane_row(p, b - reach), high = plane_row(p, b + reach);
        const int32_t left = plane_column(p, a - reach), right = plane_column(p, a + reach);
        int32_t held = 0;
        double sum = 0;
        for (int32_t row = low; row <= high; row++) {
            for (int32_t column = left; column <= right; column++) {
                for (int32_t i = p->head[row * p->width + column]; i >= 0; i = p->next[i]) {
                    const double d = squared(nodes, i, a, b);
                    if (d > most) continue;
                    const double share = power((least - d) / sigma);
                    spare[held] = i;
                    spare_share[held++] = share;
                    sum += share;
                }
            }
        }
        for (int32_t m = 0; m < held; m++) {
            const double share = spare_share[m] / sum;
            weight[spare[m]] += share;
            sums[2 * spare[m]] += share * a;
            sums[2 * spare[m] + 1] += share * b;
        }
        mantissa *= sum;
        if (mantissa > 0x1p500) {
            int more;
            mantissa = frexp(mantissa, &more);
            exponent += more;
        }
        figures[2] += least;
    }
    figures[0] = mantissa;
    figures[1] = exponent;
}

/* Adds `count` nodes to the shortest tree (Prim's method). At the start `order` is 0, 1, ..., `reach` infinite but for node 0,
 * `parent` -1. The first `held` places of `order` are the tree, parents before children; returns the new `held`. */
EXPORT int32_t cw_tree_grow(const double *at, int32_t n, int32_t held, int32_t count, int32_t *order, int32_t *parent,
                            double *reach) {
    for (; count > 0 && held < n; count--) {
        int32_t next = held;
        for (int32_t i = held + 1; i < n; i++) {
            const int32_t a = order[i], b = order[next];
            if (reach[a] < reach[b] || (reach[a] == reach[b] && a < b)) next = i;
        }
        const int32_t added = order[next];
        order[next] = order[held];
        order[held++] = added;
        const double x = at[2 * added], y = at[2 * added + 1];
        for (int32_t i = held; i < n; i++) {
            const int32_t o = order[i];
            const double a = at[2 * o] - x, b = at[2 * o + 1] - y, d = a * a + b * b;
            if (d < reach[o]) {
                reach[o] = d;
                parent[o] = added;
            }
        }
    }
    return held;
}

/* Solves (2 L + diag(pull)) c = sums for the nodes' places, pairs, L the Laplacian of a tree: from the leaves to the root and
 * back. `sums` becomes the places; `pull`, not negative and not all zero, is used up. */
EXPORT void cw_tree_solve(const int32_t *order, const int32_t *parent, int32_t n, double *pull, double *sums) {
    for (int32_t k = n - 1; k > 0; k--) {
        const int32_t i = order[k], up = parent[i];
        const double share = 2 / (2 + pull[i]);
        pull[up] += share * pull[i];
        sums[2 * up] += share * sums[2 * i];
        sums[2 * up + 1] += share * sums[2 * i + 1];
    }
    const int32_t root = order[0];
    sums[2 * root] /= pull[root];
    sums[2 * root + 1] /= pull[root];
    for (int32_t k = 1; k < n; k++) {
        const int32_t i = order[k], up = parent[i];
        for (int d = 0; d < 2; d++) sums[2 * i + d] = (sums[2 * i + d] + 2 * sums[2 * up + d]) / (2 + pull[i]);
    }
}

/* Where each point lies best on the links of its node: the other end (-1 where there is none) and the part of the way to it. */
EXPORT void cw_nodes_project(const double *at, const int64_t *first, const int32_t *to, const double *x, const int32_t *node,
                             int32_t count, int32_t *other, double *part) {
    for (int32_t k = 0; k < count; k++) {
        const int32_t v = node[k];
        const double a = x[2 * k] - at[2 * v], b = x[2 * k + 1] - at[2 * v + 1];
        double least = INFINITY;
        other[k] = -1;
        part[k] = 0;
        for (int64_t e = first[v]; e < first[v + 1]; e++) {
            const double s = at[2 * to[e]] - at[2 * v], t = at[2 * to[e] + 1] - at[2 * v + 1], length = s * s + t * t;
            double way = length > 0 ? (a * s + b * t) / length : 0;
            way = way > 1 ? 1 : way > 0 ? way : 0;
            const double p = a - way * s, q = b - way * t, d = p * p + q * q;
            if (d < least) {
                least = d;
                other[k] = to[e];
                part[k] = way;
            }
        }
    }
}
