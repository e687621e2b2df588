"""Our results beside scanpy's on the same AnnData, and scanpy's getters and plots on ours."""

import inspect

import numpy as np
import pytest

import cellworker as cw

pytestmark = [
    # scanpy and what it plots with warn of their own future
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),
    pytest.mark.filterwarnings("ignore::numba.core.errors.NumbaWarning"),
]


@pytest.fixture(scope="module")
def sc():
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import matplotlib as mpl

        mpl.use("Agg")
        import scanpy
    return scanpy


@pytest.fixture
def done(adata):
    """Everything, by us."""
    cw.pp.pca(adata, 20)
    cw.pp.neighbors(adata)
    cw.tl.umap(adata)
    cw.tl.tsne(adata, perplexity=20)
    cw.tl.leiden(adata)
    cw.tl.louvain(adata)
    cw.tl.rank_genes_groups(adata, "group", pts=True)
    return adata


OURS_ALONE = {"threads"}
DIFFERENT = {  # the default is another, for the reason that the docstring gives
    "tl.leiden": {"flavor"},
    "tl.tsne": {"learning_rate"},
    "tl.louvain": {"use_weights", "partition_kwargs"},
    "tl.rank_genes_groups": {"method", "tie_correct"},
    "pp.pca": {"mask_var"},
    "pp.neighbors": {"metric", "metric_kwds"},
    "tl.umap": {"neighbors_key"},
}
NOT_OURS = {"data", "obsm"}  # not ours: an array alone, and another matrix than layers
SINCE_1_12 = {"distances", "n_components"}


@pytest.mark.parametrize(
    "name",
    [
        "pp.pca",
        "pp.neighbors",
        "tl.umap",
        "tl.tsne",
        "tl.leiden",
        "tl.louvain",
        "tl.rank_genes_groups",
        "tl.score_genes",
    ],
)
def test_arguments_are_scanpys_in_order_with_the_same_defaults(sc, name):
    room, function = name.split(".")
    theirs = inspect.signature(getattr(getattr(sc, room), function)).parameters
    mine = inspect.signature(getattr(getattr(cw, room), function)).parameters
    wanted = [key for key, one in theirs.items() if one.kind is not one.VAR_KEYWORD and key not in NOT_OURS]
    assert [key for key in wanted if key not in mine] == []
    assert set(mine) - set(wanted) - {"adata"} <= OURS_ALONE | SINCE_1_12
    positional = [key for key in wanted if theirs[key].kind is not inspect.Parameter.KEYWORD_ONLY]
    assert [key for key, one in mine.items() if one.kind is not one.KEYWORD_ONLY][-len(positional) :] == positional
    other = {key for key in wanted if mine[key].default != theirs[key].default}
    assert other <= DIFFERENT.get(name, set())


@pytest.mark.parametrize(
    "call",
    [
        lambda a: cw.pp.pca(a, 20, svd_solver="arpack", chunked=True, chunk_size=100, return_info=True),
        lambda a: cw.pp.neighbors(a, 15, 20, knn=True, transformer=None, metric_kwds={}),
        lambda a: cw.tl.umap(a, n_components=2, alpha=1, gamma=1.0, negative_sample_rate=5, method="umap"),
        lambda a: cw.tl.tsne(a, early_exaggeration=12, use_fast_tsne=True, n_jobs=2),
        lambda a: cw.tl.leiden(a, 0.5, flavor="igraph", n_iterations=2, directed=False),
        lambda a: cw.tl.louvain(a, flavor="igraph", directed=False, partition_kwargs={}),
        lambda a: cw.tl.score_genes(a, list(a.var_names[:5]), ctrl_as_ref=True, gene_pool=None),
    ],
)
def test_options_of_scanpys_that_change_nothing_here_are_taken(done, call):
    call(done)


@pytest.mark.parametrize("highly", [True, False, None])
@pytest.mark.parametrize("mask", ["chosen", None, "left out"])
def test_genes_of_components_are_those_that_scanpy_takes(adata, sc, highly, mask):
    adata.var["chosen"] = np.arange(adata.n_vars) % 3 > 0
    adata.var["highly_variable"] = np.arange(adata.n_vars) % 2 > 0
    options = {} if mask == "left out" else {"mask_var": mask}
    if highly is not None:
        if options:
            with pytest.raises(cw.WorkerError, match="use_highly_variable: give mask_var alone"):
                cw.pp.pca(adata, 5, use_highly_variable=highly, **options)
            return
        options = {"use_highly_variable": highly}
    theirs = adata.copy()
    theirs.X = theirs.X.astype(np.float64)
    cw.pp.pca(adata, 5, dtype="float64", **options)
    sc.pp.pca(theirs, 5, dtype="float64", **options)
    assert adata.obsm["X_pca"].dtype == np.float64
    np.testing.assert_allclose(adata.uns["pca"]["variance"], theirs.uns["pca"]["variance"], rtol=1e-5)
    assert adata.uns["pca"]["params"]["use_highly_variable"] == theirs.uns["pca"]["params"]["use_highly_variable"]


def test_a_map_starts_where_it_is_told_and_follows_the_curve_that_is_given(done):
    start = done.obsm["X_tsne"].copy()
    cw.tl.umap(done, init_pos="X_tsne", maxiter=1, key_added="one")
    one = done.obsm["one"]
    for d in range(2):
        assert np.corrcoef(one[:, d], start[:, d])[0, 1] > 0.9
    cw.tl.umap(done, init_pos=start, maxiter=1, key_added="same")
    assert np.array_equal(done.obsm["same"], one)
    cw.tl.umap(done, init_pos="random", key_added="random")
    assert not np.array_equal(done.obsm["random"], done.obsm["X_umap"])

    a, b = (done.uns["umap"]["params"][key] for key in "ab")
    cw.tl.umap(done, min_dist=0.01, a=a, b=b, key_added="curve")
    assert np.array_equal(done.obsm["curve"], done.obsm["X_umap"])


@pytest.mark.parametrize("mask", [None, "chosen"])
def test_principal_components_are_scanpys_with_their_signs(adata, sc, mask):
    adata.var["chosen"] = np.arange(adata.n_vars) % 3 > 0
    theirs = adata.copy()
    theirs.X = theirs.X.astype(np.float64)
    cw.pp.pca(adata, 15, mask_var=mask)
    sc.pp.pca(theirs, 15, mask_var=mask)
    largest = np.abs(theirs.obsm["X_pca"]).max()
    assert np.abs(adata.obsm["X_pca"] - theirs.obsm["X_pca"]).max() < 1e-5 * largest
    assert np.abs(adata.varm["PCs"] - theirs.varm["PCs"]).max() < 1e-5
    np.testing.assert_allclose(adata.uns["pca"]["variance"], theirs.uns["pca"]["variance"], rtol=1e-5)
    np.testing.assert_allclose(adata.uns["pca"]["variance_ratio"], theirs.uns["pca"]["variance_ratio"], rtol=1e-5)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_neighbours_and_connectivities_are_scanpys(adata, sc, metric):
    cw.pp.pca(adata, 20)
    theirs = adata.copy()
    cw.pp.neighbors(adata, 12, metric=metric)
    sc.pp.neighbors(theirs, 12, metric=metric)
    mine, other = adata.obsp["distances"], theirs.obsp["distances"]
    assert mine.nnz == other.nnz
    assert (mine != 0).multiply(other != 0).sum() >= 0.99 * other.nnz
    assert abs(mine - other).max() < 2e-3
    assert abs(adata.obsp["connectivities"] - theirs.obsp["connectivities"]).max() < 5e-3
    assert adata.uns["neighbors"]["params"] == theirs.uns["neighbors"]["params"]


@pytest.mark.parametrize("options", [{}, {"reference": "g1"}, {"groups": ["g0", "g2"]}, {"rankby_abs": True}])
@pytest.mark.parametrize("corr_method", ["benjamini-hochberg", "bonferroni"])
def test_rank_tests_are_scanpys_to_a_millionth(adata, sc, options, corr_method):
    theirs = adata.copy()
    cw.tl.rank_genes_groups(adata, "group", corr_method=corr_method, pts=True, **options)
    sc.tl.rank_genes_groups(
        theirs, "group", method="wilcoxon", tie_correct=True, corr_method=corr_method, pts=True, **options
    )
    for group in adata.uns["rank_genes_groups"]["names"].dtype.names:
        mine = sc.get.rank_genes_groups_df(adata, group)
        scores = mine["scores"].abs() if "rankby_abs" in options else mine["scores"]
        assert (scores.diff().dropna() <= 0).all()
        other = sc.get.rank_genes_groups_df(theirs, group).set_index("names")
        mine = mine.set_index("names").reindex(other.index)
        assert list(mine.columns) == list(other.columns)
        for column in other:
            np.testing.assert_allclose(mine[column], other[column], rtol=1e-6, atol=1e-6, err_msg=column)


def test_leiden_reaches_at_least_the_modularity_of_scanpys(done, sc):
    pytest.importorskip("igraph")
    theirs = done.copy()
    sc.tl.leiden(theirs, flavor="igraph", n_iterations=-1, directed=False)
    graph = sc._utils.get_igraph_from_adjacency(done.obsp["connectivities"], directed=False)
    weights = graph.es["weight"]

    def reached(labels):
        return graph.modularity(labels.cat.codes.tolist(), weights)

    assert reached(done.obs["leiden"]) >= reached(theirs.obs["leiden"]) - 1e-3
    assert reached(done.obs["louvain"]) >= reached(theirs.obs["leiden"]) - 1e-2
    assert done.uns["leiden"]["modularity"] == pytest.approx(reached(done.obs["leiden"]), abs=1e-6)


def test_maps_keep_neighbours_as_well_as_scanpys(done, sc):
    from sklearn.manifold import trustworthiness

    theirs = done.copy()
    sc.tl.umap(theirs)
    sc.tl.tsne(theirs, perplexity=20)
    for key in ("X_umap", "X_tsne"):
        mine, other = (trustworthiness(a.obsm["X_pca"], a.obsm[key], n_neighbors=15) for a in (done, theirs))
        assert mine >= other - 0.01, key


def test_scanpys_neighbours_serve_our_maps_and_clusters(adata, sc):
    cw.pp.pca(adata, 20)
    sc.pp.neighbors(adata)
    cw.tl.umap(adata)
    cw.tl.leiden(adata)
    assert np.isfinite(adata.obsm["X_umap"]).all()
    assert adata.obs["leiden"].nunique() >= 3


def test_scanpy_plots_and_computes_on_what_we_wrote(done, sc, tmp_path):
    sc.tl.diffmap(done)
    sc.tl.dendrogram(done, "group")
    cw.tl.score_genes(done, ["gene1", "gene2"])
    axes = sc.pl.umap(done, color=["leiden", "gene1", "score"], show=False)
    assert len(axes[0].collections[0].get_offsets()) == done.n_obs
    assert len(sc.pl.tsne(done, color="louvain", show=False).collections[0].get_offsets()) == done.n_obs
    assert sc.pl.pca(done, color="group", show=False) is not None
    assert sc.pl.pca_variance_ratio(done, show=False) is None
    sc.pl.pca_loadings(done, show=False)
    names = sc.pl.rank_genes_groups_dotplot(done, n_genes=2, return_fig=True).var_names
    assert set(names) <= set(done.var_names)
    sc.pl.rank_genes_groups(done, n_genes=3, show=False)
    sc.pl.rank_genes_groups_heatmap(done, n_genes=2, show=False)
    cw.tl.pseudobulk(done, "treated", sample="sample", group="yes")
    frame = sc.get.rank_genes_groups_df(done, "yes", key="pseudobulk")
    assert (frame["pvals"].diff().dropna() >= 0).all()
    assert {"names", "scores", "logfoldchanges", "pvals", "pvals_adj"} <= set(frame)
    cw.tl.trajectory(done)
    done.write_h5ad(tmp_path / "all.h5ad")
    again = cw.read(tmp_path / "all.h5ad")
    assert again.obs["leiden"].tolist() == done.obs["leiden"].tolist()
    assert sc.get.rank_genes_groups_df(again, "g0").equals(sc.get.rank_genes_groups_df(done, "g0"))
    import matplotlib.pyplot as plt

    plt.close("all")


def test_stored_tests_of_genes_are_those_of_scanpys_getter(adata, sc, tmp_path):
    sc.tl.rank_genes_groups(adata, "group", method="wilcoxon", pts=True)
    adata.write_h5ad(tmp_path / "a.h5ad")
    wanted = sc.get.rank_genes_groups_df(adata, None)
    found = cw.open_experiment(tmp_path / "a.h5ad").run("GetStoredResult", result="rank_genes_groups")
    assert list(found.columns) == list(wanted.columns)
    for name in wanted.columns:
        if wanted[name].dtype.kind == "f":
            np.testing.assert_array_equal(found[name].to_numpy(float), wanted[name].to_numpy(float))
        else:
            assert found[name].tolist() == wanted[name].astype(str).tolist()
