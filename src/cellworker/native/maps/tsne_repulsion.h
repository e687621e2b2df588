/* The repulsion between all points of a t-SNE layout: by a grid, or for few points by the sum over all pairs. Cubic
 * B-splines spread the points over the nodes of a grid, a convolution gives the potential of the kernel 1 / (1 + d^2),
 * and the force is half the slope of the spline through it (Essmann et al. 1995). The convolution takes one real
 * transform there and one back.
 *
 * Inlined into tsne.c, once for every kind of processor. */
#ifndef CW_TSNE_REPULSION_H
#define CW_TSNE_REPULSION_H

#include "tsne.h"

/* Values and slopes, at a point between two nodes, of the four cubic B-splines that reach it. */
INLINE void splines(double t, double *value, double *slope) {
    const double u = 1 - t;
    value[0] = u * u * u / 6;
    value[3] = t * t * t / 6;
    value[1] = (4 - 3 * t * t * (1 + u)) / 6;
    value[2] = (4 - 3 * u * u * (1 + t)) / 6;
    slope[0] = -0.5 * u * u;
    slope[3] = 0.5 * t * t;
    slope[1] = t * (1.5 * t - 2);
    slope[2] = -u * (1.5 * u - 2);
}

static inline int32_t base(double at, double low, double step, double *t) {
    const double u = (at - low) / step;
    const int32_t node = (int32_t)u;
    *t = u - (double)node;
    return node;
}

static inline double *row_of(const Tsne *s, double *grid, int32_t x, int32_t y) {
    return grid + ((int64_t)(y / ROWS) * s->nodes_x + x) * ROWS + y % ROWS;
}

static inline int32_t block_of(const Tsne *s, Point p) {
    double t;
    return base((double)p.y, s->low_y, s->step, &t) / ROWS;
}

INLINE void count(Tsne *s, int32_t piece) {
    int32_t *counts = s->counts + (int64_t)piece * s->blocks;
    memset(counts, 0, (size_t)s->blocks * sizeof *counts);
    for (int64_t i = begin_of(s, piece); i < end_of(s, piece); i++) counts[block_of(s, s->place[i])]++;
}

INLINE void put(Tsne *s, int32_t piece) {
    int32_t *counts = s->counts + (int64_t)piece * s->blocks;
    for (int64_t i = begin_of(s, piece); i < end_of(s, piece); i++) {
        const int32_t at = counts[block_of(s, s->place[i])]++;
        s->order[at] = (int32_t)i;
        s->sorted[at] = s->place[i];
    }
}

/* The points of a block of rows reach into the next block, so even blocks run first, which also clear, then odd ones.
 * */
INLINE void spread(Tsne *s, int32_t block, int even) {
    const int64_t size = (int64_t)s->nodes_x * ROWS;
    double *grid = s->grid + block * size;
    if (even) memset(grid, 0, (size_t)(block + 1 < s->blocks ? 2 * size : size) * sizeof *grid);
    for (int64_t i = s->starts[block]; i < s->starts[block + 1]; i++) {
        double t, u, in_x[NODES], in_y[NODES], unused[NODES];
        const int32_t x = base((double)s->sorted[i].x, s->low_x, s->step, &t);
        const int32_t y = base((double)s->sorted[i].y, s->low_y, s->step, &u);
        splines(t, in_x, unused);
        splines(u, in_y, unused);
        const int32_t lane = y % ROWS;
        double *node = grid + (int64_t)x * ROWS + lane;
        if (lane <= ROWS - NODES) {
            for (int a = 0; a < NODES; a++) {
                for (int b = 0; b < NODES; b++) node[a * ROWS + b] += in_x[a] * in_y[b];
            }
        } else {
            for (int a = 0; a < NODES; a++) {
                for (int b = 0; b < NODES; b++) {
                    const int64_t over = lane + b < ROWS ? 0 : size - ROWS;
                    node[a * ROWS + b + over] += in_x[a] * in_y[b];
                }
            }
        }
    }
}

INLINE double *scratch_of(const Tsne *s, int32_t thread) { return s->scratch + thread * s->capacity_scratch; }

/* Transforms the rows of a block, two as one complex row, and sorts them into columns. */
INLINE void along(Tsne *s, int32_t block, int32_t thread) {
    const int32_t length = s->along.length;
    double *a = scratch_of(s, thread), *b = a + s->capacity_scratch / 2;
    const int64_t size = (int64_t)s->nodes_x * ROWS;
    memcpy(a, s->grid + block * size, (size_t)size * sizeof *a);
    memset(a + size, 0, (size_t)((int64_t)length * ELEMENT - size) * sizeof *a);
    const double *z = fourier(&s->along, a, b);
    for (int32_t chunk = 0; chunk < s->chunks; chunk++) {
        double *out = s->spectrum + ((int64_t)chunk * s->blocks + block) * ROWS * ELEMENT;
        for (int32_t c = 0; c < LANES; c++) {
            const int32_t column = chunk * LANES + c;
            if (column > length / 2) {
                for (int32_t r = 0; r < ROWS; r++) out[r * ELEMENT + c] = out[r * ELEMENT + LANES + c] = 0;
                continue;
            }
            const double *p = z + (int64_t)column * ELEMENT;
            const double *q = z + (int64_t)(column ? length - column : 0) * ELEMENT;
            EACH_LANE {
                out[w * ELEMENT + c] = 0.5 * (p[w] + q[w]);
                out[w * ELEMENT + LANES + c] = 0.5 * (p[LANES + w] - q[LANES + w]);
                out[(w + LANES) * ELEMENT + c] = 0.5 * (p[LANES + w] + q[LANES + w]);
                out[(w + LANES) * ELEMENT + LANES + c] = 0.5 * (q[w] - p[w]);
            }
        }
    }
}

/* Transforms some columns, multiplies them by the kernel's transform, and transforms them back. A transform with
 * swapped parts is the inverse one.
 */
INLINE void across(Tsne *s, int32_t chunk, int32_t thread) {
    const int32_t length = s->across.length;
    double *a = scratch_of(s, thread), *b = a + s->capacity_scratch / 2;
    const int64_t rows = (int64_t)s->blocks * ROWS;
    double *mine = s->spectrum + chunk * rows * ELEMENT;
    const int64_t used = rows < length ? rows : length;
    memcpy(a, mine, (size_t)(used * ELEMENT) * sizeof *a);
    memset(a + used * ELEMENT, 0, (size_t)((length - used) * ELEMENT) * sizeof *a);
    const double *z = fourier(&s->across, a, b);
    double *spare = z == a ? b : a;
    const double *kernel = s->kernel + (int64_t)chunk * length * LANES;
    for (int32_t j = 0; j < length; j++) {
        EACH_LANE {
            spare[j * ELEMENT + w] = z[j * ELEMENT + LANES + w] * kernel[j * LANES + w];
            spare[j * ELEMENT + LANES + w] = z[j * ELEMENT + w] * kernel[j * LANES + w];
        }
    }
    z = fourier(&s->across, spare, spare == a ? b : a);
    memcpy(mine, z, (size_t)(used * ELEMENT) * sizeof *a); /* parts are swapped */
}

/* From columns to rows of the potential. */
INLINE void back(Tsne *s, int32_t block, int32_t thread) {
    const int32_t length = s->along.length;
    double *a = scratch_of(s, thread), *b = a + s->capacity_scratch / 2;
    for (int32_t chunk = 0; chunk < s->chunks; chunk++) {
        const double *in = s->spectrum + ((int64_t)chunk * s->blocks + block) * ROWS * ELEMENT;
        for (int32_t c = 0; c < LANES && chunk * LANES + c <= length / 2; c++) {
            const int32_t column = chunk * LANES + c;
            double *p = a + (int64_t)column * ELEMENT;
            double *q = a + (int64_t)(column ? length - column : 0) * ELEMENT;
            /* Rows A and B have swapped parts: the transform of B + iA gives A + iB. */
            EACH_LANE {
                const double a_im = in[w * ELEMENT + c], a_re = in[w * ELEMENT + LANES + c];
                const double b_im = in[(w + LANES) * ELEMENT + c], b_re = in[(w + LANES) * ELEMENT + LANES + c];
                q[w] = a_re - b_im;
                q[LANES + w] = b_re + a_im;
                p[w] = a_re + b_im;
                p[LANES + w] = b_re - a_im;
            }
        }
    }
    const double *z = fourier(&s->along, a, b);
    const int64_t size = (int64_t)s->nodes_x * ROWS;
    memcpy(s->grid + block * size, z, (size_t)size * sizeof *a);
}

/* The kernel at the nodes is even in both directions, so its transform is real: two rows transformed as one complex row
 * separate without work. */
INLINE void kernel_along(Tsne *s, int32_t batch, int32_t thread) {
    const int32_t length = s->along.length, height = s->across.length;
    double *a = scratch_of(s, thread), *b = a + s->capacity_scratch / 2;
    const double square = s->step * s->step;
    for (int32_t i = 0; i < length; i++) {
        const int32_t x = i < length - i ? i : length - i;
        for (int32_t r = 0; r < ROWS; r++) {
            const int64_t y = (int64_t)batch * ROWS + r;
            a[i * ELEMENT + r] = 1 / (1 + square * ((double)x * (double)x + (double)y * (double)y));
        }
    }
    const double *z = fourier(&s->along, a, b);
    for (int32_t column = 0; column <= length / 2; column++) {
        double *out = s->kernel + (int64_t)(column / LANES) * height * LANES + column % LANES;
        for (int32_t r = 0; r < ROWS; r++) {
            const int32_t y = batch * ROWS + r;
            if (y > height / 2) break;
            out[(int64_t)y * LANES] = z[(int64_t)column * ELEMENT + r];
            if (y) out[(int64_t)(height - y) * LANES] = z[(int64_t)column * ELEMENT + r];
        }
    }
}

/* Divides by the splines' own filter, once for spreading and once for reading, so that the potential is exact at the
 * nodes.
 */
INLINE void kernel_across(Tsne *s, int32_t chunk, int32_t thread) {
    const int32_t length = s->along.length, height = s->across.length;
    double *a = scratch_of(s, thread), *b = a + s->capacity_scratch / 2;
    double *mine = s->kernel + (int64_t)chunk * height * LANES;
    for (int32_t j = 0; j < height; j++) {
        EACH_LANE {
            a[j * ELEMENT + w] = chunk * LANES + w <= length / 2 ? mine[j * LANES + w] : 0;
            a[j * ELEMENT + LANES + w] = 0;
        }
    }
    const double *z = fourier(&s->across, a, b);
    for (int32_t j = 0; j < height; j++) {
        const double in_y = (2 + s->across.turns[2 * j]) / 3;
        for (int w = 0; w < LANES; w++) {
            const int32_t column = chunk * LANES + w;
            const double in_x = column <= length / 2 ? (2 + s->along.turns[2 * column]) / 3 : 1;
            const double filter = in_x * in_x * in_y * in_y * (double)length * (double)height;
            mine[j * LANES + w] = z[j * ELEMENT + w] / filter;
        }
    }
}

/* The push on each point, and the sum of the potential. */
INLINE void gather(Tsne *s, int32_t piece) {
    const int64_t size = (int64_t)s->nodes_x * ROWS;
    double total = 0;
    for (int64_t i = begin_of(s, piece); i < end_of(s, piece); i++) {
        double t, u, in_x[NODES], in_y[NODES], slope_x[NODES], slope_y[NODES], value[NODES] = {0}, slope[NODES] = {0};
        const int32_t x = base((double)s->sorted[i].x, s->low_x, s->step, &t);
        const int32_t y = base((double)s->sorted[i].y, s->low_y, s->step, &u);
        splines(t, in_x, slope_x);
        splines(u, in_y, slope_y);
        const double *node = row_of(s, s->grid, x, y);
        const int32_t lane = y % ROWS;
        if (lane <= ROWS - NODES) {
            for (int a = 0; a < NODES; a++) {
                for (int b = 0; b < NODES; b++) {
                    value[b] += node[a * ROWS + b] * in_x[a];
                    slope[b] += node[a * ROWS + b] * slope_x[a];
                }
            }
        } else {
            for (int a = 0; a < NODES; a++) {
                for (int b = 0; b < NODES; b++) {
                    const double v = node[a * ROWS + b + (lane + b < ROWS ? 0 : size - ROWS)];
                    value[b] += v * in_x[a];
                    slope[b] += v * slope_x[a];
                }
            }
        }
        double potential = 0, to_x = 0, to_y = 0;
        for (int b = 0; b < NODES; b++) {
            potential += value[b] * in_y[b];
            to_x += slope[b] * in_y[b];
            to_y += value[b] * slope_y[b];
        }
        const Point push = {(float)(-0.5 * to_x / s->step), (float)(-0.5 * to_y / s->step)};
        s->push[s->order[i]] = push;
        total += potential - 1;
    }
    s->summaries[piece].total = total;
}

/* The same for few points, pair by pair. */
INLINE void pairs(Tsne *s, int32_t piece) {
    double total = 0;
    for (int64_t i = begin_of(s, piece); i < end_of(s, piece); i++) {
        const Point mine = s->place[i];
        float sum[LANES] = {0}, to_x[LANES] = {0}, to_y[LANES] = {0};
        int32_t j = 0;
        for (; j + LANES <= s->n; j += LANES) {
            EACH_LANE {
                const float x = mine.x - s->place[j + w].x, y = mine.y - s->place[j + w].y;
                const float q = 1 / (1 + x * x + y * y);
                sum[w] += q;
                to_x[w] += q * q * x;
                to_y[w] += q * q * y;
            }
        }
        for (; j < s->n; j++) {
            const float x = mine.x - s->place[j].x, y = mine.y - s->place[j].y;
            const float q = 1 / (1 + x * x + y * y);
            sum[0] += q;
            to_x[0] += q * q * x;
            to_y[0] += q * q * y;
        }
        Point push = {0, 0};
        for (int w = 0; w < LANES; w++) {
            total += (double)sum[w];
            push.x += to_x[w];
            push.y += to_y[w];
        }
        s->push[i] = push;
        total -= 1;
    }
    s->summaries[piece].total = total;
}

#endif
