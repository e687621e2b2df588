/* A step of the t-SNE descent: the attraction along the links, and the move of every point. Also renumbers the graph
   for a new order of the points. Inlined into tsne.c, once for every kind of processor. */
#ifndef CW_TSNE_MOVE_H
#define CW_TSNE_MOVE_H

#include <math.h>

#include "tsne.h"

static const double MAX_MOVE = 5; /* of a point in one iteration */
static const float MIN_GAIN = 0.01f;

/* The compilers' vector type, which maps to the vectors of each processor. */
typedef float Eight __attribute__((vector_size(32)));
typedef double Four __attribute__((vector_size(32)));
typedef int32_t EightWhole __attribute__((vector_size(32)));
typedef double Pair __attribute__((may_alias)); /* a point, copied as one */

INLINE float sum_of(const Eight *v) {
    return (((*v)[0] + (*v)[4]) + ((*v)[2] + (*v)[6])) + (((*v)[1] + (*v)[5]) + ((*v)[3] + (*v)[7]));
}

INLINE float new_gain(float gain, float slope, float speed) {
    const float next = (slope > 0) != (speed > 0) ? gain + 0.2f : gain * 0.8f;
    return next > MIN_GAIN ? next : MIN_GAIN;
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

/* Adds the pulls along the links and moves the points, by van der Maaten's rule with momentum and gains. */
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

/* Renumbers the graph: the ends of its links, or their weights. */
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

#endif
