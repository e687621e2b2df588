/* Communities by the Leiden method (Traag, Waltman and van Eck 2019): move nodes, refine each cluster into connected
 * parts, make each part a node, and repeat. Quality is modularity as Seurat and igraph define it: a strength may count
 * loops that are not among the links (algorithms.md, section 6.5). */
#include "cellworker.h"

#include <math.h>

#include "network.h"

/* Scratch of one run. Each array holds one number per node of the network. */
typedef struct {
    double *total, *link, *outward, *chance;
    int32_t *sizes, *order, *met, *empty, *refined;
    uint8_t *is_queued;
} Buffers;

/* Steele, Lea and Flood's SplitMix, 64 bits. */
static uint64_t draw(uint64_t *state) {
    uint64_t x = *state += 0x9E3779B97F4A7C15ULL;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ULL;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBULL;
    return x ^ (x >> 31);
}

/* The upper bits of a product: a bias below 2^-32. */
static int32_t below(uint64_t *state, int32_t n) { return (int32_t)(((draw(state) >> 32) * (uint64_t)n) >> 32); }

static double uniform(uint64_t *state) { return (double)(draw(state) >> 11) * 0x1p-53; }

static void shuffle(uint64_t *state, int32_t *order, int32_t n) {
    for (int32_t i = 0; i < n; i++) order[i] = i;
    for (int32_t i = n - 1; i > 0; i--) {
        const int32_t j = below(state, i + 1), swap = order[i];
        order[i] = order[j];
        order[j] = swap;
    }
}

/* Adds up the weights by cluster; a sum stays in a register while links lead to the same cluster. */
static int32_t links_to_clusters(const Network *net, int32_t node, const int32_t *cluster, double *link, int32_t *met) {
    int32_t n_met = 0, last = -1;
    double sum = 0;
    for (int64_t e = net->first[node]; e < net->first[node + 1]; e++) {
        const int32_t c = cluster[net->to[e]];
        if (c != last) {
            if (last >= 0) link[last] = sum;
            sum = link[c];
            if (sum == 0) met[n_met++] = c;
            last = c;
        }
        sum += net->weight[e];
    }
    if (last >= 0) link[last] = sum;
    return n_met;
}

/* Moves nodes from a queue, and queues the neighbours of a moved node again. Adds what this gains to `gained`. Returns
 * the number of clusters. */
static int32_t move_nodes(const Network *net, double resolution, uint64_t *state, int32_t *cluster, double *gained,
                          const Buffers *buffers, const volatile int32_t *stop) {
    const int32_t n = net->n;
    if (n < 1) return 0;
    double *total = buffers->total, *link = buffers->link;
    int32_t *sizes = buffers->sizes, *queue = buffers->order, *met = buffers->met, *empty = buffers->empty, n_empty = 0;
    memset(total, 0, (size_t)n * sizeof *total);
    memset(sizes, 0, (size_t)n * sizeof *sizes);
    for (int32_t i = 0; i < n; i++) {
        total[cluster[i]] += net->strength[i];
        sizes[cluster[i]]++;
    }
    for (int32_t c = 0; c < n; c++) {
        if (!sizes[c]) empty[n_empty++] = c;
    }
    shuffle(state, queue, n);
    memset(buffers->is_queued, 1, (size_t)n);
    int32_t head = 0, queued = n; /* a ring of n places suffices: no node is in the queue twice */
    while (queued && !*stop) {
        const int32_t node = queue[head], home = cluster[node];
        head = head + 1 < n ? head + 1 : 0;
        queued--;
        buffers->is_queued[node] = 0;
        const double strength = net->strength[node];
        const int32_t n_met = links_to_clusters(net, node, cluster, link, met);
        total[home] -= strength;
        sizes[home]--;
        int32_t best = home;
        const double stay = link[home] - strength * total[home] * resolution;
        double best_gain = stay;
        if (best_gain < 0 && sizes[home] && n_empty) { /* a cluster of its own is better */
            best = empty[n_empty - 1];
            best_gain = 0;
        }
        for (int32_t m = 0; m < n_met; m++) {
            const int32_t c = met[m];
            const double gain = link[c] - strength * total[c] * resolution;
            if (gain > best_gain + 1e-12 * strength) { /* rounding must not move nodes back and forth forever */
                best = c;
                best_gain = gain;
            }
            link[c] = 0;
        }
        if (!sizes[best] && best != home) n_empty--;
        total[best] += strength;
        sizes[best]++;
        if (best == home) continue;
        if (!sizes[home]) empty[n_empty++] = home;
        cluster[node] = best;
        *gained += 2 * (best_gain - stay); /* links count in both directions */
        for (int64_t e = net->first[node]; e < net->first[node + 1]; e++) {
            const int32_t other = net->to[e];
            if (cluster[other] == best || buffers->is_queued[other]) continue;
            buffers->is_queued[other] = 1;
            const int64_t place = (int64_t)head + queued++;
            queue[place < n ? place : place - n] = other;
        }
    }
    return renumber(cluster, n, sizes, met);
}

/* Splits each cluster into parts. In random order and at most once, a single node joins a part of its own cluster, if
 * both the node and the part are well linked to the cluster. The better a part, the more likely it is chosen. Without
 * clusters (null) all parts are open to all nodes. Writes `refined`; returns the number of parts. */
static int32_t refine(const Network *net, double resolution, double randomness, uint64_t *state, const int32_t *cluster,
                      const Buffers *buffers, const volatile int32_t *stop) {
    const int32_t n = net->n;
    if (n < 1) return 0;
    double *total = buffers->total, *link = buffers->link, *outward = buffers->outward, *all = buffers->chance + n;
    int32_t *part = buffers->refined, *sizes = buffers->sizes, *met = buffers->met;
    memset(all, 0, (size_t)n * sizeof *all);
    for (int32_t i = 0; i < n; i++) {
        part[i] = i;
        sizes[i] = 1;
        total[i] = net->strength[i];
        outward[i] = 0; /* links of a part to the rest of its cluster */
        if (!cluster) continue;
        all[cluster[i]] += net->strength[i];
        for (int64_t e = net->first[i]; e < net->first[i + 1]; e++) {
            if (cluster[net->to[e]] == cluster[i]) outward[i] += net->weight[e];
        }
    }
    shuffle(state, buffers->order, n);
    for (int32_t k = 0; k < n && !*stop; k++) {
        const int32_t node = buffers->order[k], home = part[node];
        const double strength = net->strength[node], whole = cluster ? all[cluster[node]] : 0;
        if (sizes[home] != 1 || (cluster && outward[home] < strength * (whole - strength) * resolution)) continue;
        int32_t n_met = 0;
        for (int64_t e = net->first[node]; e < net->first[node + 1]; e++) {
            if (cluster && cluster[net->to[e]] != cluster[node]) continue;
            const int32_t p = part[net->to[e]];
            met[n_met] = p; /* counted if new, without a branch; at most n - 1 parts are met, as no node has a loop */
            n_met += link[p] == 0;
            link[p] += net->weight[e];
        }
        double best_gain = 0;
        for (int32_t m = 0; m < n_met; m++) {
            const int32_t p = met[m];
            const int good = !cluster || outward[p] >= total[p] * (whole - total[p]) * resolution;
            const double gain = link[p] - strength * total[p] * resolution;
            buffers->chance[m] = good && gain >= 0 ? gain : -1;
            if (buffers->chance[m] > best_gain) best_gain = buffers->chance[m];
        }
        double sum = exp(-best_gain / randomness); /* the weight of staying a single node */
        for (int32_t m = 0; m < n_met; m++) {
            if (buffers->chance[m] >= 0) sum += exp((buffers->chance[m] - best_gain) / randomness);
        }
        double left = uniform(state) * sum - exp(-best_gain / randomness);
        int32_t chosen = home;
        for (int32_t m = 0; m < n_met && left >= 0; m++) {
            if (buffers->chance[m] < 0) continue;
            left -= exp((buffers->chance[m] - best_gain) / randomness);
            chosen = met[m];
        }
        if (chosen != home) {
            outward[chosen] += outward[home] - 2 * link[chosen];
            total[chosen] += strength;
            sizes[chosen]++;
            sizes[home] = 0;
            total[home] = 0;
            part[node] = chosen;
        }
        for (int32_t m = 0; m < n_met; m++) link[met[m]] = 0;
    }
    return renumber(part, n, sizes, met);
}

static int allocate(Buffers *buffers, int32_t n) {
    const size_t size = (size_t)n;
    *buffers = (Buffers){
        .total = malloc(size * sizeof(double)),
        .link = calloc(size, sizeof(double)),
        .outward = malloc(size * sizeof(double)),
        .chance = malloc(2 * size * sizeof(double)),
        .sizes = malloc(size * sizeof(int32_t)),
        .order = malloc(size * sizeof(int32_t)),
        .met = malloc(size * sizeof(int32_t)),
        .empty = malloc(size * sizeof(int32_t)),
        .refined = malloc(size * sizeof(int32_t)),
        .is_queued = malloc(size),
    };
    return buffers->total && buffers->link && buffers->outward && buffers->chance && buffers->sizes && buffers->order &&
           buffers->met && buffers->empty && buffers->refined && buffers->is_queued;
}

static void free_buffers(Buffers *buffers) {
    free(buffers->total);
    free(buffers->link);
    free(buffers->outward);
    free(buffers->chance);
    free(buffers->sizes);
    free(buffers->order);
    free(buffers->met);
    free(buffers->empty);
    free(buffers->refined);
    free(buffers->is_queued);
}

/* One iteration, starting from the clusters given. Writes the new clusters, numbered from 0, their quality (the weight
 * inside minus the expected weight), and how much of it is gained. The network is compressed rows, symmetric, without
 * loops, weights above 0; the caller has divided `resolution` by the sum of the strengths. Returns the number of
 * clusters, or -1 when memory runs out or `stop` is no longer 0. */
int32_t cw_leiden_iteration(const int64_t *first, const int32_t *to, const double *weight, const double *strength,
                            int32_t n, double resolution, double randomness, uint64_t *state, int32_t *cluster,
                            double *quality, const volatile int32_t *stop) {
    const Network whole = {n, first, to, weight, strength, 0};
    Network net = whole;
    Buffers buffers;
    int32_t *node_of = malloc((size_t)n * sizeof *node_of), *mine = malloc((size_t)n * sizeof *mine);
    int32_t n_clusters = allocate(&buffers, n) && node_of && mine ? 0 : -1;
    if (!n_clusters) {
        memcpy(mine, cluster, (size_t)n * sizeof *mine);
        for (int32_t i = 0; i < n; i++) node_of[i] = i;
        quality[1] = 0;
        for (;;) {
            n_clusters = move_nodes(&net, resolution, state, mine, &quality[1], &buffers, stop);
            if (n_clusters == net.n && !*stop) break;
            int32_t n_parts = refine(&net, resolution, randomness, state, mine, &buffers, stop);
            if (n_parts == net.n) { /* no node joined a part: the clusters themselves become nodes */
                memcpy(buffers.refined, mine, (size_t)net.n * sizeof *mine);
                n_parts = n_clusters;
            }
            Network merged;
            if (*stop || merge(&net, buffers.refined, n_parts, &merged)) {
                n_clusters = -1;
                break;
            }
            for (int32_t i = 0; i < n; i++) node_of[i] = buffers.refined[node_of[i]];
            for (int32_t i = 0; i < net.n; i++) buffers.met[buffers.refined[i]] = mine[i];
            memcpy(mine, buffers.met, (size_t)n_parts * sizeof *mine);
            if (net.first != first) release(&net);
            net = merged;
        }
        if (n_clusters >= 0) {
            for (int32_t i = 0; i < n; i++) cluster[i] = mine[node_of[i]];
            quality[0] = excess(&whole, resolution, cluster, buffers.total);
        }
        if (net.first != first) release(&net);
    }
    free_buffers(&buffers);
    free(node_of);
    free(mine);
    return n_clusters;
}

/* Joins the nodes of a network to parts, as a first step of a search: each single node, in random order, a part that it
 * is linked to by more than is expected. Writes each node's part. Returns the number of parts, or -1 when memory runs
 * out or `stop` is no longer 0. */
int32_t cw_leiden_parts(const int64_t *first, const int32_t *to, const double *weight, const double *strength,
                        int32_t n, double resolution, double randomness, uint64_t *state, int32_t *part,
                        const volatile int32_t *stop) {
    const Network net = {n, first, to, weight, strength, 0};
    Buffers buffers;
    int32_t n_parts = -1;
    if (allocate(&buffers, n)) {
        n_parts = refine(&net, resolution, randomness, state, NULL, &buffers, stop);
        memcpy(part, buffers.refined, (size_t)n * sizeof *part);
    }
    free_buffers(&buffers);
    return *stop ? -1 : n_parts;
}
