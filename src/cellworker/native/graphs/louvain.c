/* Communities by the Louvain method as in Waltman and van Eck's modularity optimiser, which Seurat uses: the same order
 * of visits from the same generator and sums in the same order, so that the labels are the same (algorithms.md,
 * section 6.4). */
#include "cellworker.h"

#include "network.h"

/* Java's linear congruential generator, 48 bits. */
static int32_t next31(uint64_t *state) {
    *state = (*state * 0x5DEECE66DULL + 0xB) & ((1ULL << 48) - 1);
    return (int32_t)(*state >> 17);
}

static int32_t below(uint64_t *state, int32_t n) {
    if ((n & -n) == n) return (int32_t)(((int64_t)n * next31(state)) >> 31);
    for (;;) {
        const int32_t bits = next31(state), value = bits % n;
        if ((int64_t)bits - value + (n - 1) <= INT32_MAX) return value; /* else the last, incomplete round of n */
    }
}

/* Moves single nodes until none gains; clusters are 0 to *n_clusters - 1 before and after. 1 if anything moved, -1 when
 * memory ran out. */
static int move_nodes(const Network *net, double resolution, uint64_t *random, int32_t *cluster, int32_t *n_clusters) {
    const int32_t n = net->n;
    const size_t size = (size_t)n;
    double *total = calloc(size, sizeof *total), *link = calloc(size, sizeof *link);
    int32_t *sizes = calloc(size, sizeof *sizes), *order = malloc(size * sizeof *order);
    int32_t *met = malloc(size * sizeof *met), *empty = malloc(size * sizeof *empty);
    int moved = -1;
    if (total && link && sizes && order && met && empty) {
        moved = 0;
        for (int32_t i = 0; i < n; i++) {
            total[cluster[i]] += net->strength[i];
            sizes[cluster[i]]++;
        }
        int32_t n_empty = 0;
        for (int32_t c = 0; c < n; c++) {
            if (!sizes[c]) empty[n_empty++] = c;
        }
        for (int32_t i = 0; i < n; i++) order[i] = i;
        for (int32_t i = 0; i < n; i++) {
            const int32_t j = below(random, n), swap = order[i];
            order[i] = order[j];
            order[j] = swap;
        }
        int32_t stable = 0;
        for (int32_t at = 0; stable < n; at = at < n - 1 ? at + 1 : 0) {
            const int32_t j = order[at], home = cluster[j];
            const double strength = net->strength[j];
            int32_t n_met = 0;
            for (int64_t e = net->first[j]; e < net->first[j + 1]; e++) {
                const int32_t c = cluster[net->to[e]];
                if (link[c] == 0) met[n_met++] = c;
                link[c] += net->weight[e];
            }
            total[home] -= strength;
            if (!--sizes[home]) empty[n_empty++] = home;
            int32_t best = -1;
            double best_gain = 0;
            for (int32_t m = 0; m < n_met; m++) {
                const int32_t c = met[m];
                const double gain = link[c] - strength * total[c] * resolution;
                if (gain > best_gain || (gain == best_gain && c < best)) {
                    best = c;
                    best_gain = gain;
                }
                link[c] = 0;
            }
            /* When nothing gains there is an empty cluster: n nodes less this one cannot fill n. */
            if (best_gain == 0) best = empty[--n_empty];
            total[best] += strength;
            sizes[best]++;
            if (best == home) {
                stable++;
            } else {
                cluster[j] = best;
                stable = 1;
                moved = 1;
            }
        }
        *n_clusters = renumber(cluster, n, sizes, met);
    }
    free(total);
    free(link);
    free(sizes);
    free(order);
    free(met);
    free(empty);
    return moved;
}

/* Moves nodes, then merges each cluster into one node, finds communities of those, and carries them over. As
 * `move_nodes`. */
static int improve(const Network *net, double resolution, uint64_t *random, int32_t *cluster, int32_t *n_clusters) {
    if (net->n == 1) return 0;
    const int moved = move_nodes(net, resolution, random, cluster, n_clusters);
    if (moved < 0 || *n_clusters == net->n) return moved;
    Network merged;
    int32_t count = *n_clusters, *outer = malloc((size_t)count * sizeof *outer);
    int more = -1;
    if (outer && !merge(net, cluster, count, &merged)) {
        for (int32_t c = 0; c < count; c++) outer[c] = c;
        more = improve(&merged, resolution, random, outer, &count);
        release(&merged);
        if (more == 1) {
            for (int32_t i = 0; i < net->n; i++) cluster[i] = outer[cluster[i]];
            *n_clusters = count;
        }
    }
    free(outer);
    return more < 0 ? -1 : moved | more;
}

/* One start from single nodes: at most `passes` passes of the method while they still change something. The network is
 * compressed rows, ascending, symmetric, without loops, weights above 0. `state` is the generator's and goes on from
 * start to start. Writes the clusters (0 to the result - 1) and their quality; -1 when memory ran out. */
int32_t cw_louvain_start(const int64_t *first, const int32_t *to, const double *weight, int32_t n, double resolution,
                         int32_t passes, uint64_t *state, int32_t *cluster, double *quality) {
    double *strength = calloc((size_t)n, sizeof *strength), *total = malloc((size_t)n * sizeof *total);
    int32_t n_clusters = -1;
    if (strength && total) {
        double all = 0;
        for (int32_t i = 0; i < n; i++) {
            for (int64_t e = first[i]; e < first[i + 1]; e++) strength[i] += weight[e];
        }
        for (int64_t e = 0; e < first[n]; e++) all += weight[e];
        const Network net = {n, first, to, weight, strength, 0};
        const double scaled = resolution / all;
        n_clusters = n;
        for (int32_t i = 0; i < n; i++) cluster[i] = i;
        int moved = 1;
        for (int32_t pass = 0; pass < passes && moved == 1; pass++) {
            moved = improve(&net, scaled, state, cluster, &n_clusters);
        }
        if (moved < 0) n_clusters = -1;
        else *quality = excess(&net, scaled, cluster, total) / all;
    }
    free(strength);
    free(total);
    return n_clusters;
}
