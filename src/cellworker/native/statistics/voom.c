/* The arithmetic of limma's voom for two groups of samples, step by step.
 *
 * With one residual degree of freedom, genes with the same two counts have the same variance. Rounding alone decides
 * which one is larger for limma, and this decides their prior degrees of freedom. So the operations here are those of
 * LINPACK's QR (Dongarra et al. 1979), in its order, and round the same way.
 */
#include "cellworker.h"

#include <math.h>
#include <stdlib.h>

static double dot(const double *a, const double *b, int64_t from, int64_t n) {
    double sum = 0.0;
    for (int64_t i = from; i < n; i++) sum += a[i] * b[i];
    return sum;
}

/* y += t v, where v is column `at` of x from row `at` on; t makes this the reflection of that column. */
static void reflect(const double *v, int64_t at, int64_t n, double *y) {
    const double t = -dot(v, y, at, n) / v[at];
    for (int64_t i = at; i < n; i++) y[i] += t * v[i];
}

/* e, weights (or NULL): genes x samples; group: 0 or 1 per sample, each at least once; n_samples > 2.
 * means: genes x 2; sigma: per gene, n_samples - 2 residual degrees of freedom. Returns -1 without memory. */
int32_t cw_group_fit(const double *e, const double *weights, int64_t n_genes, int64_t n, const int32_t *group,
                     double *means, double *sigma) {
    double *x = malloc(3 * (size_t)n * sizeof(double));
    if (!x) return -1;
    double *column[2] = {x, x + n}, *y = x + 2 * n, diagonal[2];
    for (int64_t g = 0; g < n_genes; g++) {
        for (int64_t j = 0; j < n; j++) {
            const double root = weights ? sqrt(weights[g * n + j]) : 1.0;
            column[0][j] = group[j] ? 0.0 : root;
            column[1][j] = group[j] ? root : 0.0;
            y[j] = e[g * n + j] * root;
        }
        for (int64_t k = 0; k < 2; k++) {
            double *v = column[k];
            double length = sqrt(dot(v, v, k, n));
            if (v[k] != 0.0) length = copysign(length, v[k]);
            const double scale = 1.0 / length;
            for (int64_t i = k; i < n; i++) v[i] *= scale;
            v[k] += 1.0;
            if (k == 0) reflect(v, 0, n, column[1]);
            reflect(v, k, n, y);
            diagonal[k] = -length;
        }
        const double second = y[1] / diagonal[1];
        means[2 * g + 1] = second;
        means[2 * g] = (y[0] + -second * column[1][0]) / diagonal[0];
        long double squares = 0.0L;
        for (int64_t i = 2; i < n; i++) squares += (long double)(y[i] * y[i]);
        sigma[g] = sqrt((double)(squares / (long double)(n - 2)));
    }
    free(x);
    return 0;
}

/* Interpolates linearly between points (at, level), with `at` ascending; constant beyond the ends. */
static double interpolate(double v, const double *at, const double *level, int64_t n) {
    int64_t i = 0, j = n - 1;
    if (isnan(v)) return v;
    if (v < at[i]) return level[i];
    if (v > at[j]) return level[j];
    while (i < j - 1) {
        const int64_t middle = (i + j) / 2;
        if (v < at[middle]) j = middle;
        else i = middle;
    }
    if (v == at[j]) return level[j];
    if (v == at[i]) return level[i];
    return level[i] + (level[j] - level[i]) * ((v - at[i]) / (at[j] - at[i]));
}

/* Weights (genes x samples) from the trend (at, level) at each group's fitted count; library: per sample, effective
 * size plus one. */
void cw_voom_weights(const double *means, int64_t n_genes, int64_t n, const int32_t *group, const double *library,
                     const double *at, const double *level, int64_t n_at, double *weights) {
    for (int64_t g = 0; g < n_genes; g++) {
        const double per_million[2] = {pow(2.0, means[2 * g]), pow(2.0, means[2 * g + 1])};
        for (int64_t j = 0; j < n; j++) {
            const double count = 1e-6 * (per_million[group[j]] * library[j]);
            weights[g * n + j] = 1.0 / pow(interpolate(log2(count), at, level, n_at), 4.0);
        }
    }
}
