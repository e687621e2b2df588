/* Fourier transforms of LANES sequences at once, whose length has only the factors 2, 3 and 5, by Stockham's algorithm,
   which needs no reordering (van Loan 1992). An element of a batch is LANES real parts and LANES imaginary parts. Every
   lane does the same steps in the same order, so results are the same to the last bit for any vector width. */
#ifndef CW_FOURIER_H
#define CW_FOURIER_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "dispatch.h"
#include "lanes.h"

enum { ELEMENT = 2 * LANES, MAX_FACTORS = 24 };

typedef struct {
    int32_t length, n_factors;
    int32_t factors[MAX_FACTORS];
    double *turns; /* cosine and sine of every multiple of a full turn / length */
} Fourier;

/* Sine and cosine of an angle up to an eighth of a turn; those of libm differ between machines. */
static inline void turn(double x, double *cosine, double *sine) {
    const double square = x * x;
    double c = 1, s = 1;
    for (int k = 18; k >= 2; k -= 2) {
        c = 1 - square / (double)(k * (k - 1)) * c;
        s = 1 - square / (double)(k * (k + 1)) * s;
    }
    *cosine = c;
    *sine = x * s;
}

static inline void fourier_free(Fourier *f) {
    free(f->turns);
    memset(f, 0, sizeof *f);
}

/* The smallest possible length of at least `min_length`. */
static inline int32_t good_length(int32_t min_length) {
    for (int32_t length = min_length;; length++) {
        int32_t rest = length;
        for (int32_t factor = 2; factor <= 5; factor++) {
            while (rest % factor == 0) rest /= factor;
        }
        if (rest == 1) return length;
    }
}

/* Returns -1 when memory runs out. */
static inline int fourier_new(Fourier *f, int32_t length) {
    const double full = 6.283185307179586476925;
    memset(f, 0, sizeof *f);
    f->turns = malloc(2 * (size_t)length * sizeof *f->turns);
    if (!f->turns) return -1;
    f->length = length;
    const int32_t radices[] = {4, 2, 3, 5};
    int32_t rest = length;
    for (int k = 0; k < 4; k++) {
        for (; rest % radices[k] == 0; rest /= radices[k]) f->factors[f->n_factors++] = radices[k];
    }
    for (int32_t j = 0; j < length; j++) {
        const int64_t eighths = 8 * (int64_t)j / length; /* the eighth of the turn */
        const int64_t beyond = 8 * (int64_t)j - eighths * length;
        const int odd = (int)(eighths & 1);
        double c, s;
        turn(full * (double)(odd ? length - beyond : beyond) / (8.0 * (double)length), &c, &s);
        if (odd) {
            const double swap = c;
            c = s;
            s = swap;
        }
        for (int64_t quarter = eighths / 2; quarter > 0; quarter--) {
            const double swap = c;
            c = -s;
            s = swap;
        }
        f->turns[2 * j] = c;
        f->turns[2 * j + 1] = s;
    }
    return 0;
}

/* One step of the transform: `n` is the remaining length, `stride` the product of the factors done. */
INLINE void radix_2(const Fourier *f, int32_t n, int32_t stride, const double *restrict from, double *restrict to) {
    const int32_t m = n / 2;
    for (int32_t p = 0; p < m; p++) {
        const double *t = f->turns + 2 * (int64_t)p * stride, c = t[0], s = -t[1];
        for (int32_t q = 0; q < stride; q++) {
            const double *restrict a = from + (int64_t)(q + stride * p) * ELEMENT;
            const double *restrict b = a + (int64_t)stride * m * ELEMENT;
            double *restrict y = to + (int64_t)(q + stride * 2 * p) * ELEMENT;
            double *restrict z = y + (int64_t)stride * ELEMENT;
            EACH_LANE {
                const double re = a[w] - b[w], im = a[LANES + w] - b[LANES + w];
                y[w] = a[w] + b[w];
                y[LANES + w] = a[LANES + w] + b[LANES + w];
                z[w] = re * c - im * s;
                z[LANES + w] = re * s + im * c;
            }
        }
    }
}

INLINE void radix_3(const Fourier *f, int32_t n, int32_t stride, const double *restrict from, double *restrict to) {
    const double high = 0.86602540378443864676; /* sine of a third of a turn */
    const int32_t m = n / 3;
    for (int32_t p = 0; p < m; p++) {
        const double *t1 = f->turns + 2 * (int64_t)p * stride, *t2 = f->turns + 4 * (int64_t)p * stride;
        const double c1 = t1[0], s1 = -t1[1], c2 = t2[0], s2 = -t2[1];
        for (int32_t q = 0; q < stride; q++) {
            const double *restrict a = from + (int64_t)(q + stride * p) * ELEMENT;
            const double *restrict b = a + (int64_t)stride * m * ELEMENT;
            const double *restrict d = b + (int64_t)stride * m * ELEMENT;
            double *restrict y = to + (int64_t)(q + stride * 3 * p) * ELEMENT;
            double *restrict z = y + (int64_t)stride * ELEMENT;
            double *restrict u = z + (int64_t)stride * ELEMENT;
            EACH_LANE {
                const double sum_re = b[w] + d[w], sum_im = b[LANES + w] + d[LANES + w];
                const double mid_re = a[w] - 0.5 * sum_re, mid_im = a[LANES + w] - 0.5 * sum_im;
                const double off_re = high * (b[LANES + w] - d[LANES + w]), off_im = high * (d[w] - b[w]);
                const double re1 = mid_re + off_re, im1 = mid_im + off_im;
                const double re2 = mid_re - off_re, im2 = mid_im - off_im;
                y[w] = a[w] + sum_re;
                y[LANES + w] = a[LANES + w] + sum_im;
                z[w] = re1 * c1 - im1 * s1;
                z[LANES + w] = re1 * s1 + im1 * c1;
                u[w] = re2 * c2 - im2 * s2;
                u[LANES + w] = re2 * s2 + im2 * c2;
            }
        }
    }
}

INLINE void radix_4(const Fourier *f, int32_t n, int32_t stride, const double *restrict from, double *restrict to) {
    const int32_t m = n / 4;
    for (int32_t p = 0; p < m; p++) {
        const double *t1 = f->turns + 2 * (int64_t)p * stride, *t2 = f->turns + 4 * (int64_t)p * stride;
        const double *t3 = f->turns + 6 * (int64_t)p * stride;
        const double c1 = t1[0], s1 = -t1[1], c2 = t2[0], s2 = -t2[1], c3 = t3[0], s3 = -t3[1];
        for (int32_t q = 0; q < stride; q++) {
            const double *restrict a = from + (int64_t)(q + stride * p) * ELEMENT;
            const double *restrict b = a + (int64_t)stride * m * ELEMENT;
            const double *restrict d = b + (int64_t)stride * m * ELEMENT;
            const double *restrict e = d + (int64_t)stride * m * ELEMENT;
            double *restrict y = to + (int64_t)(q + stride * 4 * p) * ELEMENT;
            double *restrict z = y + (int64_t)stride * ELEMENT;
            double *restrict u = z + (int64_t)stride * ELEMENT;
            double *restrict v = u + (int64_t)stride * ELEMENT;
            EACH_LANE {
                const double even_re = a[w] + d[w], even_im = a[LANES + w] + d[LANES + w];
                const double less_re = a[w] - d[w], less_im = a[LANES + w] - d[LANES + w];
                const double odd_re = b[w] + e[w], odd_im = b[LANES + w] + e[LANES + w];
                const double turned_re = b[LANES + w] - e[LANES + w], turned_im = e[w] - b[w];
                const double re1 = less_re + turned_re, im1 = less_im + turned_im;
                const double re2 = even_re - odd_re, im2 = even_im - odd_im;
                const double re3 = less_re - turned_re, im3 = less_im - turned_im;
                y[w] = even_re + odd_re;
                y[LANES + w] = even_im + odd_im;
                z[w] = re1 * c1 - im1 * s1;
                z[LANES + w] = re1 * s1 + im1 * c1;
                u[w] = re2 * c2 - im2 * s2;
                u[LANES + w] = re2 * s2 + im2 * c2;
                v[w] = re3 * c3 - im3 * s3;
                v[LANES + w] = re3 * s3 + im3 * c3;
            }
        }
    }
}

INLINE void radix_5(const Fourier *f, int32_t n, int32_t stride, const double *restrict from, double *restrict to) {
    /* cosines and sines of one and two fifths of a turn */
    const double k1 = 0.30901699437494742410, k2 = -0.80901699437494742410;
    const double h1 = 0.95105651629515357212, h2 = 0.58778525229247312917;
    const int32_t m = n / 5;
    for (int32_t p = 0; p < m; p++) {
        const double *t1 = f->turns + 2 * (int64_t)p * stride, *t2 = f->turns + 4 * (int64_t)p * stride;
        const double *t3 = f->turns + 6 * (int64_t)p * stride, *t4 = f->turns + 8 * (int64_t)p * stride;
        const double c1 = t1[0], s1 = -t1[1], c2 = t2[0], s2 = -t2[1];
        const double c3 = t3[0], s3 = -t3[1], c4 = t4[0], s4 = -t4[1];
        for (int32_t q = 0; q < stride; q++) {
            const double *restrict a = from + (int64_t)(q + stride * p) * ELEMENT;
            const double *restrict b = a + (int64_t)stride * m * ELEMENT;
            const double *restrict d = b + (int64_t)stride * m * ELEMENT;
            const double *restrict e = d + (int64_t)stride * m * ELEMENT;
            const double *restrict g = e + (int64_t)stride * m * ELEMENT;
            double *restrict y = to + (int64_t)(q + stride * 5 * p) * ELEMENT;
            double *restrict z = y + (int64_t)stride * ELEMENT;
            double *restrict u = z + (int64_t)stride * ELEMENT;
            double *restrict v = u + (int64_t)stride * ELEMENT;
            double *restrict x = v + (int64_t)stride * ELEMENT;
            EACH_LANE {
                const double out_re = b[w] + g[w], out_im = b[LANES + w] + g[LANES + w];
                const double in_re = d[w] + e[w], in_im = d[LANES + w] + e[LANES + w];
                const double b_re = b[LANES + w] - g[LANES + w], b_im = g[w] - b[w];
                const double d_re = d[LANES + w] - e[LANES + w], d_im = e[w] - d[w];
                const double p_re = a[w] + (k1 * out_re + k2 * in_re), p_im = a[LANES + w] + (k1 * out_im + k2 * in_im);
                const double q_re = a[w] + (k2 * out_re + k1 * in_re), q_im = a[LANES + w] + (k2 * out_im + k1 * in_im);
                const double r_re = h1 * b_re + h2 * d_re, r_im = h1 * b_im + h2 * d_im;
                const double o_re = h2 * b_re - h1 * d_re, o_im = h2 * b_im - h1 * d_im;
                y[w] = a[w] + (out_re + in_re);
                y[LANES + w] = a[LANES + w] + (out_im + in_im);
                z[w] = (p_re + r_re) * c1 - (p_im + r_im) * s1;
                z[LANES + w] = (p_re + r_re) * s1 + (p_im + r_im) * c1;
                u[w] = (q_re + o_re) * c2 - (q_im + o_im) * s2;
                u[LANES + w] = (q_re + o_re) * s2 + (q_im + o_im) * c2;
                v[w] = (q_re - o_re) * c3 - (q_im - o_im) * s3;
                v[LANES + w] = (q_re - o_re) * s3 + (q_im - o_im) * c3;
                x[w] = (p_re - r_re) * c4 - (p_im - r_im) * s4;
                x[LANES + w] = (p_re - r_re) * s4 + (p_im - r_im) * c4;
            }
        }
    }
}

/* Transforms `length` elements in `a`. Returns the array that holds the result, `a` or `b`. */
INLINE double *fourier(const Fourier *f, double *a, double *b) {
    int32_t n = f->length, stride = 1;
    for (int32_t k = 0; k < f->n_factors; k++) {
        const int32_t radix = f->factors[k];
        if (radix == 4) radix_4(f, n, stride, a, b);
        if (radix == 2) radix_2(f, n, stride, a, b);
        if (radix == 3) radix_3(f, n, stride, a, b);
        if (radix == 5) radix_5(f, n, stride, a, b);
        n /= radix;
        stride *= radix;
        double *swap = a;
        a = b;
        b = swap;
    }
    return a;
}

#endif
