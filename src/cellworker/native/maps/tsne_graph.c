/* The graph of t-SNE, in both directions, from each cell's weighted neighbours. */
#include "tsne.h"

/* Runs one of four steps over some rows; a step must be done with all rows before the next one starts. Step 0 counts
   the links to each cell, 1 collects them, 2 counts the links of each row, 3 writes them. Returns -1 when memory runs
   out. */
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
    /* After step 1, the links to a cell lie from counted[cell] to counted[cell + 1]. */
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
