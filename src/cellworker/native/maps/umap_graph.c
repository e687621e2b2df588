/* UMAP's graph (McInnes, Healy and Melville, 2018): fuzzy memberships in neighbourhoods, their union, and its connected
 * parts; and the curve of the memberships in the layout. Exponentials and logarithms are our own sums, the same on
 * every machine. */
#include "cellworker.h"

#include "numbers.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* e to the power of -x, for x >= 0, to ten digits. */
static inline double falling(double x) {
    if (x > 700) return 0;
    const double y = -x * 1.4426950408889634;
    const double whole = floor(y + 0.5), f = (y - whole) * 0.6931471805599453;
    const double out = (exponential_rest(1.0 / 3628800.0, f) * f + 1) * f + 1;
    const uint64_t bits = (uint64_t)((int64_t)whole + 1023) << 52;
    double scale;
    memcpy(&scale, &bits, sizeof scale);
    return out * scale;
}

/* Memberships of the neighbours of some points: 1 for the nearest, and falling with the distance beyond it, so that
 * their sum is the logarithm (base 2) of their number, the point itself included. A neighbour numbered `own` + row or
 * below 0 is none; only the first `keep` count. `halved`: use half the squared distances; `connected`: the nearest
 * counts in full. Returns -1 when memory runs out. */
int32_t cw_umap_memberships(const int32_t *cells, const float *distances, int32_t k, int64_t start, int64_t stop,
                            int32_t own, int32_t keep, int32_t halved, int32_t connected, float *weights) {
    double *d = malloc((size_t)k * sizeof *d);
    if (!d) return -1;
    for (int64_t i = start; i < stop; i++) {
        const int32_t *list = cells + i * k;
        float *out = weights + i * k;
        int32_t count = 0;
        double nearest = 0, mean = 0;
        for (int32_t j = 0; j < k; j++) {
            out[j] = 0;
            if (list[j] < 0 || (own && list[j] == i) || count == keep) continue;
            const double value = distances[i * k + j];
            d[count] = halved ? value * value / 2 : value;
            if (connected && d[count] > 0 && (nearest == 0 || d[count] < nearest)) nearest = d[count];
            mean += d[count++];
            out[j] = 1;
        }
        if (!count) continue;
        mean /= count;
        const double target = logarithm(count + 1) / 0.6931471805599453;
        /* Newton's steps, kept within an interval that contains the solution. */
        double low = 0, high = INFINITY, scale = mean > nearest ? mean - nearest : 1;
        for (int step = 0; step < 64; step++) {
            double total = 0, slope = 0;
            for (int32_t j = 0; j < count; j++) {
                const double beyond = d[j] > nearest ? (d[j] - nearest) / scale : 0;
                const double w = falling(beyond);
                total += w;
                slope += w * beyond;
            }
            if (fabs(total - target) < 1e-5) break;
            if (total > target) {
                high = scale;
            } else {
                low = scale;
            }
            const double next = scale + (target - total) * scale / slope;
            scale = next > low && next < high ? next : isinf(high) ? 2 * scale : (low + high) / 2;
        }
        if (scale < 1e-3 * mean) scale = 1e-3 * mean;
        for (int32_t j = 0, at = 0; j < k; j++) {
            if (out[j] == 0) continue;
            if (d[at] > nearest) out[j] = (float)falling((d[at] - nearest) / scale);
            at++;
        }
    }
    free(d);
    return 0;
}

/* Inverts the lists: the points that list each of n points, ascending. `first` (n + 1) holds the cumulative counts. */
void cw_umap_listed(const int32_t *cells, const float *weights, int64_t start, int64_t stop, int32_t k, int64_t *at,
                    int32_t *who, float *how) {
    for (int64_t i = start; i < stop; i++) {
        for (int32_t j = 0; j < k; j++) {
            const float w = weights[i * k + j];
            if (!(w > 0)) continue;
            const int64_t e = at[cells[i * k + j]]++;
            who[e] = (int32_t)i;
            how[e] = w;
        }
    }
}

/* Joins the memberships of both directions: a + b - a b. Writes the rows start to stop of the symmetric graph from
 * `end` on (no more links than both lists have), columns ascending, without links below `min_weight`, and sets
 * `first[row + 1]` and `strength`. Returns the new end, or -1 when memory runs out. */
int64_t cw_umap_union(const int32_t *cells, const float *weights, int32_t k, int64_t start, int64_t stop,
                      const int64_t *who_first, const int32_t *who, const float *how, float min_weight, int64_t end,
                      int64_t *first, int32_t *to, float *weight, float *strength) {
    int32_t *mine = malloc((size_t)k * sizeof *mine);
    float *given = malloc((size_t)k * sizeof *given);
    if (!mine || !given) end = -1;
    for (int64_t i = start; i < stop && end >= 0; i++) {
        int32_t count = 0;
        for (int32_t j = 0; j < k; j++) {
            const float w = weights[i * k + j];
            if (!(w > 0)) continue;
            int32_t at = count++;
            const int32_t cell = cells[i * k + j];
            for (; at && mine[at - 1] > cell; at--) {
                mine[at] = mine[at - 1];
                given[at] = given[at - 1];
            }
            mine[at] = cell;
            given[at] = w;
        }
        int32_t a = 0;
        int64_t b = who_first[i];
        float total = 0;
        while (a < count || b < who_first[i + 1]) {
            const int32_t left = a < count ? mine[a] : INT32_MAX, right = b < who_first[i + 1] ? who[b] : INT32_MAX;
            const float u = left <= right ? given[a++] : 0, v = right <= left ? how[b++] : 0;
            const float w = u + v - u * v;
            if (w < min_weight) continue;
            to[end] = left < right ? left : right;
            weight[end++] = w;
            total += w;
        }
        first[i + 1] = end;
        strength[i] = total;
    }
    free(mine);
    free(given);
    return end;
}

/* Numbers the connected parts of a symmetric graph by their first points. Returns the number of parts. `stack` has
 * capacity n. */
int32_t cw_umap_parts(int64_t n, const int64_t *first, const int32_t *to, int32_t *part, int32_t *stack) {
    int32_t count = 0;
    for (int64_t i = 0; i < n; i++) part[i] = -1;
    for (int64_t i = 0; i < n; i++) {
        if (part[i] >= 0) continue;
        int64_t depth = 0;
        stack[depth++] = (int32_t)i;
        part[i] = count;
        while (depth) {
            const int32_t at = stack[--depth];
            for (int64_t e = first[at]; e < first[at + 1]; e++) {
                if (part[to[e]] >= 0) continue;
                part[to[e]] = count;
                stack[depth++] = to[e];
            }
        }
        count++;
    }
    return count;
}

/* Fits 1 / (1 + a x^(2 b)) to the curve that is 1 up to `min_dist` and falls exponentially beyond, at 300 points up to
 * `reach`: least squares by the Levenberg-Marquardt method. */
void cw_umap_curve(double min_dist, double spread, double reach, double *a, double *b) {
    enum { POINTS = 300 };
    double best = INFINITY, damping = 1e-3, p = 1, q = 1; /* p: a; q: b */
    double tried[2] = {1, 1};
    double h[3] = {0}, g[2] = {0};
    for (int step = 0; step < 500; step++) {
        double loss = 0, hess[3] = {0}, grad[2] = {0};
        for (int i = 0; i < POINTS; i++) {
            const double x = reach * i / (POINTS - 1);
            const double y = x < min_dist ? 1 : falling((x - min_dist) / spread);
            double value = 1, da = 0, db = 0;
            if (x > 0) {
                const double log_x = logarithm(x), e = 2 * tried[1] * log_x;
                const double power = e < 0 ? falling(-e) : 1 / falling(e < 600 ? e : 600);
                value = 1 / (1 + tried[0] * power);
                da = -value * value * power;
                db = -value * value * tried[0] * power * 2 * log_x;
            }
            const double miss = y - value;
            loss += miss * miss;
            hess[0] += da * da;
            hess[1] += da * db;
            hess[2] += db * db;
            grad[0] += da * miss;
            grad[1] += db * miss;
        }
        if (loss < best) {
            const int settled = best - loss < 1e-15 * best;
            best = loss;
            p = tried[0];
            q = tried[1];
            memcpy(h, hess, sizeof h);
            memcpy(g, grad, sizeof g);
            damping /= 3;
            if (settled) break;
        } else {
            damping *= 4;
            if (damping > 1e12) break;
        }
        const double h0 = h[0] * (1 + damping), h2 = h[2] * (1 + damping), det = h0 * h2 - h[1] * h[1];
        if (!(det > 0)) break;
        tried[0] = p + (h2 * g[0] - h[1] * g[1]) / det;
        tried[1] = q + (h0 * g[1] - h[1] * g[0]) / det;
        if (!(tried[0] > 0)) tried[0] = p / 2;
        if (!(tried[1] > 0)) tried[1] = q / 2;
    }
    *a = p;
    *b = q;
}

/* Copies the rows `order[start]` to `order[stop - 1]` of a graph to the rows start to stop of the renumbered graph.
 * `place` is the new number of each point; the caller has filled `new_first`. */
void cw_umap_rearrange(const int64_t *first, const int32_t *to, const float *weight, const int32_t *order,
                       const int32_t *place, int64_t start, int64_t stop, const int64_t *new_first, int32_t *new_to,
                       float *new_weight) {
    for (int64_t i = start; i < stop; i++) {
        int64_t at = new_first[i];
        for (int64_t e = first[order[i]]; e < first[order[i] + 1]; e++) {
            new_to[at] = place[to[e]];
            new_weight[at++] = weight[e];
        }
    }
}
