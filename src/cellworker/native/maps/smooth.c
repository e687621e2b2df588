/* Smooth functions on a graph: products of its normalised adjacency with blocks of eight vectors, and their sums. The
 * order of a sum depends neither on threads nor on processors. */
#include "cellworker.h"

#include <math.h>
#include <string.h>

enum { BLOCK = 8 };

/* One term of Chebyshev's recurrence for the rows start to stop of a block of vectors: out = scale * (P - centre) x -
 * back * before, with P = D^-1/2 A D^-1/2 and `root` = 1 / sqrt of the diagonal of D. Rows and columns of the graph are
 * numbered from `base`. `before` may be `out`. */
void cw_smooth_apply(const int64_t *first, const int32_t *to, const float *weight, const float *root, int64_t base,
                     int64_t start, int64_t stop, float scale, float centre, float back, const float *x,
                     const float *before, float *out) {
    for (int64_t i = start; i < stop; i++) {
        float sum[BLOCK] = {0};
        for (int64_t e = first[base + i]; e < first[base + i + 1]; e++) {
            const int64_t j = to[e] - base;
            const float w = weight[e] * root[base + j];
            for (int v = 0; v < BLOCK; v++) sum[v] += w * x[j * BLOCK + v];
        }
        const float own = root[base + i];
        for (int v = 0; v < BLOCK; v++) {
            const int64_t at = i * BLOCK + v;
            out[at] = scale * (own * sum[v] - centre * x[at]) - back * before[at];
        }
    }
}

/* Adds the products of the vectors of two blocks over rows start to stop to `sums` (8 x 8). */
void cw_smooth_products(const float *x, const float *y, int64_t start, int64_t stop, double *sums) {
    double total[BLOCK][BLOCK] = {{0}};
    for (int64_t i = start; i < stop; i++) {
        for (int u = 0; u < BLOCK; u++) {
            const double left = x[i * BLOCK + u];
            for (int v = 0; v < BLOCK; v++) total[u][v] += left * y[i * BLOCK + v];
        }
    }
    for (int u = 0; u < BLOCK; u++) {
        for (int v = 0; v < BLOCK; v++) sums[u * BLOCK + v] += total[u][v];
    }
}

/* out = x times a matrix (8 x 8). `out` may be `x`. */
void cw_smooth_combine(const float *x, const double *matrix, int64_t start, int64_t stop, float *out) {
    for (int64_t i = start; i < stop; i++) {
        double sum[BLOCK] = {0};
        for (int u = 0; u < BLOCK; u++) {
            for (int v = 0; v < BLOCK; v++) sum[v] += x[i * BLOCK + u] * matrix[u * BLOCK + v];
        }
        for (int v = 0; v < BLOCK; v++) out[i * BLOCK + v] = (float)sum[v];
    }
}

/* Eigenvectors of a symmetric matrix, the columns of `vectors`, by rotations (Jacobi). The diagonal of `m` becomes the
 * eigenvalues. */
static void rotate(double m[BLOCK][BLOCK], double vectors[BLOCK][BLOCK]) {
    for (int u = 0; u < BLOCK; u++) {
        for (int v = 0; v < BLOCK; v++) vectors[u][v] = u == v;
    }
    for (int sweep = 0; sweep < 30; sweep++) {
        for (int p = 0; p < BLOCK; p++) {
            for (int q = p + 1; q < BLOCK; q++) {
                if (fabs(m[p][q]) <= 1e-18 * sqrt(fabs(m[p][p] * m[q][q]))) continue;
                const double theta = (m[q][q] - m[p][p]) / (2 * m[p][q]);
                const double t = (theta < 0 ? -1 : 1) / (fabs(theta) + sqrt(theta * theta + 1));
                const double c = 1 / sqrt(t * t + 1), s = t * c;
                for (int k = 0; k < BLOCK; k++) {
                    const double kp = m[k][p], kq = m[k][q];
                    m[k][p] = c * kp - s * kq;
                    m[k][q] = s * kp + c * kq;
                }
                for (int k = 0; k < BLOCK; k++) {
                    const double pk = m[p][k], qk = m[q][k];
                    m[p][k] = c * pk - s * qk;
                    m[q][k] = s * pk + c * qk;
                    const double kp = vectors[k][p], kq = vectors[k][q];
                    vectors[k][p] = c * kp - s * kq;
                    vectors[k][q] = s * kp + c * kq;
                }
            }
        }
    }
}

/* The Rayleigh-Ritz step: from the products of a block with itself and with its image, computes the matrix (8 x 8) that
 * turns the block into orthonormal approximate eigenvectors, and the eigenvalues, largest first. Directions that the
 * block lacks become zeros. */
void cw_smooth_ritz(const double *products, const double *images, double *matrix, double *values) {
    double gram[BLOCK][BLOCK], u[BLOCK][BLOCK], half[BLOCK][BLOCK], small[BLOCK][BLOCK], w[BLOCK][BLOCK];
    double scale[BLOCK];
    for (int i = 0; i < BLOCK; i++) scale[i] = products[i * BLOCK + i] > 0 ? 1 / sqrt(products[i * BLOCK + i]) : 0;
    for (int i = 0; i < BLOCK; i++) {
        for (int j = 0; j < BLOCK; j++) gram[i][j] = scale[i] * products[i * BLOCK + j] * scale[j];
    }
    rotate(gram, u);
    double largest = 0;
    for (int i = 0; i < BLOCK; i++) largest = gram[i][i] > largest ? gram[i][i] : largest;
    for (int j = 0; j < BLOCK; j++) {
        const double by = gram[j][j] > 1e-10 * largest ? 1 / sqrt(gram[j][j]) : 0;
        for (int i = 0; i < BLOCK; i++) u[i][j] *= scale[i] * by;
    }
    for (int i = 0; i < BLOCK; i++) {
        for (int j = 0; j < BLOCK; j++) {
            half[i][j] = 0;
            for (int k = 0; k < BLOCK; k++) {
                half[i][j] += (images[i * BLOCK + k] + images[k * BLOCK + i]) / 2 * u[k][j];
            }
        }
    }
    for (int i = 0; i < BLOCK; i++) {
        for (int j = 0; j < BLOCK; j++) {
            small[i][j] = 0;
            for (int k = 0; k < BLOCK; k++) small[i][j] += u[k][i] * half[k][j];
        }
    }
    rotate(small, w);
    int order[BLOCK];
    for (int i = 0; i < BLOCK; i++) {
        int at = i;
        for (; at && small[order[at - 1]][order[at - 1]] < small[i][i]; at--) order[at] = order[at - 1];
        order[at] = i;
    }
    for (int j = 0; j < BLOCK; j++) {
        values[j] = small[order[j]][order[j]];
        for (int i = 0; i < BLOCK; i++) {
            matrix[i * BLOCK + j] = 0;
            for (int k = 0; k < BLOCK; k++) matrix[i * BLOCK + j] += u[i][k] * w[k][order[j]];
        }
    }
}
