/* Communities by the Louvain method as in Waltman and van Eck's modularity optimiser, which Seurat uses: the same
 * generator gives the same order of visits, and sums run in the same order, so the labels are the same (algorithms.md,
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
        if ((int64_t)bits - value + (n - 1) <= INT32_MAX) return value; /* reject the last, incomplete round of n */
    }
}

enum { HELD = 9 };

/* What the next visit of a node needs: the clusters that its links lead to, and the weight to each. It takes two cache
 * lines, in the order of visits. A node next to more clusters than fit keeps them in its links' places in `Buffers`. */
typedef struct {
    double strength, link[HELD];
    int32_t cluster[HELD];
    int32_t node, n_near;
} Visit;

/* Scratch of one level: one number per node, except `near` and `near_link`, which hold one per link. */
typedef struct {
    double *total, *link, *near_link;
    int32_t *sizes, *empty, *near;
    uint8_t *is_stale;
    Visit *visits;
} Buffers;

static int allocate(Buffers *b, const Network *net) {
    const size_t size = (size_t)net->n, n_links = (size_t)net->first[net->n] + 1;
    *b = (Buffers){
        .total = calloc(size, sizeof(double)),
        .link = calloc(size, sizeof(double)),
        .near_link = malloc(n_links * sizeof(double)),
        .sizes = calloc(size, sizeof(int32_t)),
        .empty = malloc(size * sizeof(int32_t)),
        .near = malloc(n_links * sizeof(int32_t)),
        .is_stale = malloc(size),
        .visits = malloc(size * sizeof(Visit)),
    };
    return b->total && b->link && b->near_link && b->sizes && b->empty && b->near && b->is_stale && b->visits;
}

static void free_buffers(Buffers *b) {
    free(b->total);
    free(b->link);
    free(b->near_link);
    free(b->sizes);
    free(b->empty);
    free(b->near);
    free(b->is_stale);
    free(b->visits);
}

/* Orders the visits of the nodes as the original's generator shuffles them. */
static void plan_visits(const Network *net, uint64_t *random, int32_t *order, Visit *visits) {
    const int32_t n = net->n;
    for (int32_t i = 0; i < n; i++) order[i] = i;
    for (int32_t i = 0; i < n; i++) {
        const int32_t j = below(random, n), swap = order[i];
        order[i] = order[j];
        order[j] = swap;
    }
    for (int32_t i = 0; i < n; i++) {
        visits[i].node = order[i];
        visits[i].strength = net->strength[order[i]];
    }
}

/* Sums the weights of a node's links by cluster, each sum in the order of the links. `b->link` is zero before and
 * after. A sum stays in a register while links lead to the same cluster. */
static void sum_links(const Network *net, const int32_t *cluster, const Buffers *b, Visit *visit) {
    const int64_t start = net->first[visit->node], end = net->first[visit->node + 1];
    double *link = b->link, sum = 0;
    int32_t *near = b->near + start, n_near = 0, last = -1;
    for (int64_t e = start; e < end; e++) {
        const int32_t c = cluster[net->to[e]];
        if (c != last) {
            if (last >= 0) link[last] = sum;
            sum = link[c];
            if (sum == 0) near[n_near++] = c;
            last = c;
        }
        sum += net->weight[e];
    }
    if (last >= 0) link[last] = sum;
    visit->n_near = n_near;
    for (int32_t m = 0; m < n_near; m++) {
        const int32_t c = near[m];
        if (n_near <= HELD) {
            visit->cluster[m] = c;
            visit->link[m] = link[c];
        } else {
            b->near_link[start + m] = link[c];
        }
        link[c] = 0;
    }
}

/* The cluster where a node without a cluster gains most; of equals, the lowest number; -1 where no cluster gains. */
static int32_t best_cluster(const Network *net, double resolution, const Buffers *b, const Visit *visit) {
    const int held = visit->n_near <= HELD;
    const int32_t *near = held ? visit->cluster : b->near + net->first[visit->node];
    const double *link = held ? visit->link : b->near_link + net->first[visit->node];
    int32_t best = -1;
    double best_gain = 0;
    for (int32_t m = 0; m < visit->n_near; m++) {
        const int32_t c = near[m];
        const double gain = link[m] - visit->strength * b->total[c] * resolution;
        if (gain > best_gain || (gain == best_gain && c < best)) {
            best = c;
            best_gain = gain;
        }
    }
    return best;
}

/* Moves single nodes until none gains. Clusters are 0 to *n_clusters - 1 before and after. A node's sums stay valid
 * until a neighbour moves. Returns 1 if a node moved, else 0; -1 when memory runs out. */
static int move_nodes(const Network *net, double resolution, uint64_t *random, int32_t *cluster, int32_t *n_clusters) {
    const int32_t n = net->n;
    Buffers b;
    int moved = -1;
    if (allocate(&b, net)) {
        moved = 0;
        plan_visits(net, random, b.empty, b.visits);
        for (int32_t i = 0; i < n; i++) {
            b.total[cluster[i]] += net->strength[i];
            b.sizes[cluster[i]]++;
        }
        memset(b.is_stale, 1, (size_t)n);
        int32_t n_empty = 0, stable = 0;
        for (int32_t c = 0; c < n; c++) {
            if (!b.sizes[c]) b.empty[n_empty++] = c;
        }
        for (int32_t at = 0; stable < n; at = at < n - 1 ? at + 1 : 0) {
            Visit *visit = &b.visits[at];
            const int32_t j = visit->node, home = cluster[j];
            if (b.is_stale[j]) {
                sum_links(net, cluster, &b, visit);
                b.is_stale[j] = 0;
            }
            b.total[home] -= visit->strength;
            if (!--b.sizes[home]) b.empty[n_empty++] = home;
            int32_t best = best_cluster(net, resolution, &b, visit);
            /* One cluster is empty here: the n - 1 other nodes cannot fill n clusters. */
            if (best < 0) best = b.empty[--n_empty];
            b.total[best] += visit->strength;
            b.sizes[best]++;
            if (best == home) {
                stable++;
                continue;
            }
            for (int64_t e = net->first[j]; e < net->first[j + 1]; e++) b.is_stale[net->to[e]] = 1;
            cluster[j] = best;
            stable = 1;
            moved = 1;
        }
        *n_clusters = renumber(cluster, n, b.sizes, b.empty);
    }
    free_buffers(&b);
    return moved;
}

/* Moves nodes, then merges each cluster into one node, finds the communities of these nodes, and carries them over to
 * the original ones. Returns what `move_nodes` returns. */
static int improve(const Network *net, double resolution, uint64_t *random, int32_t *cluster, int32_t *n_clusters) {
    if (net->n <= 1) return 0;
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

/* One start from single nodes: up to `passes` passes of the method, while they still change something. The network is
 * compressed rows, ascending, symmetric, without loops, weights above 0. `state` is the generator's, and continues from
 * start to start. Writes the clusters, numbered from 0, and their quality. Returns the number of clusters, or -1 when
 * memory runs out. */
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
