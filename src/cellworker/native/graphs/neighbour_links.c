/* The graph of nearest neighbours, and one level of the Louvain method on it (Blondel and others 2008,
 * doi:10.1088/1742-5468/2008/10/P10008), in calls of bounded time. */
#include "cellworker.h"

#include "network.h"

/* Counts the links per cell as if all were different: `first` (n + 1) gets the start of each cell's links. Neighbours
 * are n lists of k, negative for none; no cell is in its own list, and none is there twice. */
void cw_links_count(const int32_t *neighbours, int32_t n, int32_t k, int64_t *first) {
    memset(first, 0, ((size_t)n + 1) * sizeof *first);
    for (int32_t i = 0; i < n; i++) {
        for (int32_t j = 0; j < k; j++) {
            const int32_t other = neighbours[(int64_t)i * k + j];
            if (other < 0) continue;
            first[i + 1]++;
            first[other + 1]++;
        }
    }
    for (int32_t i = 0; i < n; i++) first[i + 1] += first[i];
}

/* Writes the links of each cell, ascending, with weight 1, or 2 where two cells are neighbours of each other. `first`
 * gets the start of each cell's actual links. Returns -1 when memory runs out. */
int32_t cw_links_fill(const int32_t *neighbours, int32_t n, int32_t k, int64_t *first, int32_t *to, double *weight) {
    int64_t *end = malloc(((size_t)n + 1) * sizeof *end);
    int32_t *mine = malloc(((size_t)k + 1) * sizeof *mine);
    if (!end || !mine) {
        free(end);
        free(mine);
        return -1;
    }
    memcpy(end, first, ((size_t)n + 1) * sizeof *end);
    for (int32_t i = 0; i < n; i++) { /* the cells that list a cell, ascending */
        for (int32_t j = 0; j < k; j++) {
            const int32_t other = neighbours[(int64_t)i * k + j];
            if (other >= 0) to[end[other]++] = i;
        }
    }
    int64_t at = 0;
    for (int32_t i = 0; i < n; i++) {
        const int64_t start = first[i], stop = first[i + 1];
        int32_t held = 0;
        for (int32_t j = 0; j < k; j++) {
            const int32_t other = neighbours[(int64_t)i * k + j];
            if (other < 0) continue;
            int32_t place = held++;
            for (; place && mine[place - 1] > other; place--) mine[place] = mine[place - 1];
            mine[place] = other;
        }
        /* Put the listing cells at the end of the cell's range: the merged list grows from its start. */
        const int64_t n_listing = end[i] - start, shifted = stop - n_listing;
        memmove(to + shifted, to + start, (size_t)n_listing * sizeof *to);
        int64_t e = shifted;
        int32_t m = 0;
        first[i] = at;
        while (e < stop || m < held) {
            const int32_t a = e < stop ? to[e] : INT32_MAX, b = m < held ? mine[m] : INT32_MAX;
            e += a <= b;
            m += b <= a;
            to[at] = a < b ? a : b;
            weight[at++] = a == b ? 2 : 1;
        }
    }
    first[n] = at;
    free(end);
    free(mine);
    return 0;
}

/* The network with each of the clusters 0 to count - 1 as one node, for `cw_network_take`; NULL when memory runs
 * out. */
Network *cw_network_merge(const int64_t *first, const int32_t *to, const double *weight, const double *strength,
                          int32_t n, const int32_t *cluster, int32_t count) {
    const Network net = {n, first, to, weight, strength, 0};
    Network *merged = malloc(sizeof *merged);
    if (merged && merge(&net, cluster, count, merged)) {
        free(merged);
        return NULL;
    }
    return merged;
}

int64_t cw_network_links(const Network *net) { return net->first[net->n]; }

/* Copies the arrays to the caller's, and frees the network. */
void cw_network_take(Network *net, int64_t *first, int32_t *to, double *weight, double *strength) {
    const size_t n_links = (size_t)net->first[net->n], size = (size_t)net->n;
    memcpy(first, net->first, (size + 1) * sizeof *first);
    memcpy(to, net->to, n_links * sizeof *to);
    memcpy(weight, net->weight, n_links * sizeof *weight);
    memcpy(strength, net->strength, size * sizeof *strength);
    release(net);
    free(net);
}

/* Moves nodes, in the order given, to the neighbouring cluster where they gain most; of equals, the lowest number. The
 * caller has divided `resolution` by the sum of the strengths. `total` is the clusters' strength, `link` is zeros,
 * `met` is scratch. Where `stale` is given, only the nodes marked there are visited: a visit unmarks a node, and a move
 * marks the neighbours. Adds the gain in weight to `gain`; returns the number of moves. */
int32_t cw_louvain_move(const int64_t *first, const int32_t *to, const double *weight, const double *strength,
                        double resolution, const int32_t *order, int32_t count, int32_t *cluster, double *total,
                        double *link, int32_t *met, uint8_t *stale, double *gain) {
    int32_t moved = 0;
    for (int32_t k = 0; k < count; k++) {
        const int32_t node = order[k], home = cluster[node];
        if (stale) {
            if (!stale[node]) continue;
            stale[node] = 0;
        }
        int32_t n_met = 0;
        for (int64_t e = first[node]; e < first[node + 1]; e++) {
            const int32_t c = cluster[to[e]];
            if (link[c] == 0) met[n_met++] = c;
            link[c] += weight[e];
        }
        total[home] -= strength[node];
        const double scaled = strength[node] * resolution, stay = link[home] - scaled * total[home];
        int32_t best = home;
        double best_gain = 0;
        for (int32_t m = 0; m < n_met; m++) {
            const int32_t c = met[m];
            const double here = link[c] - scaled * total[c];
            if (here > best_gain || (here == best_gain && best_gain > 0 && c < best)) {
                best = c;
                best_gain = here;
            }
            link[c] = 0;
        }
        total[best] += strength[node];
        if (best != home) {
            cluster[node] = best;
            *gain += best_gain - stay;
            moved++;
            for (int64_t e = first[node]; stale && e < first[node + 1]; e++) {
                if (cluster[to[e]] != best) stale[to[e]] = 1;
            }
        }
    }
    return moved;
}
