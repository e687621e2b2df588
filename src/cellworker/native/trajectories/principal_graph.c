/* A tree among points of the plane: soft assignment of the points to its nodes, the shortest tree that links the nodes,
 * and the best places of the nodes (Mao and others 2015, reversed graph embedding, doi:10.1145/2783258.2783309). */
#include "cellworker.h"
#include "numbers.h"

#include <math.h>
#include <string.h>

#include "plane.h"

/* Nodes sorted by bucket, one row of buckets after the other, so the nodes of neighbouring buckets lie side by side. */
struct GraphNodes {
    int32_t n;
    int32_t *first, *id;
    double *x, *y, *distance, *share;
    Plane plane;
};

void cw_nodes_free(GraphNodes *nodes) {
    if (!nodes) return;
    plane_free(&nodes->plane);
    free(nodes->first);
    free(nodes->id);
    free(nodes->x);
    free(nodes->y);
    free(nodes->distance);
    free(nodes->share);
    free(nodes);
}

/* `at` holds pairs; `box` (left, bottom, right, top) contains them and every point of later queries. NULL when memory
 * runs out. */
GraphNodes *cw_nodes_new(const double *at, int32_t n, const double *box) {
    GraphNodes *nodes = calloc(1, sizeof *nodes);
    if (!nodes) return NULL;
    if (plane_make(&nodes->plane, box, at, n)) {
        free(nodes);
        return NULL;
    }
    const Plane *p = &nodes->plane;
    const int32_t n_buckets = p->width * p->height;
    const size_t size = (size_t)n + 1;
    nodes->n = n;
    nodes->first = malloc(((size_t)n_buckets + 1) * sizeof *nodes->first);
    nodes->id = malloc(size * sizeof *nodes->id);
    nodes->x = malloc(size * sizeof *nodes->x);
    nodes->y = malloc(size * sizeof *nodes->y);
    nodes->distance = malloc(size * sizeof *nodes->distance);
    nodes->share = malloc(size * sizeof *nodes->share);
    if (!nodes->first || !nodes->id || !nodes->x || !nodes->y || !nodes->distance || !nodes->share) {
        cw_nodes_free(nodes);
        return NULL;
    }
    int32_t held = 0;
    for (int32_t b = 0; b < n_buckets; b++) {
        nodes->first[b] = held;
        for (int32_t i = p->head[b]; i >= 0; i = p->next[i]) {
            nodes->id[held] = i;
            nodes->x[held] = at[2 * i];
            nodes->y[held++] = at[2 * i + 1];
        }
    }
    nodes->first[n_buckets] = held;
    return nodes;
}

static inline int32_t nearest(const GraphNodes *nodes, double x, double y, double *distance) {
    const Plane *p = &nodes->plane;
    double min_d2 = INFINITY;
    int32_t best = 0;
    Rings r = plane_rings(p, x, y);
    for (; r.ring <= r.last && plane_bound(p, &r) <= min_d2; r.ring++) {
        const int32_t low = r.row - r.ring, high = r.row + r.ring, left = r.column - r.ring, right = r.column + r.ring;
        for (int32_t row = low < 0 ? 0 : low; row <= high && row < p->height; row++) {
            const int whole = row == low || row == high;
            /* A whole row of the ring, or its two ends. */
            for (int side = 0; side < (whole || !r.ring ? 1 : 2); side++) {
                int32_t from = whole || !side ? left : right, to = whole || side ? right : left;
                if (from < 0) from = 0;
                if (to >= p->width) to = p->width - 1;
                if (from > to || (!whole && side ? right >= p->width : !whole && left < 0)) continue;
                const int32_t *bucket = nodes->first + (int64_t)row * p->width;
                for (int32_t k = bucket[from]; k < bucket[to + 1]; k++) {
                    const double a = x - nodes->x[k], b = y - nodes->y[k], d = a * a + b * b;
                    if (d < min_d2 || (d == min_d2 && nodes->id[k] < best)) {
                        min_d2 = d;
                        best = nodes->id[k];
                    }
                }
            }
        }
    }
    *distance = min_d2;
    return best;
}

/* The nearest node of each point; of equals, the first. */
void cw_nodes_nearest(const GraphNodes *nodes, const double *x, int32_t count, int32_t *best) {
    double distance;
    for (int32_t i = 0; i < count; i++) best[i] = nearest(nodes, x[2 * i], x[2 * i + 1], &distance);
}

/* e to the power of a number from -700 to 0, to about one unit in the last place, the same on every machine. Adding 1.5
 * * 2^52 rounds to a whole number and puts it into the lowest bits. */
static inline double power(double x) {
    const double shifted = x * 1.4426950408889634 + 0x1.8p52, n = shifted - 0x1.8p52;
    const double r = (x - n * 0x1.62e42fee00000p-1) - n * 0x1.a39ef35793c76p-33;
    const double p = (exponential_rest_13(r) * r + 1.0) * r + 1.0;
    uint64_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    bits = (bits << 52) + (1023ULL << 52);
    double scale;
    memcpy(&scale, &bits, sizeof scale);
    return p * scale;
}

enum { NEGLIGIBLE = 40 }; /* e^-40 of a share is below half a unit in its last place */

/* Each point has a share in each node, proportional to exp(-d^2 / sigma). Adds the shares to `weight`, and the points
 * times their shares to `sums` (pairs). `figures` holds the product of the points' sums of exp(-(d^2 - min d^2) /
 * sigma), as mantissa and exponent of two, and the sum of the min d^2. `spare` is scratch, one number per node. */
void cw_nodes_share(const GraphNodes *nodes, const double *x, int32_t count, double sigma, double *weight, double *sums,
                    double *figures, int32_t *spare) {
    const Plane *p = &nodes->plane;
    double mantissa = figures[0], exponent = figures[1];
    double *distance = nodes->distance, *share = nodes->share;
    const double scale = 1 / sigma;
    for (int32_t k = 0; k < count; k++) {
        const double a = x[2 * k], b = x[2 * k + 1];
        double min_d2;
        nearest(nodes, a, b, &min_d2);
        const double max_d2 = min_d2 + NEGLIGIBLE * sigma, reach = sqrt(max_d2) * (1 + 1e-12);
        const int32_t low = plane_row(p, b - reach), high = plane_row(p, b + reach);
        const int32_t left = plane_column(p, a - reach), right = plane_column(p, a + reach);
        int32_t held = 0;
        for (int32_t row = low; row <= high; row++) {
            const int32_t *bucket = nodes->first + (int64_t)row * p->width;
            for (int32_t i = bucket[left]; i < bucket[right + 1]; i++) {
                const double s = a - nodes->x[i], t = b - nodes->y[i], d = s * s + t * t;
                spare[held] = nodes->id[i];
                distance[held] = d;
                held += d <= max_d2;
            }
        }
        for (int32_t m = 0; m < held; m++) share[m] = power((min_d2 - distance[m]) * scale);
        double sum = 0;
        for (int32_t m = 0; m < held; m++) sum += share[m];
        const double part = 1 / sum;
        for (int32_t m = 0; m < held; m++) {
            const double mine = share[m] * part;
            weight[spare[m]] += mine;
            sums[2 * spare[m]] += mine * a;
            sums[2 * spare[m] + 1] += mine * b;
        }
        mantissa *= sum;
        if (mantissa > 0x1p500) {
            int more;
            mantissa = frexp(mantissa, &more);
            exponent += more;
        }
        figures[2] += min_d2;
    }
    figures[0] = mantissa;
    figures[1] = exponent;
}

/* Adds `count` nodes to the shortest tree (Prim's method). At the start, `order` is 0, 1, ..., `reach` is infinite
 * except for node 0, and `parent` is -1. The first `held` places of `order` are the tree, parents before children.
 * Returns the new `held`. */
int32_t cw_tree_grow(const double *at, int32_t n, int32_t held, int32_t count, int32_t *order, int32_t *parent,
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

/* Solves (2 L + diag(pull)) c = sums for the nodes' places (pairs), where L is the Laplacian of a tree: from the leaves
 * to the root and back. The places overwrite `sums`. `pull` is not negative and not all zero, and is overwritten too.
 * */
void cw_tree_solve(const int32_t *order, const int32_t *parent, int32_t n, double *pull, double *sums) {
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

/* Projects each point on the links of its node: the other end of the best link (-1 where there is none) and the
 * fraction of the way to it. */
void cw_nodes_project(const double *at, const int64_t *first, const int32_t *to, const double *x, const int32_t *node,
                      int32_t count, int32_t *other, double *part) {
    for (int32_t k = 0; k < count; k++) {
        const int32_t v = node[k];
        const double a = x[2 * k] - at[2 * v], b = x[2 * k + 1] - at[2 * v + 1];
        double min_d2 = INFINITY;
        other[k] = -1;
        part[k] = 0;
        for (int64_t e = first[v]; e < first[v + 1]; e++) {
            const double s = at[2 * to[e]] - at[2 * v], t = at[2 * to[e] + 1] - at[2 * v + 1], length = s * s + t * t;
            double way = length > 0 ? (a * s + b * t) / length : 0;
            way = way > 1 ? 1 : way > 0 ? way : 0;
            const double p = a - way * s, q = b - way * t, d = p * p + q * q;
            if (d < min_d2) {
                min_d2 = d;
                other[k] = to[e];
                part[k] = way;
            }
        }
    }
}
