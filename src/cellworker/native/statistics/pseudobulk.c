/* The two sequential loops of the pseudobulk chain: LOWESS and the gene-by-gene sample weights. */
#include "cellworker.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static int compare(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Fits a local line at x0 over [left, right], with tricube weights times rw; Cleveland (1979). Returns 0 when no weight
 * is left. */
static int fit_at(const double *x, const double *y, int64_t n, double x0, int64_t left, int64_t right, const double *rw,
                  double *w, double *fitted) {
    const double range = x[n - 1] - x[0];
    const double h = fmax(x0 - x[left], x[right] - x0);
    const double near = 0.001 * h, far = 0.999 * h;
    double total = 0.0;
    int64_t j = left;
    for (; j < n; j++) {
        w[j] = 0.0;
        const double r = fabs(x[j] - x0);
        if (r <= far) {
            if (r <= near) w[j] = 1.0;
            else {
                const double q = r / h, c = 1.0 - q * q * q;
                w[j] = c * c * c;
            }
            if (rw) w[j] *= rw[j];
            total += w[j];
        } else if (x[j] > x0) break;
    }
    const int64_t last = j - 1;
    if (total <= 0.0) return 0;
    for (j = left; j <= last; j++) w[j] /= total;
    if (h > 0.0) {
        double mean = 0.0, spread = 0.0;
        for (j = left; j <= last; j++) mean += w[j] * x[j];
        const double b = x0 - mean;
        for (j = left; j <= last; j++) spread += w[j] * ((x[j] - mean) * (x[j] - mean));
        if (sqrt(spread) > 0.001 * range) {
            const double slope = b / spread;
            for (j = left; j <= last; j++) w[j] *= 1.0 + slope * (x[j] - mean);
        }
    }
    double sum = 0.0;
    for (j = left; j <= last; j++) sum += w[j] * y[j];
    *fitted = sum;
    return 1;
}

/* x ascending. Returns 0, or -1 without memory. */
int32_t cw_lowess(const double *x, const double *y, int64_t n, double span, int32_t robust, double delta,
                  double *fitted) {
    if (n < 2) {
        if (n == 1) fitted[0] = y[0];
        return 0;
    }
    double *w = malloc(3 * (size_t)n * sizeof(double));
    if (!w) return -1;
    double *rw = w + n, *residual = w + 2 * n;
    int64_t ns = (int64_t)(span * (double)n + 1e-7);
    if (ns < 2) ns = 2;
    if (ns > n) ns = n;
    for (int32_t round = 0; round <= robust; round++) {
        int64_t left = 0, right = ns - 1, last = -1, i = 0;
        for (;;) {
            while (right < n - 1 && x[i] - x[left] > x[right + 1] - x[i]) {
                left++;
                right++;
            }
            if (!fit_at(x, y, n, x[i], left, right, round ? rw : NULL, w, &fitted[i])) fitted[i] = y[i];
            if (last < i - 1) {
                const double denominator = x[i] - x[last];
                for (int64_t j = last + 1; j < i; j++) {
                    const double a = (x[j] - x[last]) / denominator;
                    fitted[j] = a * fitted[i] + (1.0 - a) * fitted[last];
                }
            }
            last = i;
            const double cut = x[last] + delta;
            for (i = last + 1; i < n; i++) {
                if (x[i] > cut) break;
                if (x[i] == x[last]) {
                    fitted[i] = fitted[last];
                    last = i;
                }
            }
            if (last + 1 > i - 1) i = last + 1;
            else i = i - 1;
            if (last >= n - 1) break;
        }
        if (round == robust) break;
        double mean = 0.0;
        for (int64_t j = 0; j < n; j++) {
            residual[j] = y[j] - fitted[j];
            rw[j] = fabs(residual[j]);
            mean += rw[j];
        }
        mean /= (double)n;
        qsort(rw, (size_t)n, sizeof(double), compare);
        const int64_t m = n / 2;
        const double scale = n % 2 ? 6.0 * rw[m] : 3.0 * (rw[m - 1] + rw[m]);
        if (scale < 1e-7 * mean) break;
        for (int64_t j = 0; j < n; j++) {
            const double r = fabs(residual[j]);
            if (r <= 0.001 * scale) rw[j] = 1.0;
            else if (r > 0.999 * scale) rw[j] = 0.0;
            else {
                const double q = r / scale, c = 1.0 - q * q;
                rw[j] = c * c;
            }
        }
    }
    free(w);
    return 0;
}

/* Solve A x = b for a symmetric positive definite A (m x m, overwritten), by Cholesky. Returns 0 when it is not
 * definite. */
static int solve(double *a, double *b, int32_t m) {
    for (int32_t i = 0; i < m; i++) {
        for (int32_t j = 0; j <= i; j++) {
            double s = a[i * m + j];
            for (int32_t k = 0; k < j; k++) s -= a[i * m + k] * a[j * m + k];
            if (i == j) {
                if (s <= 0.0) return 0;
                a[i * m + i] = sqrt(s);
            } else a[i * m + j] = s / a[j * m + j];
        }
    }
    for (int32_t i = 0; i < m; i++) {
        for (int32_t k = 0; k < i; k++) b[i] -= a[i * m + k] * b[k];
        b[i] /= a[i * m + i];
    }
    for (int32_t i = m - 1; i >= 0; i--) {
        for (int32_t k = i + 1; k < m; k++) b[i] -= a[k * m + i] * b[k];
        b[i] /= a[i * m + i];
    }
    return 1;
}

/* One pass of the gene-by-gene update (Ritchie et al. 2006) for a design of two groups.
 * e, w: genes x n; group: 0 or 1 per sample; out: n weights. Z2 is the sum-to-zero basis: identity over n - 1, last row
 * -1. Returns 0; -1 without memory. */
int32_t cw_sample_weights(const double *e, const double *w, int64_t n_genes, int32_t n, const int32_t *group,
                          double prior_n, double *out) {
    const int32_t m = n - 1;
    double *memory = calloc((size_t)(2 * m * m + 3 * m + 5 * n), sizeof(double));
    if (!memory) return -1;
    double *info = memory, *scratch = info + m * m, *gamma = scratch + m * m, *step = gamma + m, *border = step + m;
    double *a = border + m, *wi = a + n, *one_h = wi + n, *d = one_h + n, *q = d + n;
    for (int32_t i = 0; i < m; i++)
        for (int32_t j = 0; j < m; j++) info[i * m + j] = prior_n * ((i == j) + 1.0);
    for (int32_t j = 0; j < n; j++) a[j] = 1.0;
    for (int64_t g = 0; g < n_genes; g++) {
        const double *y = e + g * n;
        double sum[2] = {0, 0}, weighted[2] = {0, 0};
        for (int32_t j = 0; j < n; j++) {
            wi[j] = a[j] * w[g * n + j];
            sum[group[j]] += wi[j];
            weighted[group[j]] += wi[j] * y[j];
        }
        double s2 = 0.0;
        for (int32_t j = 0; j < n; j++) {
            const double r = y[j] - weighted[group[j]] / sum[group[j]];
            d[j] = wi[j] * r * r;
            one_h[j] = 1.0 - wi[j] / sum[group[j]];
            s2 += d[j];
        }
        s2 /= (double)(n - 2);
        if (!(s2 >= 1e-15)) continue;
        double all = 0.0;
        for (int32_t j = 0; j < n; j++) all += one_h[j];
        for (int32_t i = 0; i < m; i++) border[i] = one_h[i] - one_h[m];
        for (int32_t i = 0; i < m; i++)
            for (int32_t j = 0; j < m; j++)
                info[i * m + j] += (i == j ? one_h[i] : 0.0) + one_h[m] - border[i] * border[j] / all;
        for (int32_t j = 0; j < n; j++) q[j] = d[j] / s2 - one_h[j];
        for (int32_t i = 0; i < m; i++) step[i] = q[i] - q[m];
        memcpy(scratch, info, (size_t)m * (size_t)m * sizeof(double));
        if (!solve(scratch, step, m)) continue;
        double last = 0.0;
        for (int32_t i = 0; i < m; i++) {
            gamma[i] += step[i];
            a[i] = exp(-gamma[i]);
            last += gamma[i];
        }
        a[m] = exp(last);
    }
    memcpy(out, a, (size_t)n * sizeof(double));
    free(memory);
    return 0;
}
