/* t-SNE (van der Maaten and Hinton 2008; van der Maaten 2014): the attraction along the links of a sparse graph, and
 * the repulsion between all points by a grid, as in Linderman et al. 2019, here in the manner of particle meshes:
 * points are spread over the nodes of a grid with cubic B-splines, one convolution gives the potential of the kernel 1
 * / (1 + d^2), and the force is half the slope of the spline through it (Essmann et al. 1995). One transform there and
 * one back, of real numbers.
 *
 * Every sum has an order that depends on the points alone: threads take pieces whose cut is fixed. One module because
 * the steps of an iteration are inlined into one function, once for every kind of processor. */
#include "cellworker.h"

#include <float.h>
#include <math.h>

#include "thread_pool.h"
#include "dispatch.h"
#include "fourier.h"
#include "numbers.h"
#include "radix.h"

enum {
    EDGES = 8,        /* links that are looked at together; rows of the graph are filled up to a multiple */
    ROWS = ELEMENT,   /* rows of the grid that are transformed together */
    NODES = 4,        /* of a cubic spline */
    MARGIN = 8,       /* nodes over which the inverse of the spline's filter fades */
    MIN_STEPS = 48,   /* of the grid across the points, when they are close */
    MAX_STEPS = 2048, /* when they are far apart */
    FINEST = -16,     /* halvings of the step */
    EXACT = 768       /* points up to which all pairs are looked at */
};

static const double STEP = 0.375; /* of the grid, in units of the layout, where the points are spread out */
static const double MAX_MOVE = 5; /* of a point in one iteration */
static const float MIN_GAIN = 0.01f;

enum {
    COUNT,
    PLACE,
    SPREAD_EVEN,
    SPREAD_ODD,
    ALONG,
    ACROSS,
    BACK,
    GATHER,
    MOVE,
    PAIRS,
    KERNEL_ALONG,
    KERNEL_ACROSS,
    RELABEL,
    REWEIGH
};

typedef struct {
    float x, y;
} Point;

/* The compilers' own vectors, which become whatever the processor has. */
typedef float Eight __attribute__((vector_size(32)));
typedef double Four __attribute__((vector_size(32)));
typedef int32_t EightWhole __attribute__((vector_size(32)));
typedef double Pair __attribute__((may_alias)); /* a point, moved as one */

typedef struct {
    double low_x, low_y, high_x, high_y, total;
} Summary;

struct Tsne {
    Pool pool;
    int32_t n, k, n_threads, piece, pieces;
    /* the graph: rows filled up with links of no weight; `counted` while it is being built */
    int64_t *first;
    int32_t *to;
    float *weight;
    int64_t *counted;
    int32_t *from;
    float *back;
    /* the order of the points: which of the caller's each is, and what a new order is made with */
    int32_t *original, *now, *before;
    int64_t *new_first;
    void *moved;
    /* the layout */
    Point *place, *next, *speed, *gain, *push;
    Summary *summaries;
    /* the points by blocks of rows of the grid */
    Point *sorted;
    int32_t *order, *counts;
    int64_t *starts;
    /* the grid */
    int32_t halvings, nodes_x, nodes_y, blocks, chunks;
    int64_t capacity_counts, capacity_starts, capacity_grid, capacity_spectrum, capacity_kernel, capacity_scratch;
    double step, low_x, low_y;
    Fourier along, across;
    double *grid, *spectrum, *kernel, *scratch;
    /* one iteration */
    double total;
    float rate, momentum, exaggeration;
};

/* ---- the grid ---- */

/* Values and slopes of the four cubic B-splines that a point between two nodes lies under. */
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

static inline int64_t begin_of(const Tsne *s, int32_t piece) { return (int64_t)piece * s->piece; }

static inline int64_t end_of(const Tsne *s, int32_t piece) {
    const int64_t end = begin_of(s, piece) + s->piece;
    return end < s->n ? end : s->n;
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

/* The points of a block of rows reach into the next block: even blocks first, which also clear, then odd ones. */
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

/* Transforms the rows of a block, two in the place of a complex one, and sorts them into columns. */
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

/* Transforms some columns, multiplies by the kernel's transform and goes back. A transform of swapped parts goes back.
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
            /* Rows A and B come with swapped parts; B + iA goes in with swapped parts and comes out as A + iB. */
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

/* The kernel at the nodes is even both ways, and so its transform is real: two rows in the place of a complex one part
 * by themselves. */
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

/* Divides by the splines' own filter, once for spreading and once for reading, so that the kernel is met at the nodes.
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

/* The same for few points, one pair after the other. */
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

/* ---- an iteration ---- */

INLINE float sum_of(const Eight *v) {
    return (((*v)[0] + (*v)[4]) + ((*v)[2] + (*v)[6])) + (((*v)[1] + (*v)[5]) + ((*v)[3] + (*v)[7]));
}

INLINE float new_gain(float gain, float slope, float speed) {
    const float next = (slope > 0) != (speed > 0) ? gain + 0.2f : gain * 0.8f;
    return next > MIN_GAIN ? next : MIN_GAIN;
}

INLINE Summary nowhere(void) { return (Summary){DBL_MAX, DBL_MAX, -DBL_MAX, -DBL_MAX, 0}; }

INLINE void reach(Summary *all, Point p) {
    if ((double)p.x < all->low_x) all->low_x = (double)p.x;
    if ((double)p.y < all->low_y) all->low_y = (double)p.y;
    if ((double)p.x > all->high_x) all->high_x = (double)p.x;
    if ((double)p.y > all->high_y) all->high_y = (double)p.y;
}

/* The coordinates of eight points, x and y apart. */
INLINE void fetch(const Point *place, const int32_t *to, Eight *x, Eight *y) {
    const Pair *p = (const Pair *)place;
    const Four a = {p[to[0]], p[to[1]], p[to[4]], p[to[5]]}, b = {p[to[2]], p[to[3]], p[to[6]], p[to[7]]};
#if defined(__clang__)
    *x = __builtin_shufflevector((Eight)a, (Eight)b, 0, 2, 8, 10, 4, 6, 12, 14);
    *y = __builtin_shufflevector((Eight)a, (Eight)b, 1, 3, 9, 11, 5, 7, 13, 15);
#else
    *x = __builtin_shuffle((Eight)a, (Eight)b, (EightWhole){0, 2, 8, 10, 4, 6, 12, 14});
    *y = __builtin_shuffle((Eight)a, (Eight)b, (EightWhole){1, 3, 9, 11, 5, 7, 13, 15});
#endif
}

/* Pulls along the links, and moves: van der Maaten's rule with momentum and gains. */
INLINE void move(Tsne *s, int32_t piece) {
    Summary here = nowhere();
    const float share = (float)(1 / s->total);
    for (int64_t i = begin_of(s, piece); i < end_of(s, piece); i++) {
        const Point mine = s->place[i];
        Eight to_x = {0}, to_y = {0};
        for (int64_t e = s->first[i]; e < s->first[i + 1]; e += EDGES) {
            Eight x, y, weight;
            fetch(s->place, s->to + e, &x, &y);
            memcpy(&weight, s->weight + e, sizeof weight);
            x = mine.x - x;
            y = mine.y - y;
            const Eight pull = weight / (1 + (x * x + y * y));
            to_x += pull * x;
            to_y += pull * y;
        }
        const float slope_x = s->exaggeration * sum_of(&to_x) - s->push[i].x * share;
        const float slope_y = s->exaggeration * sum_of(&to_y) - s->push[i].y * share;
        Point speed = s->speed[i], gain = s->gain[i];
        gain.x = new_gain(gain.x, slope_x, speed.x);
        gain.y = new_gain(gain.y, slope_y, speed.y);
        double dx = (double)s->momentum * (double)speed.x - (double)s->rate * (double)gain.x * (double)slope_x;
        double dy = (double)s->momentum * (double)speed.y - (double)s->rate * (double)gain.y * (double)slope_y;
        const double length = sqrt(dx * dx + dy * dy);
        if (length > MAX_MOVE) {
            dx *= MAX_MOVE / length;
            dy *= MAX_MOVE / length;
        }
        speed.x = (float)dx;
        speed.y = (float)dy;
        s->speed[i] = speed;
        s->gain[i] = gain;
        s->next[i].x = mine.x + speed.x;
        s->next[i].y = mine.y + speed.y;
        reach(&here, s->next[i]);
    }
    s->summaries[piece] = here;
}

/* The graph in the new order: the ends of its links, and then their weights. */
INLINE void relabel(Tsne *s, int32_t piece, int weights) {
    for (int64_t i = begin_of(s, piece); i < end_of(s, piece); i++) {
        const int64_t from = s->first[s->before[i]], count = s->new_first[i + 1] - s->new_first[i];
        if (weights) {
            memcpy((float *)s->moved + s->new_first[i], s->weight + from, (size_t)count * sizeof *s->weight);
        } else {
            int32_t *to = (int32_t *)s->moved + s->new_first[i];
            for (int64_t e = 0; e < count; e++) to[e] = s->now[s->to[from + e]];
        }
    }
}

INLINE void work(Tsne *s, int32_t what, int32_t piece, int32_t thread) {
    switch (what) {
    case COUNT:
        count(s, piece);
        break;
    case PLACE:
        put(s, piece);
        break;
    case SPREAD_EVEN:
        spread(s, 2 * piece, 1);
        break;
    case SPREAD_ODD:
        spread(s, 2 * piece + 1, 0);
        break;
    case ALONG:
        along(s, piece, thread);
        break;
    case ACROSS:
        across(s, piece, thread);
        break;
    case BACK:
        back(s, piece, thread);
        break;
    case GATHER:
        gather(s, piece);
        break;
    case MOVE:
        move(s, piece);
        break;
    case PAIRS:
        pairs(s, piece);
        break;
    case RELABEL:
        relabel(s, piece, 0);
        break;
    case REWEIGH:
        relabel(s, piece, 1);
        break;
    case KERNEL_ALONG:
        kernel_along(s, piece, thread);
        break;
    default:
        kernel_across(s, piece, thread);
    }
}

static void work_narrow(void *s, int32_t what, int32_t piece, int32_t thread) { work(s, what, piece, thread); }

#ifdef CW_AVX2
static CW_AVX2 void work_wide(void *s, int32_t what, int32_t piece, int32_t thread) { work(s, what, piece, thread); }
static PieceFunction *worker(void) { return cw_has_avx2() ? work_wide : work_narrow; }
#else
static PieceFunction *worker(void) { return work_narrow; }
#endif

static void all(Tsne *s, int32_t what, int32_t pieces) { run_pieces(&s->pool, worker(), s, what, pieces); }

/* ---- the layout's surroundings ---- */

/* Reserves `wanted` numbers; the old values are lost. */
static int reserve(void **numbers, int64_t *capacity, int64_t wanted, size_t size) {
    if (*capacity >= wanted) return 0;
    free(*numbers);
    *numbers = malloc((size_t)wanted * size);
    *capacity = *numbers ? wanted : 0;
    return *numbers ? 0 : -1;
}

/* Lays the grid over the points and makes the kernel's transform for it, unless the old grid does. */
static int lay_grid(Tsne *s, Summary box) {
    const double width = box.high_x - box.low_x, height = box.high_y - box.low_y;
    const double span = width > height ? width : height;
    int32_t halvings = 0;
    double step = STEP;
    while (span > MAX_STEPS * step) {
        step *= 2;
        halvings++;
    }
    while (span < MIN_STEPS * step && halvings > FINEST) {
        step /= 2;
        halvings--;
    }
    s->low_x = box.low_x;
    s->low_y = box.low_y;
    s->nodes_x = (int32_t)(width / step) + NODES;
    s->nodes_y = (int32_t)(height / step) + NODES;
    const int32_t min_x = 2 * s->nodes_x + MARGIN, min_y = 2 * s->nodes_y + MARGIN;
    const int fits = s->along.length >= min_x && s->along.length < 2 * min_x && s->across.length >= min_y &&
                     s->across.length < 2 * min_y;
    s->blocks = (s->nodes_y + ROWS - 1) / ROWS;
    const int same = fits && s->halvings == halvings && s->step > 0;
    s->step = step;
    s->halvings = halvings;
    if (!same) {
        fourier_free(&s->along);
        fourier_free(&s->across);
        if (fourier_new(&s->along, good_length(min_x)) || fourier_new(&s->across, good_length(min_y))) return -1;
        s->chunks = s->along.length / 2 / LANES + 1;
    }
    const int64_t longest = s->along.length > s->across.length ? s->along.length : s->across.length;
    const int64_t per_thread = 2 * longest * ELEMENT;
    if (s->capacity_scratch < per_thread) {
        free(s->scratch);
        s->scratch = malloc((size_t)(s->n_threads * per_thread) * sizeof *s->scratch);
        s->capacity_scratch = s->scratch ? per_thread : 0;
        if (!s->scratch) return -1;
    }
    if (reserve((void **)&s->grid, &s->capacity_grid, (int64_t)s->blocks * s->nodes_x * ROWS, sizeof *s->grid) ||
        reserve((void **)&s->spectrum, &s->capacity_spectrum, (int64_t)s->chunks * s->blocks * ROWS * ELEMENT,
                sizeof *s->spectrum) ||
        reserve((void **)&s->kernel, &s->capacity_kernel, (int64_t)s->chunks * s->across.length * LANES,
                sizeof *s->kernel) ||
        reserve((void **)&s->counts, &s->capacity_counts, (int64_t)s->pieces * s->blocks, sizeof *s->counts) ||
        reserve((void **)&s->starts, &s->capacity_starts, (int64_t)s->blocks + 1, sizeof *s->starts)) {
        return -1;
    }
    if (!same) {
        all(s, KERNEL_ALONG, s->across.length / 2 / ROWS + 1);
        all(s, KERNEL_ACROSS, s->chunks);
    }
    return 0;
}

static Summary gathered(const Tsne *s) {
    Summary whole = nowhere();
    for (int32_t p = 0; p < s->pieces; p++) {
        const Point low = {(float)s->summaries[p].low_x, (float)s->summaries[p].low_y};
        const Point high = {(float)s->summaries[p].high_x, (float)s->summaries[p].high_y};
        reach(&whole, low);
        reach(&whole, high);
    }
    return whole;
}

/* The pushes on all points and the sum of the kernel over all pairs. */
static int repel(Tsne *s, int exact) {
    const Summary box = gathered(s);
    if (exact) {
        all(s, PAIRS, s->pieces);
    } else {
        if (lay_grid(s, box)) return -1;
        all(s, COUNT, s->pieces);
        int32_t at = 0;
        for (int32_t b = 0; b < s->blocks; b++) {
            s->starts[b] = at;
            for (int32_t p = 0; p < s->pieces; p++) {
                int32_t *counts = s->counts + (int64_t)p * s->blocks + b;
                const int32_t here = *counts;
                *counts = at;
                at += here;
            }
        }
        s->starts[s->blocks] = at;
        all(s, PLACE, s->pieces);
        all(s, SPREAD_EVEN, (s->blocks + 1) / 2);
        if (s->blocks > 1) all(s, SPREAD_ODD, s->blocks / 2);
        all(s, ALONG, s->blocks);
        all(s, ACROSS, s->chunks);
        all(s, BACK, s->blocks);
        all(s, GATHER, s->pieces);
    }
    s->total = 0;
    for (int32_t p = 0; p < s->pieces; p++) s->total += s->summaries[p].total;
    /* No pair is farther apart than the corners of the layout: holds where the grid is too coarse for lone points. */
    const double width = box.high_x - box.low_x, height = box.high_y - box.low_y;
    const double min_total = (double)s->n * (double)(s->n - 1) / (1 + width * width + height * height);
    if (!(s->total > min_total)) s->total = min_total;
    return 0;
}

void cw_tsne_free(Tsne *s) {
    if (!s) return;
    void *held[] = {s->first,  s->to,        s->weight, s->counted, s->from,  s->back,     s->original, s->now,
                    s->before, s->new_first, s->place,  s->next,    s->speed, s->gain,     s->push,     s->summaries,
                    s->sorted, s->order,     s->counts, s->starts,  s->grid,  s->spectrum, s->kernel,   s->scratch};
    for (size_t i = 0; i < sizeof held / sizeof *held; i++) free(held[i]);
    fourier_free(&s->along);
    fourier_free(&s->across);
    free(s);
}

static void look_around(Tsne *s) {
    for (int32_t p = 0; p < s->pieces; p++) {
        s->summaries[p] = nowhere();
        for (int64_t i = begin_of(s, p); i < end_of(s, p); i++) reach(&s->summaries[p], s->place[i]);
    }
}

/* Puts the points where the caller says, at rest. */
void cw_tsne_place(Tsne *s, const float *points) {
    for (int32_t i = 0; i < s->n; i++) {
        s->place[i] = (Point){points[2 * (int64_t)s->original[i]], points[2 * (int64_t)s->original[i] + 1]};
        s->speed[i] = (Point){0, 0};
        s->gain[i] = (Point){1, 1};
    }
    look_around(s);
}

/* Where the points are, in the caller's order. */
void cw_tsne_layout(const Tsne *s, float *points) {
    for (int32_t i = 0; i < s->n; i++) memcpy(points + 2 * (int64_t)s->original[i], s->place + i, sizeof *s->place);
}

/* A layout of n points (x, y after one another) without a graph, or NULL; `n_threads` threads may work at it. */
Tsne *cw_tsne_new(const float *points, int32_t n, int32_t n_threads) {
    Tsne *s = calloc(1, sizeof *s);
    if (!s) return NULL;
    s->n = n;
    s->n_threads = n_threads;
    s->piece = n < 8192 ? 64 : 512;
    while (n / s->piece >= MAX_PIECES) s->piece *= 2;
    s->pieces = (n + s->piece - 1) / s->piece;
    s->pool.closed = 1;
    const size_t size = (size_t)n;
    s->first = calloc(size + 1, sizeof *s->first);
    s->new_first = malloc((size + 1) * sizeof *s->new_first);
    int32_t **wholes[] = {&s->original, &s->now, &s->before, &s->order};
    Point **places[] = {&s->place, &s->next, &s->speed, &s->gain, &s->push, &s->sorted};
    s->summaries = malloc((size_t)s->pieces * sizeof *s->summaries);
    int failed = !s->first || !s->new_first || !s->summaries;
    for (size_t i = 0; i < sizeof wholes / sizeof *wholes; i++) {
        failed |= !(*wholes[i] = malloc(size * sizeof **wholes[i]));
    }
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        failed |= !(*places[i] = malloc(size * sizeof **places[i]));
    }
    if (failed) {
        cw_tsne_free(s);
        return NULL;
    }
    for (int32_t i = 0; i < n; i++) s->original[i] = i;
    cw_tsne_place(s, points);
    return s;
}

/* ---- the graph ---- */

/* The graph of both directions is made in steps over some rows, each over all rows before the next: 0 counts the links
 * that point to each cell, 1 collects them, 2 counts the links of each row, 3 writes them. Returns -1 when memory ran
 * out. */
int32_t cw_tsne_link(Tsne *s, const int32_t *cells, const float *weights, int32_t k, int32_t step, int32_t start,
                     int32_t stop) {
    const int32_t n = s->n;
    if (step == 0 && start == 0) {
        s->counted = calloc((size_t)n + 2, sizeof *s->counted);
        if (!s->counted) return -1;
    }
    if (step == 1 && start == 0) {
        for (int32_t i = 0; i < n; i++) s->counted[i + 2] += s->counted[i + 1];
        s->from = malloc((size_t)(s->counted[n + 1] + 1) * sizeof *s->from);
        s->back = malloc((size_t)(s->counted[n + 1] + 1) * sizeof *s->back);
        if (!s->from || !s->back) return -1;
    }
    if (step == 3 && start == 0) {
        for (int32_t i = 0; i < n; i++) s->first[i + 1] += s->first[i];
        s->to = malloc((size_t)(s->first[n] + 1) * sizeof *s->to);
        s->weight = malloc((size_t)(s->first[n] + 1) * sizeof *s->weight);
        if (!s->to || !s->weight) return -1;
    }
    /* After collecting, the links to a cell lie from counted[cell] to counted[cell + 1]. */
    int32_t *seen = step >= 2 ? malloc((size_t)n * sizeof *seen) : NULL;
    if (step >= 2 && !seen) return -1;
    if (seen) memset(seen, 0xFF, (size_t)n * sizeof *seen);
    for (int32_t i = start; i < stop; i++) {
        const int32_t *mine = cells + (int64_t)i * k;
        const float *p = weights + (int64_t)i * k;
        int64_t at = step == 3 ? s->first[i] : 0;
        const int64_t begin = at;
        for (int32_t j = 0; j < k; j++) {
            if (!(p[j] > 0)) continue;
            if (step == 0) s->counted[mine[j] + 2]++;
            if (step == 1) {
                const int64_t place = s->counted[mine[j] + 1]++;
                s->from[place] = i;
                s->back[place] = p[j];
            }
            if (step == 2) {
                seen[mine[j]] = i;
                at++;
            }
            if (step == 3) {
                seen[mine[j]] = (int32_t)(at - begin);
                s->to[at] = mine[j];
                s->weight[at++] = 0.5f * p[j] / (float)n;
            }
        }
        if (step < 2) continue;
        const int64_t own = at;
        for (int64_t e = s->counted[i]; e < s->counted[i + 1]; e++) {
            const int32_t other = s->from[e];
            if (step == 2) {
                at += seen[other] != i;
                continue;
            }
            const int64_t twin = begin + seen[other];
            if (seen[other] >= 0 && twin < own && s->to[twin] == other) {
                s->weight[twin] += 0.5f * s->back[e] / (float)n;
            } else {
                s->to[at] = other;
                s->weight[at++] = 0.5f * s->back[e] / (float)n;
            }
        }
        if (step == 2) {
            s->first[i + 1] = (at + EDGES - 1) / EDGES * EDGES;
        } else {
            for (; at < s->first[i + 1]; at++) {
                s->to[at] = i;
                s->weight[at] = 0;
            }
        }
    }
    free(seen);
    if (step == 3 && stop == n) {
        free(s->counted);
        free(s->from);
        free(s->back);
        s->counted = NULL;
        s->from = NULL;
        s->back = NULL;
    }
    return 0;
}

/* ---- the descent ---- */

void cw_tsne_open_pool(Tsne *s) { atomic_store(&s->pool.closed, 0); }

void cw_tsne_close_pool(Tsne *s) { atomic_store(&s->pool.closed, 1); }

/* Runs pieces on a thread of its own, with a number from 1. Returns after cw_tsne_close_pool. */
void cw_tsne_work(Tsne *s, int32_t thread) { work_until_closed(&s->pool, worker(), s, thread); }

/* Some iterations; -1 when memory ran out. */
int32_t cw_tsne_descend(Tsne *s, int32_t iterations, float rate, float momentum, float exaggeration) {
    s->rate = rate;
    s->momentum = momentum;
    s->exaggeration = exaggeration;
    for (int32_t i = 0; i < iterations; i++) {
        if (repel(s, s->n <= EXACT)) return -1;
        all(s, MOVE, s->pieces);
        Point *swap = s->place;
        s->place = s->next;
        s->next = swap;
    }
    return 0;
}

/* Spreads the lower 16 bits, a gap after each. */
static uint32_t spaced(uint32_t x) {
    x = (x | x << 8) & 0x00FF00FF;
    x = (x | x << 4) & 0x0F0F0F0F;
    x = (x | x << 2) & 0x33333333;
    return (x | x << 1) & 0x55555555;
}

static void permute(Point **points, Point **spare, const int32_t *before, int32_t n) {
    for (int32_t i = 0; i < n; i++) (*spare)[i] = (*points)[before[i]];
    Point *swap = *points;
    *points = *spare;
    *spare = swap;
}

/* Numbers the points along Morton's curve, so that neighbours are close in memory too. Returns -1 when memory ran out.
 */
int32_t cw_tsne_sort(Tsne *s) {
    const int32_t n = s->n;
    const Summary box = gathered(s);
    const double width = box.high_x - box.low_x, height = box.high_y - box.low_y;
    const double span = width > height ? width : height, scale = span > 0 ? 65535 / span : 0;
    uint64_t *keys = malloc(2 * (size_t)n * sizeof *keys);
    uint32_t *high = malloc((size_t)n * sizeof *high);
    s->moved = malloc((size_t)(s->first[n] + 1) * sizeof *s->to);
    int32_t failed = keys && high && s->moved ? 0 : -1;
    if (!failed) {
        for (int32_t i = 0; i < n; i++) {
            const uint32_t x = (uint32_t)(((double)s->place[i].x - box.low_x) * scale);
            const uint32_t y = (uint32_t)(((double)s->place[i].y - box.low_y) * scale);
            keys[i] = (uint64_t)(spaced(x) | spaced(y) << 1) << 32 | (uint64_t)i;
        }
        radix_split(keys, n, keys + n, (uint32_t *)s->before, high);
        s->new_first[0] = 0;
        for (int32_t i = 0; i < n; i++) {
            const int32_t old = s->before[i];
            s->now[old] = i;
            s->order[i] = s->original[old];
            s->new_first[i + 1] = s->new_first[i] + (s->first[old + 1] - s->first[old]);
        }
        memcpy(s->original, s->order, (size_t)n * sizeof *s->original);
        permute(&s->place, &s->sorted, s->before, n);
        permute(&s->speed, &s->sorted, s->before, n);
        permute(&s->gain, &s->sorted, s->before, n);
        all(s, RELABEL, s->pieces);
        int32_t *to = s->moved;
        s->moved = s->to;
        s->to = to;
        all(s, REWEIGH, s->pieces); /* weights are of the same size */
        float *weight = s->moved;
        s->moved = s->weight;
        s->weight = weight;
        int64_t *swap = s->first;
        s->first = s->new_first;
        s->new_first = swap;
        look_around(s);
    }
    free(keys);
    free(high);
    free(s->moved);
    s->moved = NULL;
    return failed;
}

/* The sum over all other points of (mine - other) / (1 + d^2)^2 for every point, and that of 1 / (1 + d^2) over all
 * pairs; by the grid, or pair by pair. Returns -1 when memory ran out. */
int32_t cw_tsne_repulsion(Tsne *s, int32_t exact, float *pushes, double *total) {
    if (repel(s, exact)) return -1;
    for (int32_t i = 0; i < s->n; i++) memcpy(pushes + 2 * (int64_t)s->original[i], s->push + i, sizeof *s->push);
    *total = s->total;
    look_around(s);
    return 0;
}
