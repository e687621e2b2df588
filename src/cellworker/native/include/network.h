/* A weighted network and its reduction, for the methods that find communities. */
#ifndef CW_NETWORK_H
#define CW_NETWORK_H

#include "cellworker.h"
#include <stdlib.h>
#include <string.h>

/* It has both directions of every link and no loops; `inside` sums the weight inside each merged node. */
struct Network {
    int32_t n;
    const int64_t *first;
    const int32_t *to;
    const double *weight;
    const double *strength;
    double inside;
};

static void release(Network *net) {
    free((void *)net->first);
    free((void *)net->to);
    free((void *)net->weight);
    free((void *)net->strength);
    memset(net, 0, sizeof *net);
}

/* Makes each of the clusters 0 to count - 1 one node. A node's links, and the sums of their weights, are in the order
 * in which its members, ascending, meet them. Returns -1 when memory runs out; the caller frees the result. */
static int merge(const Network *net, const int32_t *cluster, int32_t count, Network *merged) {
    const int32_t n = net->n;
    const size_t size = (size_t)count, n_links = (size_t)net->first[n];
    int32_t *start = calloc(size + 1, sizeof *start), *at = malloc(size * sizeof *at);
    int32_t *members = malloc((size_t)n * sizeof *members), *met = malloc(size * sizeof *met);
    double *link = calloc(size, sizeof *link), *strength = calloc(size, sizeof *strength);
    int64_t *first = malloc((size + 1) * sizeof *first);
    int32_t *to = malloc((n_links + 1) * sizeof *to);
    double *weight = malloc((n_links + 1) * sizeof *weight);
    const int good = start && at && members && met && link && strength && first && to && weight;
    double inside = net->inside;
    if (good) {
        for (int32_t i = 0; i < n; i++) start[cluster[i] + 1]++;
        for (int32_t c = 0; c < count; c++) start[c + 1] += start[c];
        memcpy(at, start, size * sizeof *at);
        for (int32_t i = 0; i < n; i++) members[at[cluster[i]]++] = i;
        first[0] = 0;
        for (int32_t c = 0; c < count; c++) {
            int32_t n_met = 0;
            for (int32_t m = start[c]; m < start[c + 1]; m++) {
                const int32_t i = members[m];
                strength[c] += net->strength[i];
                for (int64_t e = net->first[i]; e < net->first[i + 1]; e++) {
                    const int32_t other = cluster[net->to[e]];
                    if (other == c) {
                        inside += net->weight[e];
                    } else {
                        if (link[other] == 0) met[n_met++] = other;
                        link[other] += net->weight[e];
                    }
                }
            }
            for (int32_t m = 0; m < n_met; m++) {
                to[first[c] + m] = met[m];
                weight[first[c] + m] = link[met[m]];
                link[met[m]] = 0;
            }
            first[c + 1] = first[c] + n_met;
        }
        const size_t n_left = (size_t)first[count];
        int32_t *fewer = realloc(to, (n_left + 1) * sizeof *to);
        double *lighter = realloc(weight, (n_left + 1) * sizeof *weight);
        if (fewer) to = fewer;
        if (lighter) weight = lighter;
    }
    free(start);
    free(at);
    free(members);
    free(met);
    free(link);
    *merged = (Network){count, first, to, weight, strength, inside};
    if (!good) release(merged);
    return good ? 0 : -1;
}

/* Renumbers the clusters that have nodes as 0, 1, ..., in their order. Returns the number of these clusters. */
static inline int32_t renumber(int32_t *cluster, int32_t n, const int32_t *sizes, int32_t *names) {
    int32_t count = 0;
    for (int32_t c = 0; c < n; c++) names[c] = sizes[c] ? count++ : -1;
    for (int32_t i = 0; i < n; i++) cluster[i] = names[cluster[i]];
    return count;
}

/* The weight inside the clusters, in both directions, minus the expected weight, `resolution` times the squared
 * strengths. `total` is scratch for n numbers. */
static inline double excess(const Network *net, double resolution, const int32_t *cluster, double *total) {
    double quality = 0;
    for (int32_t i = 0; i < net->n; i++) {
        for (int64_t e = net->first[i]; e < net->first[i + 1]; e++) {
            if (cluster[net->to[e]] == cluster[i]) quality += net->weight[e];
        }
    }
    quality += net->inside;
    memset(total, 0, (size_t)net->n * sizeof *total);
    for (int32_t i = 0; i < net->n; i++) total[cluster[i]] += net->strength[i];
    for (int32_t c = 0; c < net->n; c++) quality -= total[c] * total[c] * resolution;
    return quality;
}

#endif
