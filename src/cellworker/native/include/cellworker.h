/* Every exported function. Python derives the signatures of its calls from this file (native/__init__.py) and refuses a
 * library that was compiled with another version of it, so a changed kernel changes its line here and nowhere else.
 * Functions check none of their arguments: the Python caller has checked shapes, types and bounds. */
#ifndef CELLWORKER_H
#define CELLWORKER_H

#include <stdint.h>

#define EXPORT __attribute__((visibility("default")))

typedef struct Forest Forest;
typedef struct GraphNodes GraphNodes;
typedef struct Kmeans Kmeans;
typedef struct Network Network;
typedef struct QsHash QsHash;
typedef struct RankPlan RankPlan;
typedef struct RankTests RankTests;
typedef struct RowSummary RowSummary;
typedef struct Tsne Tsne;
typedef struct UmapLayout UmapLayout;
typedef struct UmapStep UmapStep;
typedef struct ValueFacts ValueFacts;

/* ---- the library itself ---- */

/* The SHA-256 of this file, as it was when the library was compiled: 64 hexadecimal digits. */
EXPORT const char *cw_interface(void);

/* page_faults.c */
EXPORT int32_t cw_catch_page_faults(void *told, int32_t again);
EXPORT int32_t cw_watch_pages(uint8_t *pages, int64_t length, int32_t descriptor, const int64_t *offsets,
                              const int64_t *counts, int64_t n);
EXPORT int32_t cw_lost_pages(int32_t place);
EXPORT void cw_forget_pages(int32_t place);
EXPORT uint64_t cw_thread_of_last_fault(void);

/* ---- statistics: tests, sums and summaries of expression; sorting ---- */

/* expression.c */
EXPORT void cw_gene_statistics(const int64_t *indptr, const float *values, const int64_t *genes, int64_t n_genes,
                               int64_t n, double *out);
EXPORT int32_t cw_gather_picked(const int64_t *indptr, const int32_t *cells, const float *values, const int64_t *genes,
                                int64_t n_genes, const int32_t *picked, int64_t n_picked, int64_t n_cells, float *dense,
                                uint64_t *marks, int64_t *ptr, int32_t *rows, float *out);

/* pseudobulk.c */
EXPORT int32_t cw_lowess(const double *x, const double *y, int64_t n, double span, int32_t robust, double delta,
                         double *fitted);
EXPORT int32_t cw_sample_weights(const double *e, const double *w, int64_t n_genes, int32_t n, const int32_t *group,
                                 double prior_n, double *out);

/* libm.c */
EXPORT void cw_libm(int32_t which, const double *x, int64_t n, double *out);

/* variability.c */
EXPORT int32_t cw_gene_totals(const int32_t *genes, const double *values, int64_t n, int64_t n_genes, int32_t low,
                              int32_t high, double *sums, double *stored);
EXPORT int32_t cw_gene_squares(const int32_t *genes, const double *values, int64_t n, int64_t n_genes, int32_t low,
                               int32_t high, const double *mean, const double *scale, double limit, double *squares);
EXPORT int32_t cw_gene_moments(const int32_t *genes, const float *values, int64_t n, int64_t n_genes, double *sums,
                               double *squares);

/* voom.c */
EXPORT int32_t cw_group_fit(const double *e, const double *weights, int64_t n_genes, int64_t n, const int32_t *group,
                            double *means, double *sigma);
EXPORT void cw_voom_weights(const double *means, int64_t n_genes, int64_t n, const int32_t *group,
                            const double *library, const double *at, const double *level, int64_t n_at,
                            double *weights);

/* rank.c */
EXPORT int64_t cw_rank_scratch(int64_t longest, int64_t n_classes);
EXPORT int32_t cw_rank_scan(const int64_t *indptr, const int32_t *cells, const uint32_t *values, int64_t from,
                            int64_t to, const RankPlan *plans, int64_t n_plans, int64_t n_cells, int32_t rules,
                            const RankTests *tests, int64_t longest, int64_t max_classes, void *scratch, int32_t wide,
                            int32_t plain);

/* group_sums.c */
EXPORT int32_t cw_expm1_sums(const int64_t *indptr, const int32_t *cells, const float *values, const int64_t *genes,
                             int64_t n_genes, const int16_t *code, int64_t n_cells, int32_t n_classes, double *sums,
                             int64_t *positive);
EXPORT int32_t cw_group_sums_u8(const int64_t *indptr, const void *genes, int32_t width, const uint8_t *values,
                                const int64_t *rows, int64_t n_rows, const int32_t *code, int64_t n_genes,
                                double *sums);
EXPORT int32_t cw_group_sums_u16(const int64_t *indptr, const void *genes, int32_t width, const uint16_t *values,
                                 const int64_t *rows, int64_t n_rows, const int32_t *code, int64_t n_genes,
                                 double *sums);
EXPORT int32_t cw_group_sums_u32(const int64_t *indptr, const void *genes, int32_t width, const uint32_t *values,
                                 const int64_t *rows, int64_t n_rows, const int32_t *code, int64_t n_genes,
                                 double *sums);
EXPORT int32_t cw_group_sums_f32(const int64_t *indptr, const void *genes, int32_t width, const float *values,
                                 const int64_t *rows, int64_t n_rows, const int32_t *code, int64_t n_genes,
                                 double *sums);
EXPORT int32_t cw_group_sums_f64(const int64_t *indptr, const void *genes, int32_t width, const double *values,
                                 const int64_t *rows, int64_t n_rows, const int32_t *code, int64_t n_genes,
                                 double *sums);
EXPORT int32_t cw_group_sums_i64(const int64_t *indptr, const void *genes, int32_t width, const int64_t *values,
                                 const int64_t *rows, int64_t n_rows, const int32_t *code, int64_t n_genes,
                                 double *sums);

/* count_sums.c */
EXPORT int32_t cw_count_sums(int32_t type, int32_t layout, const int64_t *indptr, const void *genes, const void *values,
                             int64_t n_stored, int64_t from, int64_t to, const int32_t *code, int64_t n_genes,
                             double *sums);

/* gram.c */
EXPORT int32_t cw_gram(const int64_t *indptr, const int32_t *columns, const double *values, int64_t n_rows,
                       int64_t n_stored, int64_t width, double *out);

/* levels.c */
EXPORT int64_t cw_find_levels(const int64_t *bounds, int64_t n_rows, const uint32_t *counts, const float *values,
                              int64_t max_levels, int64_t *lengths, uint32_t *counts_out, float *values_out);
EXPORT int64_t cw_level_values(const int64_t *indptr, int64_t n_rows, const void *counts, int32_t width,
                               const int64_t *first, const void *level_counts, const float *level_values,
                               int64_t n_levels, const int64_t *places, int64_t start, int64_t n, float *out);

/* sort.c */
EXPORT void cw_sort_genes(const int64_t *bounds, int64_t n_genes, uint64_t *entries, uint64_t *scratch, int32_t *cells,
                          uint32_t *values);

/* tails.c */
EXPORT void cw_normal_tails(const double *z, int64_t n, double *p, double *log_p);
EXPORT void cw_student_log_tails(const double *t, const double *df, int64_t n, double *log_p);

/* transpose.c */
EXPORT void cw_seek_column(const int64_t *indptr, int64_t n_rows, const void *columns, int32_t width, int32_t column,
                           int32_t *cursor);
EXPORT int64_t cw_gather_genes(const int64_t *indptr, int64_t n_cells, const void *genes, int32_t width,
                               const void *values, int32_t narrow, const int64_t *level_first, const void *level_counts,
                               const float *level_values, int64_t n_levels, int32_t first, int32_t last,
                               int32_t *cursor, int64_t *slot, int64_t capacity, uint64_t *out);
EXPORT void cw_split_rows(const int64_t *indptr, int64_t start, int64_t stop, const void *columns, int32_t width,
                          const void *values, int32_t value_bytes, const int32_t *edges, int64_t n_parts,
                          int32_t *lengths, int64_t *bounds, void *out_columns, void *out_values);

/* ---- graphs: neighbours, networks and their clusters ---- */

/* fast_neighbours.c */
EXPORT int32_t cw_fast_neighbours(const float *coordinates, const int32_t *rows, int32_t n_dims, int64_t n_blocks,
                                  const float *boxes, const int64_t *starts, const float *centres,
                                  const int32_t *centre_rows, int64_t n_lists, int32_t n_probes, const float *queries,
                                  const int32_t *asked, int64_t n_asked, int32_t k, int32_t own, int32_t *found_rows,
                                  float *found_distances);

/* kmeans.c */
EXPORT void cw_kmeans_free(Kmeans *m);
EXPORT Kmeans *cw_kmeans_new(const double *x, int32_t n, const double *box, const double *centres, int32_t k,
                             int32_t *own);
EXPORT int32_t cw_kmeans_run(Kmeans *m, int32_t count, int32_t max_rounds);

/* leiden.c */
EXPORT int32_t cw_leiden_iteration(const int64_t *first, const int32_t *to, const double *weight,
                                   const double *strength, int32_t n, double resolution, double randomness,
                                   uint64_t *state, int32_t *cluster, double *quality, const volatile int32_t *stop);
EXPORT int32_t cw_leiden_parts(const int64_t *first, const int32_t *to, const double *weight, const double *strength,
                               int32_t n, double resolution, double randomness, uint64_t *state, int32_t *part,
                               const volatile int32_t *stop);

/* louvain.c */
EXPORT int32_t cw_louvain_start(const int64_t *first, const int32_t *to, const double *weight, int32_t n,
                                double resolution, int32_t passes, uint64_t *state, int32_t *cluster, double *quality);

/* neighbour_links.c */
EXPORT void cw_links_count(const int32_t *neighbours, int32_t n, int32_t k, int64_t *first);
EXPORT int32_t cw_links_fill(const int32_t *neighbours, int32_t n, int32_t k, int64_t *first, int32_t *to,
                             double *weight);
EXPORT Network *cw_network_merge(const int64_t *first, const int32_t *to, const double *weight, const double *strength,
                                 int32_t n, const int32_t *cluster, int32_t count);
EXPORT int64_t cw_network_links(const Network *net);
EXPORT void cw_network_take(Network *net, int64_t *first, int32_t *to, double *weight, double *strength);
EXPORT int32_t cw_louvain_move(const int64_t *first, const int32_t *to, const double *weight, const double *strength,
                               double resolution, const int32_t *order, int32_t count, int32_t *cluster, double *total,
                               double *link, int32_t *met, uint8_t *stale, double *gain);

/* forest.c, forest_query.c */
EXPORT void cw_forest_free(Forest *f);
EXPORT Forest *cw_forest_new(const float *points, int32_t n_items, int32_t n_dims, int32_t cosine, int32_t n_trees);
EXPORT int32_t cw_forest_grow(Forest *f);
EXPORT void cw_forest_places(const Forest *f, const float *queries, int64_t n_queries, int32_t *places);
EXPORT int32_t cw_forest_query(const Forest *f, const float *queries, const int32_t *asked, int64_t n_asked, int32_t k,
                               int64_t search, int32_t *items, float *distances);

/* snn.c */
EXPORT int32_t cw_links_mirror(int64_t n, const int64_t *counts, const int32_t *later, const double *given,
                               int64_t *first, int32_t *cells, double *weights);
EXPORT int64_t cw_shared(const int32_t *lists, int32_t k, int64_t n, const int64_t *starts, const int32_t *holders,
                         int64_t from, int64_t to, int32_t min_shared, int64_t *counts, int32_t *cells,
                         int32_t *shared);
EXPORT void cw_shared_holders(const int32_t *lists, int32_t k, int64_t n, int64_t *starts, int32_t *holders);

/* ---- maps: UMAP and t-SNE ---- */

/* smooth.c */
EXPORT void cw_smooth_apply(const int64_t *first, const int32_t *to, const float *weight, const float *root,
                            int64_t base, int64_t start, int64_t stop, float scale, float centre, float back,
                            const float *x, const float *before, float *out);
EXPORT void cw_smooth_products(const float *x, const float *y, int64_t start, int64_t stop, double *sums);
EXPORT void cw_smooth_combine(const float *x, const double *matrix, int64_t start, int64_t stop, float *out);
EXPORT void cw_smooth_ritz(const double *products, const double *images, double *matrix, double *values);

/* tsne.c, tsne_graph.c */
EXPORT void cw_tsne_free(Tsne *s);
EXPORT void cw_tsne_place(Tsne *s, const float *points);
EXPORT void cw_tsne_layout(const Tsne *s, float *points);
EXPORT Tsne *cw_tsne_new(const float *points, int32_t n, int32_t n_threads);
EXPORT int32_t cw_tsne_affinities(const int32_t *cells, const float *distances, int64_t start, int64_t count, int32_t k,
                                  double perplexity, float *out);
EXPORT int32_t cw_tsne_link(Tsne *s, const int32_t *cells, const float *weights, int32_t k, int32_t step, int32_t start,
                            int32_t stop);
EXPORT void cw_tsne_open_pool(Tsne *s);
EXPORT void cw_tsne_close_pool(Tsne *s);
EXPORT void cw_tsne_work(Tsne *s, int32_t thread);
EXPORT int32_t cw_tsne_descend(Tsne *s, int32_t iterations, float rate, float momentum, float exaggeration);
EXPORT int32_t cw_tsne_sort(Tsne *s);
EXPORT int32_t cw_tsne_repulsion(Tsne *s, int32_t exact, float *pushes, double *total);

/* umap.c */
EXPORT void cw_umap_move(const UmapLayout *l, int64_t start, int64_t stop, int32_t epoch, const UmapStep *step);
EXPORT void cw_umap_shuffle(int32_t *order, int64_t n, uint64_t seed);
EXPORT void cw_umap_noise(float *out, int64_t n, uint64_t seed);

/* umap_graph.c */
EXPORT int32_t cw_umap_memberships(const int32_t *cells, const float *distances, int32_t k, int64_t start, int64_t stop,
                                   int32_t own, int32_t keep, int32_t halved, int32_t connected, float *weights);
EXPORT void cw_umap_listed(const int32_t *cells, const float *weights, int64_t start, int64_t stop, int32_t k,
                           int64_t *at, int32_t *who, float *how);
EXPORT int64_t cw_umap_union(const int32_t *cells, const float *weights, int32_t k, int64_t start, int64_t stop,
                             const int64_t *who_first, const int32_t *who, const float *how, float min_weight,
                             int64_t end, int64_t *first, int32_t *to, float *weight, float *strength);
EXPORT int32_t cw_umap_parts(int64_t n, const int64_t *first, const int32_t *to, int32_t *part, int32_t *stack);
EXPORT void cw_umap_curve(double min_dist, double spread, double reach, double *a, double *b);
EXPORT void cw_umap_rearrange(const int64_t *first, const int32_t *to, const float *weight, const int32_t *order,
                              const int32_t *place, int64_t start, int64_t stop, const int64_t *new_first,
                              int32_t *new_to, float *new_weight);

/* ---- trajectories: the principal graph ---- */

/* principal_graph.c */
EXPORT void cw_nodes_free(GraphNodes *nodes);
EXPORT GraphNodes *cw_nodes_new(const double *at, int32_t n, const double *box);
EXPORT void cw_nodes_nearest(const GraphNodes *nodes, const double *x, int32_t count, int32_t *best);
EXPORT void cw_nodes_share(const GraphNodes *nodes, const double *x, int32_t count, double sigma, double *weight,
                           double *sums, double *figures, int32_t *spare);
EXPORT int32_t cw_tree_grow(const double *at, int32_t n, int32_t held, int32_t count, int32_t *order, int32_t *parent,
                            double *reach);
EXPORT void cw_tree_solve(const int32_t *order, const int32_t *parent, int32_t n, double *pull, double *sums);
EXPORT void cw_nodes_project(const double *at, const int64_t *first, const int32_t *to, const double *x,
                             const int32_t *node, int32_t count, int32_t *other, double *part);

/* ---- text: numbers as JSON and CSV ---- */

/* gene_text.c */
EXPORT int64_t cw_gene_values_json(const int32_t *cells, const float *values, int64_t n, const int32_t *row_of,
                                   int64_t n_cells, int64_t n_rows, char *texts, uint32_t *place, uint64_t *marks,
                                   int64_t *count, char *out, int32_t widest);
EXPORT int64_t cw_gene_rows_json(const int32_t *cells, int64_t n, const int32_t *row_of, int64_t n_cells,
                                 int64_t n_rows, uint64_t *marks, char *out);

/* text.c */
extern EXPORT const uint64_t cw_powers_of_ten[77];
EXPORT int64_t cw_floats_json(const float *values, int64_t n, char *out);
EXPORT int64_t cw_points_json(const float *x, const float *y, int64_t n, char *out);
EXPORT int64_t cw_ints_json(const int32_t *values, int64_t n, char *out);
EXPORT int64_t cw_csv_rows(const int64_t *indptr, const int32_t *cells, const float *values, int64_t first,
                           int64_t last, const int32_t *column_of, int64_t n_cells, int64_t n_columns, const char *ids,
                           const int64_t *id_ends, float *dense, uint64_t *marks, char *out);

/* ---- formats: what files hold ---- */

/* bpcells.c */
EXPORT int64_t cw_bpcells_unpack(const uint32_t *words, int64_t n_words, const uint32_t *idx, int64_t n_blocks,
                                 const uint64_t *offsets, int64_t n_offsets, const uint32_t *starts,
                                 const int64_t *from, const int64_t *to, int64_t n_ranges, uint32_t *out);

/* convert.c */
EXPORT void cw_scan_rows(const int64_t *indptr, int64_t start, int64_t stop, const int32_t *columns,
                         const int32_t *values, int64_t nnz, int32_t n_columns, int64_t *nonzeros, int64_t *per_column,
                         RowSummary *out);
EXPORT int64_t cw_convert_rows(const int64_t *indptr, int64_t start, int64_t stop, const int32_t *columns,
                               const float *values, const int64_t *bounds, int32_t *out_columns, float *out_values,
                               uint64_t *a, uint64_t *b);

/* crc32c.c */
EXPORT uint32_t cw_crc32c(const uint8_t *in, int64_t n);

/* values.c */
EXPORT void cw_row_values(const int64_t *indptr, int64_t start, int64_t stop, const float *values, double scale,
                          int32_t closely, double *sums, double *units, double *level_sums, ValueFacts *out);
EXPORT void cw_row_sums(const int64_t *bounds, int64_t n_rows, const double *values, const int32_t *columns,
                        const uint8_t *chosen, double *sums, double *nonzero, double *chosen_sums);

/* lz4.c */
EXPORT int64_t cw_lz4_block(const uint8_t *in, int64_t n, uint8_t *out, int64_t capacity);
EXPORT void cw_unshuffle(const uint8_t *in, int64_t count, int64_t width, uint8_t *out);

/* qs.c */
EXPORT int64_t cw_qs_hash_size(void);
EXPORT void cw_qs_hash_start(QsHash *state, uint32_t seed);
EXPORT void cw_qs_hash_add(QsHash *state, const uint8_t *source, int64_t size);
EXPORT uint32_t cw_qs_hash_value(const QsHash *state);
EXPORT void cw_qs_unshuffle32(const uint8_t *planes, int64_t n, int64_t start, int64_t count, uint32_t *out);
EXPORT void cw_qs_unshuffle64(const uint8_t *planes, int64_t n, int64_t start, int64_t count, uint64_t *out);
EXPORT void cw_qs_unshuffle_to_floats(const uint8_t *planes, int64_t n, int64_t start, int64_t count, float *out);
EXPORT int64_t cw_qs_strings(const uint8_t *source, int64_t size, int64_t count, uint8_t *text, int64_t *ends,
                             uint8_t *missing, int64_t *state);

/* rds.c */
EXPORT void cw_rds_swap32(const uint8_t *source, int64_t count, uint32_t *out);
EXPORT void cw_rds_swap64(const uint8_t *source, int64_t count, uint64_t *out);
EXPORT void cw_rds_doubles_to_floats(const uint8_t *source, int64_t count, float *out);
EXPORT int64_t cw_rds_strings(const uint8_t *source, int64_t size, int64_t count, int32_t native_utf8, int32_t little,
                              uint8_t *text, int64_t *ends, uint8_t *missing, int64_t *state);
EXPORT int64_t cw_rds_skip_strings(const uint8_t *source, int64_t size, int64_t count, int32_t little, int64_t *state);

/* entries.c */
EXPORT int64_t cw_market_entries(const char *text, int64_t size, int32_t has_value, int64_t n_rows, int64_t n_columns,
                                 int64_t capacity, int32_t *rows, int32_t *columns, double *values, int64_t *used);
EXPORT int64_t cw_delimited_numbers(const char *text, int64_t size, int32_t separator, int64_t capacity, double *out,
                                    int64_t *at);
EXPORT void cw_lay_entries(const int32_t *rows, const int32_t *columns, const float *values, int64_t n, int64_t *filled,
                           int32_t *columns_out, float *values_out);

/* columns_to_rows.c */
EXPORT int64_t cw_scatter_columns(const int64_t *indptr, int64_t n_columns, int64_t start, int64_t stop,
                                  const int32_t *rows, const float *values, int64_t n_rows, const int64_t *ends,
                                  int64_t *filled, int32_t *columns_out, float *values_out);

/* normalise.c */
EXPORT int64_t cw_scale_rows(const int64_t *indptr, int64_t n_rows, double total, double *values);

#endif
