/* K-means in the plane by Hartigan and Wong's method (Applied Statistics 28, 1979, algorithm AS 136), as R's `kmeans`
 * does it: each point goes to the cluster where it adds least to the sum of squares. The optimal stage compares all
 * clusters, the quick stage each point's two best. Centres lie in a grid, so a search visits only the near ones: those
 * whose n / (n + 1) times the squared distance can be below the best so far. */
#include "cellworker.h"

#include <math.h>
#include <string.h>

#include "plane.h"

struct Kmeans {
    const double *x;
    int32_t n, k;
    double *centre, *less, *more,
        *apart; /* n / (n - 1) and n / (n + 1) of each cluster; the decrease when a point leaves its own */
    int32_t *size, *own, *second;
    int64_t *moved, *live;
    uint8_t *transfer;
    Plane plane;
    int64_t quiet, step; /* points visited since the last move; points visited in this quick stage */
    int32_t at, stage, rounds;
};

enum { FIRST, OPTIMAL, QUICK, DONE };

static inline double squared(const Kmeans *m, int32_t i, int32_t c) {
    const double a = m->x[2 * i] - m->centre[2 * c], b = m->x[2 * i + 1] - m->centre[2 * c + 1];
    return a * a + b * b;
}

void cw_kmeans_free(Kmeans *m) {
    if (!m) return;
    free(m->centre);
    free(m->less);
    free(m->more);
    free(m->apart);
    free(m->size);
    free(m->second);
    free(m->moved);
    free(m->live);
    free(m->transfer);
    plane_free(&m->plane);
    free(m);
}

static void weigh(Kmeans *m, int32_t c) {
    const double n = m->size[c];
    m->less[c] = n > 1 ? n / (n - 1) : INFINITY;
    m->more[c] = n / (n + 1);
}

/* `x` holds pairs of finite numbers; `own` gets each point's cluster. Both stay the caller's. `centres` should be
 * distinct. NULL when memory runs out. */
Kmeans *cw_kmeans_new(const double *x, int32_t n, const double *box, const double *centres, int32_t k, int32_t *own) {
    Kmeans *m = calloc(1, sizeof *m);
    if (!m) return NULL;
    const size_t size = (size_t)k;
    m->x = x;
    m->n = n;
    m->k = k;
    m->own = own;
    m->centre = malloc(2 * size * sizeof *m->centre);
    m->less = malloc(size * sizeof *m->less);
    m->more = malloc(size * sizeof *m->more);
    m->apart = malloc((n > 2 * k ? (size_t)n : 2 * size) * sizeof *m->apart);
    m->size = calloc(size, sizeof *m->size);
    m->second = malloc((size_t)n * sizeof *m->second);
    m->moved = malloc(size * sizeof *m->moved);
    m->live = malloc(size * sizeof *m->live);
    m->transfer = malloc(size);
    if (!m->centre || !m->less || !m->more || !m->apart || !m->size || !m->second || !m->moved || !m->live ||
        !m->transfer || plane_make(&m->plane, box, centres, k)) {
        memset(&m->plane, 0, sizeof m->plane);
        cw_kmeans_free(m);
        return NULL;
    }
    memcpy(m->centre, centres, 2 * size * sizeof *m->centre);
    for (int32_t c = 0; c < k; c++) {
        m->transfer[c] = 1;
        m->moved[c] = -1;
    }
    return m;
}

/* The nearest two centres of each point. */
static void assign(Kmeans *m, int32_t end) {
    for (int32_t i = m->at; i < end; i++) {
        const double x = m->x[2 * i], y = m->x[2 * i + 1];
        double near = INFINITY, next = INFINITY;
        int32_t own = 0, second = 0;
        Rings r = plane_rings(&m->plane, x, y);
        for (; r.ring <= r.last && plane_bound(&m->plane, &r) <= next; r.ring++) {
            PLANE_RING(&m->plane, r, c, {
                const double d = squared(m, i, c);
                if (d < near || (d == near && c < own)) {
                    next = near;
                    second = own;
                    near = d;
                    own = c;
                } else if (d < next || (d == next && c < second)) {
                    next = d;
                    second = c;
                }
            });
        }
        m->own[i] = own;
        m->second[i] = second;
    }
}

/* Each centre becomes the mean of its points; one without points stays where it is. */
static void settle(Kmeans *m) {
    memset(m->size, 0, (size_t)m->k * sizeof *m->size);
    double *sum = m->apart; /* not in use yet */
    memset(sum, 0, 2 * (size_t)m->k * sizeof *sum);
    for (int32_t i = 0; i < m->n; i++) {
        const int32_t c = m->own[i];
        m->size[c]++;
        sum[2 * c] += m->x[2 * i];
        sum[2 * c + 1] += m->x[2 * i + 1];
    }
    for (int32_t c = 0; c < m->k; c++) {
        if (m->size[c]) {
            m->centre[2 * c] = sum[2 * c] / m->size[c];
            m->centre[2 * c + 1] = sum[2 * c + 1] / m->size[c];
            plane_move(&m->plane, c, m->centre[2 * c], m->centre[2 * c + 1]);
        }
        weigh(m, c);
    }
}

static void shift(Kmeans *m, int32_t i, int32_t from, int32_t to) {
    for (int d = 0; d < 2; d++) {
        const double v = m->x[2 * i + d];
        m->centre[2 * from + d] = (m->centre[2 * from + d] * m->size[from] - v) / (m->size[from] - 1.0);
        m->centre[2 * to + d] = (m->centre[2 * to + d] * m->size[to] + v) / (m->size[to] + 1.0);
    }
    m->size[from]--;
    m->size[to]++;
    weigh(m, from);
    weigh(m, to);
    plane_move(&m->plane, from, m->centre[2 * from], m->centre[2 * from + 1]);
    plane_move(&m->plane, to, m->centre[2 * to], m->centre[2 * to + 1]);
    m->own[i] = to;
    m->second[i] = from;
}

/* Steps are numbered from 1, as in the paper, so a centre that is live in a whole stage is live until step n + 1. As
 * the step of the last move, 0 means that a centre has not moved, -1 that it is new. */
static int optimal(Kmeans *m, int32_t end) {
    for (int32_t i = m->at; i < end; i++) {
        const int64_t step = (int64_t)i + 1;
        m->quiet++;
        const int32_t own = m->own[i], before = m->second[i];
        if (m->size[own] != 1) {
            if (m->moved[own]) m->apart[i] = m->less[own] * squared(m, i, own);
            int32_t best = before;
            double min_cost = m->size[before] ? m->more[before] * squared(m, i, before) : INFINITY;
            const int all = step < m->live[own];
            Rings r = plane_rings(&m->plane, m->x[2 * i], m->x[2 * i + 1]);
            for (; r.ring <= r.last && plane_bound(&m->plane, &r) / 2 <= min_cost; r.ring++) {
                PLANE_RING(&m->plane, r, c, {
                    if (c == own || c == before || !m->size[c] || (!all && step >= m->live[c])) continue;
                    const double d = squared(m, i, c);
                    if (d < min_cost / m->more[c] || (best != before && c < best && d * m->more[c] == min_cost)) {
                        min_cost = d * m->more[c];
                        best = c;
                    }
                });
            }
            if (min_cost >= m->apart[i]) {
                m->second[i] = best;
            } else {
                m->quiet = 0;
                m->live[own] = m->live[best] = m->n + step;
                m->moved[own] = m->moved[best] = step;
                shift(m, i, own, best);
            }
        }
        if (m->quiet == m->n) return 1;
    }
    return 0;
}

static int quick(Kmeans *m, int32_t end) {
    for (int32_t i = m->at; i < end; i++) {
        const int64_t step = ++m->step;
        m->quiet++;
        if (step >= 50 * (int64_t)m->n) return 2;
        const int32_t own = m->own[i], other = m->second[i];
        if (m->size[own] != 1) {
            if (step <= m->moved[own]) m->apart[i] = m->less[own] * squared(m, i, own);
            if (m->size[other] && (step < m->moved[own] || step < m->moved[other])) {
                if (squared(m, i, other) < m->apart[i] / m->more[other]) {
                    m->quiet = 0;
                    m->transfer[own] = m->transfer[other] = 1;
                    m->moved[own] = m->moved[other] = step + m->n;
                    shift(m, i, own, other);
                }
            }
        }
        if (m->quiet == m->n) return 1;
    }
    return 0;
}

/* Visits the next `count` points. Returns 1 when done: an optimal stage moved nothing, or `max_rounds` rounds are
 * over. */
int32_t cw_kmeans_run(Kmeans *m, int32_t count, int32_t max_rounds) {
    while (count > 0 && m->stage != DONE) {
        const int32_t end = m->n - m->at > count ? m->at + count : m->n;
        const int32_t stage = m->stage;
        int ended = 0;
        count -= end - m->at;
        if (stage == FIRST) assign(m, end);
        if (stage == OPTIMAL) ended = optimal(m, end);
        if (stage == QUICK) ended = quick(m, end);
        m->at = end < m->n ? end : 0;
        if (stage == FIRST && !m->at) {
            settle(m);
            m->stage = OPTIMAL;
            for (int32_t c = 0; c < m->k; c++) m->live[c] = m->n + 1;
        } else if (stage == OPTIMAL && ended) {
            m->stage = DONE;
        } else if (stage == OPTIMAL && !m->at) {
            for (int32_t c = 0; c < m->k; c++) {
                m->transfer[c] = 0;
                m->live[c] -= m->n;
            }
            m->stage = QUICK;
            m->quiet = m->step = 0;
        } else if (stage == QUICK && ended) {
            m->stage = ended == 2 || m->k == 2 || ++m->rounds >= max_rounds ? DONE : OPTIMAL;
            for (int32_t c = 0; c < m->k; c++) {
                m->moved[c] = 0;
                if (m->transfer[c]) m->live[c] = m->n + 1;
            }
            m->at = 0;
            m->quiet = 0;
        }
    }
    return m->stage == DONE;
}
