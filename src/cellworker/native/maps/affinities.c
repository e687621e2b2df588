/* Affinities of t-SNE (van der Maaten and Hinton 2008): weights of a cell's neighbours by a normal kernel, whose width
   gives each cell the requested perplexity. */
#include "cellworker.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "dispatch.h"
#include "lanes.h"
#include "numbers.h"

/* e^x for x from -700 to 0, to about 1e-15. */
INLINE double exponential(double x) {
    const double shift = 6755399441055744.0; /* 1.5 * 2^52: adding it rounds to a whole number, in the low bits */
    const double turns = x * 1.4426950408889634074 + shift;
    const double whole = turns - shift;
    double r = x - whole * 6.93147180369123816490e-01;
    r = r - whole * 1.90821492927058770002e-10;
    double e = 1;
    for (int k = 13; k >= 1; k--) e = 1 + e * r * (1.0 / (double)k);
    int64_t bits;
    memcpy(&bits, &turns, sizeof bits);
    bits = (int64_t)((uint64_t)(bits + 1023) << 52);
    double power;
    memcpy(&power, &bits, sizeof power);
    return e * power;
}

/* Newton's steps on the logarithm of the precision, kept between bounds. */
INLINE void affinities(const int32_t *cells, const float *distances, int64_t start, int64_t count, int32_t k,
                       double perplexity, double *scratch, float *out) {
    const double wanted = logarithm(perplexity);
    const int32_t filled = (k + LANES - 1) / LANES * LANES;
    double *square = scratch, *e = scratch + filled;
    for (int64_t row = 0; row < count; row++) {
        const int32_t *mine = cells + row * k;
        double min_d2 = DBL_MAX, mean = 0;
        int32_t met = 0;
        for (int32_t j = 0; j < k; j++) {
            const double d = (double)distances[row * k + j];
            const int there = mine[j] >= 0 && mine[j] != start + row;
            square[j] = there ? d * d : -1;
            if (there && d * d < min_d2) min_d2 = d * d;
            if (there) mean += d * d;
            met += there;
        }
        mean = met ? mean / met - min_d2 : 0;
        for (int32_t j = 0; j < filled; j++) square[j] = j < k && square[j] >= 0 ? square[j] - min_d2 : DBL_MAX;
        double low = 0, high = DBL_MAX, beta = mean > 0 ? 1 / mean : 1, sum = 1;
        for (int step = 0; step < 100; step++) {
            double s[LANES] = {0}, sd[LANES] = {0}, sdd[LANES] = {0};
            for (int32_t j = 0; j < filled; j += LANES) {
                EACH_LANE {
                    const double x = square[j + w] < 700 / beta ? square[j + w] : 0;
                    const double v = exponential(-x * beta);
                    const double kept = square[j + w] < 700 / beta ? v : 0;
                    e[j + w] = kept;
                    s[w] += kept;
                    sd[w] += kept * x;
                    sdd[w] += kept * x * x;
                }
            }
            double d1 = 0, d2 = 0;
            sum = 0;
            for (int w = 0; w < LANES; w++) {
                sum += s[w];
                d1 += sd[w];
                d2 += sdd[w];
            }
            if (!(sum > 0)) break;
            d1 /= sum;
            d2 /= sum;
            const double off = logarithm(sum) + beta * d1 - wanted; /* entropy falls as the precision grows */
            if (fabs(off) < 1e-6 || !(mean > 0)) break;
            if (off > 0) low = beta;
            else high = beta;
            const double slope = beta * beta * (d2 - d1 * d1);
            double power = slope > 0 ? off / slope : 0;
            double next = fabs(power) < 1 && power != 0 ? beta * (1 + power + power * power / 2) : 0;
            if (!(next > low && next < high)) next = high < DBL_MAX ? (low + high) / 2 : beta * 2;
            if (!(next < 1e290) || next == beta) break;
            beta = next;
        }
        for (int32_t j = 0; j < k; j++) out[row * k + j] = sum > 0 ? (float)(e[j] / sum) : 0;
    }
}

/* Weights of the neighbours of some cells (n x k; a cell may be its own, -1 is none) that give each cell the
   perplexity.
 */
static void affinities_narrow(const int32_t *cells, const float *distances, int64_t start, int64_t count, int32_t k,
                              double perplexity, double *scratch, float *out) {
    affinities(cells, distances, start, count, k, perplexity, scratch, out);
}

#ifdef CW_AVX2
static CW_AVX2 void affinities_wide(const int32_t *cells, const float *distances, int64_t start, int64_t count,
                                    int32_t k, double perplexity, double *scratch, float *out) {
    affinities(cells, distances, start, count, k, perplexity, scratch, out);
}
#endif

/* `cells`, `distances` and `out` begin at the row `start`. Returns -1 when memory runs out. */
int32_t cw_tsne_affinities(const int32_t *cells, const float *distances, int64_t start, int64_t count, int32_t k,
                           double perplexity, float *out) {
    double *scratch = malloc(2 * ((size_t)k + LANES) * sizeof *scratch);
    if (!scratch) return -1;
#ifdef CW_AVX2
    if (cw_has_avx2()) {
        affinities_wide(cells, distances, start, count, k, perplexity, scratch, out);
    } else
#endif
        affinities_narrow(cells, distances, start, count, k, perplexity, scratch, out);
    free(scratch);
    return 0;
}
