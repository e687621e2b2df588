"""cellworker.pp and cellworker.tl: any kind of matrix, places of results, and errors that name the argument."""

import gc
import tracemalloc

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import cellworker as cw
from cellworker import ErrorCode, WorkerError

KINDS = {
    "csr": lambda x: x,
    "csc": lambda x: x.tocsc(),
    "csr array": sparse.csr_array,
    "dense": lambda x: x.toarray(),
    "double": lambda x: x.astype(np.float64),
    "fortran": lambda x: np.asfortranarray(x.toarray()),
}


@pytest.fixture
def expected(adata):
    cw.pp.pca(adata, 8)
    cw.tl.rank_genes_groups(adata, "group")
    return adata


def same(found, expected):
    assert found.obsm["X_pca"].tolist() == pytest.approx(np.asarray(expected.obsm["X_pca"]), abs=1e-4)
    for field in ("names", "scores", "pvals"):
        assert found.uns["rank_genes_groups"][field].tolist() == expected.uns["rank_genes_groups"][field].tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_matrix_gives_the_same(expected, kind):
    other = expected.copy()
    other.X = KINDS[kind](other.X)
    cw.pp.pca(other, 8)
    cw.tl.rank_genes_groups(other, "group")
    same(other, expected)


@pytest.mark.parametrize("dense", [False, True])
def test_backed_data_are_taken(expected, tmp_path, dense):
    import anndata

    other = expected.copy()
    if dense:
        other.X = other.X.toarray()
    other.write_h5ad(tmp_path / "file.h5ad")
    backed = anndata.read_h5ad(tmp_path / "file.h5ad", backed="r")
    cw.pp.pca(backed, 8)
    cw.tl.rank_genes_groups(backed, "group")
    same(backed, expected)
    backed.file.close()


def test_a_view_gets_the_results_and_its_parent_stays_as_it_is(adata):
    columns = list(adata.obs)
    view = adata[adata.obs["group"] != "g0"]
    cw.pp.neighbors(view, 10)
    cw.tl.leiden(view)
    cw.tl.rank_genes_groups(view, "group")
    assert view.obs["leiden"].notna().all()
    assert "g0" not in view.uns["rank_genes_groups"]["names"].dtype.names
    assert list(adata.obs) == columns
    assert not adata.uns.keys() - {"log1p"}


def test_a_copy_leaves_the_original_alone(adata):
    copied = cw.pp.pca(adata, 5, copy=True)
    assert copied.obsm["X_pca"].shape == (adata.n_obs, 5)
    assert "X_pca" not in adata.obsm


def test_the_matrix_is_not_changed_and_not_copied(adata):
    from cellworker.api.anndata.lazy import chosen_anywhere

    before = adata.X.copy()
    matrix = chosen_anywhere(adata, use_raw=False)
    assert np.shares_memory(matrix.rows[2], adata.X.data)
    assert np.shares_memory(matrix.rows[1], adata.X.indices)
    cw.pp.pca(adata, 5)
    cw.tl.rank_genes_groups(adata, "group")
    cw.tl.score_genes(adata, ["gene1"])
    assert (before != adata.X).nnz == 0


def peak_mb(work):
    """What Python and NumPy hold at most while something runs, beyond what they held before."""
    work()  # imports, caches
    gc.collect()
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1] / 1e6
    finally:
        tracemalloc.stop()


@pytest.fixture(scope="module")
def wide():
    """A matrix of 10 MB beside little else."""
    from scipy import sparse

    anndata = pytest.importorskip("anndata")
    matrix = sparse.random(1500, 1500, 0.55, "csr", np.float32, random_state=0)
    made = anndata.AnnData(matrix)
    made.obs["group"] = pd.Categorical([f"g{i % 3}" for i in range(1500)])
    made.uns["log1p"] = {}
    return made


def test_memory_is_spent_on_results_not_on_copies_of_the_matrix(wide, tmp_path):
    from cellworker.api.anndata.lazy import chosen_anywhere

    size = (wide.X.data.nbytes + wide.X.indices.nbytes) / 1e6
    assert size > 9
    assert peak_mb(lambda: chosen_anywhere(wide)) < 0.1 * size
    assert peak_mb(lambda: cw.tl.score_genes(wide, ["1", "2"])) < 0.6 * size
    half = wide[::2]
    assert peak_mb(lambda: chosen_anywhere(half)) < 0.7 * size  # a view is made when it is looked at
    wide.write_h5ad(tmp_path / "wide.h5ad")
    backed = anndata_of(tmp_path / "wide.h5ad")
    try:
        assert peak_mb(lambda: chosen_anywhere(backed)) < 1.2 * size  # the matrix itself
    finally:
        backed.file.close()


def test_opening_does_not_copy_the_matrix_nor_change_what_it_is_given(wide, tmp_path):
    from cellworker.api import opening

    size = (wide.X.data.nbytes + wide.X.indices.nbytes) / 1e6
    assert peak_mb(lambda: opening._write(wide, tmp_path / "written.h5ad")) < 0.3 * size
    wide.uns["mine"] = {"kept": object()}
    try:
        opening._write(wide, tmp_path / "written.h5ad")
        assert set(wide.uns) == {"log1p", "mine"}
    finally:
        del wide.uns["mine"]
    backed = anndata_of(tmp_path / "written.h5ad")
    try:
        opening._write(backed, tmp_path / "again.h5ad")
        assert backed.isbacked
        assert "log1p" in backed.uns
    finally:
        backed.file.close()
    assert cw.read(tmp_path / "again.h5ad").shape == (1500, 1500)


def anndata_of(path):
    import anndata

    return anndata.read_h5ad(path, backed="r")


@pytest.mark.parametrize("threads", [1, 3])
def test_the_threads_change_no_bit(adata, threads):
    other = adata.copy()
    for data, count in ((adata, 2), (other, threads)):
        cw.pp.pca(data, 10, threads=count)
        cw.pp.neighbors(data, threads=count)
        cw.tl.umap(data, threads=count)
        cw.tl.tsne(data, perplexity=10, threads=count)
        cw.tl.rank_genes_groups(data, "group", threads=count)
    for key in ("X_pca", "X_umap", "X_tsne"):
        assert adata.obsm[key].tobytes() == other.obsm[key].tobytes(), key
    assert adata.uns["rank_genes_groups"]["pvals"].tobytes() == other.uns["rank_genes_groups"]["pvals"].tobytes()


def test_the_best_genes_keep_their_order_where_p_values_underflow():
    import anndata

    rng = np.random.default_rng(0)
    inside = np.arange(9000) < 4000
    genes = [np.where(inside, rng.random(9000) < share, rng.random(9000) < 0.02) for share in (0.7, 0.95, 0.8)]
    adata = anndata.AnnData(sparse.csr_matrix(np.array(genes, np.float32).T))
    adata.obs["side"] = np.where(inside, "in", "out")
    cw.tl.rank_genes_groups(adata, "side")
    assert (adata.uns["rank_genes_groups"]["pvals"]["in"] == 0).all()
    assert adata.uns["rank_genes_groups"]["names"]["in"].tolist() == ["1", "2", "0"]


def test_clusters_can_be_split_further(adata):
    cw.pp.neighbors(adata)
    cw.tl.leiden(adata, restrict_to=("group", ["g0", "g1"]), resolution=0.3)
    labels = adata.obs["leiden_R"]
    untouched = ~adata.obs["group"].isin(["g0", "g1"])
    assert (labels[untouched].astype(str) == adata.obs["group"][untouched].astype(str)).all()
    assert all(name.startswith("g0-g1,") for name in labels[~untouched].unique())


def test_scores_tell_the_cells_that_express_a_set(adata):
    cw.tl.rank_genes_groups(adata, "group")
    best = adata.uns["rank_genes_groups"]["names"]["g2"][:5].tolist()
    cw.tl.score_genes(adata, best, score_name="g2_score")
    means = adata.obs.groupby("group", observed=True)["g2_score"].mean()
    assert means.idxmax() == "g2"
    cw.tl.score_cell_cycle(adata, s_genes=best, g2m_genes=["gene1", "gene2"])
    assert set(adata.obs["phase"]) <= {"G1", "S", "G2M", "Undecided"}
    assert adata.obs["S_score"].corr(adata.obs["g2_score"]) > 0.8


def test_cell_types_are_those_of_the_markers(adata):
    cw.tl.rank_genes_groups(adata, "group")
    names = adata.uns["rank_genes_groups"]["names"]
    markers = {f"type {group}": names[group][:6].tolist() for group in ("g0", "g1", "g3")}
    cw.tl.cell_types(adata, "group", markers=markers)
    found = adata.obs.groupby("group", observed=True)["cell_type"].first()
    assert [found[group] for group in ("g0", "g1", "g3")] == ["type g0", "type g1", "type g3"]
    assert adata.uns["cell_type"]["scores"].shape == (4, 3)


def test_pseudobulk_finds_the_gene_that_a_treatment_changes(adata):
    counts = adata.layers["counts"].tolil()
    treated = np.flatnonzero(adata.obs["treated"] == "yes")
    busiest = int(np.asarray(counts.sum(axis=0)).ravel().argmax())
    counts[treated, busiest] = 4 * counts[treated, busiest].toarray() + 3
    adata.layers["counts"] = counts.tocsr()
    cw.tl.pseudobulk(adata, "treated", sample="sample", group="yes", reference="no")
    table = adata.uns["pseudobulk"]
    assert table["names"]["yes"][0] == f"gene{busiest}"
    assert table["logfoldchanges"]["yes"][0] > 1
    assert table["pvals_adj"]["yes"][0] < 0.01


def test_pseudotime_grows_from_the_root(adata):
    cw.pp.neighbors(adata)
    cw.tl.umap(adata)
    cw.tl.trajectory(adata, "umap")
    assert len(adata.uns["trajectory"]["nodes"]) > 4
    root = adata.uns["trajectory"]["cells"][0]
    cw.tl.pseudotime(adata, root_cells=root)
    assert adata.obs.loc[root, "pseudotime"] == 0
    assert adata.obs["pseudotime"].max() > 0
    by_node = adata.copy()
    cw.tl.pseudotime(by_node, 0)
    np.testing.assert_array_equal(by_node.obs["pseudotime"], adata.obs["pseudotime"])


@pytest.mark.filterwarnings("ignore::UserWarning")  # anndata tells of names that are not unique, too
@pytest.mark.parametrize(
    ("run", "says"),
    [
        (lambda a: cw.pp.pca("file.h5ad"), r"adata: expected an AnnData, found str.*cellworker\.read"),
        (lambda a: cw.pp.pca(a, 0), r"n_comps: .*from 1 to 300, found 0"),
        (lambda a: cw.pp.pca(a, 10**6), r"n_comps: .*from 1 to 300"),
        (lambda a: cw.pp.pca(a, layer="count"), r"layer: there is no 'count'.*did you mean 'counts'\?"),
        (lambda a: cw.pp.pca(a, mask_var=np.ones(3, bool)), r"mask_var: expected True or False for each of 300 genes"),
        (lambda a: cw.pp.neighbors(a, 1), r"n_neighbors: .*from 2 to 400, found 1"),
        (lambda a: cw.pp.neighbors(a, use_rep="X_pac"), r"use_rep: there is no 'X_pac'"),
        (lambda a: cw.pp.neighbors(a, metric="manhattan"), r"metric: .*'euclidean', 'cosine'"),
        (lambda a: cw.pp.neighbors(a, random_state=-1), r"random_state: .*from 0"),
        (cw.tl.umap, r"neighbors_key: .*run cellworker\.pp\.neighbors"),
        (cw.tl.leiden, r"neighbors_key: .*run cellworker\.pp\.neighbors"),
        (lambda a: cw.tl.leiden(a, adjacency=sparse.eye(3)), r"adjacency: expected a sparse matrix of 400 x 400"),
        (lambda a: cw.tl.tsne(a, perplexity=1000), r"perplexity: .*too large"),
        (lambda a: cw.tl.rank_genes_groups(a, "grup"), r"groupby: there is no 'grup'.*did you mean 'group'\?"),
        (lambda a: cw.tl.rank_genes_groups(a, "group", groups="g0"), r"groups: .*did you mean \['g0'\]\?"),
        (
            lambda a: cw.tl.rank_genes_groups(a, "group", groups=["g9"]),
            r"groups: there is no 'g9'; expected one of",
        ),
        (lambda a: cw.tl.rank_genes_groups(a, "group", reference="all"), r"reference: there is no 'all'"),
        (lambda a: cw.tl.rank_genes_groups(a, "group", method="t-test"), r"method: .*'wilcoxon'"),
        (lambda a: cw.tl.rank_genes_groups(a, "group", use_raw=True), r"use_raw: this AnnData has no raw"),
        (lambda a: cw.tl.rank_genes_groups(a, "group", threads=0), r"threads: .*from 1"),
        (lambda a: cw.tl.score_genes(a, ["MS4A1"]), r"gene_list: none of \['MS4A1'\] .*'gene0'"),
        (cw.tl.score_cell_cycle, r"s_genes: none of"),
        (
            lambda a: cw.tl.pseudobulk(a, "treated", sample="group", group="yes"),
            r"groupby: sample 'g0' has cells",
        ),
        (
            lambda a: cw.tl.pseudobulk(a, "treated", sample="sample", group="yes", layer="counted"),
            r"layer: there is no",
        ),
        (lambda a: cw.tl.pseudotime(a, 0), r"trajectory_key: .*run cellworker\.tl\.trajectory"),
        (cw.tl.trajectory, r"basis: there is no 'X_umap'"),
        (lambda a: cw.tl.cell_types(a, "group", markers={}), r"markers: expected genes by cell type"),
        (lambda a: cw.write(a, "x.loom"), r"path: expected a name that ends in \.h5ad"),
    ],
)
def test_bad_arguments_are_named_with_what_would_be_right(adata, run, says):
    with pytest.raises(WorkerError, match=says) as caught:
        run(adata)
    assert caught.value.code is ErrorCode.INVALID_INPUT


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_impossible_data_are_named(adata):
    for spoil, says in (
        (lambda a: setattr(a, "obs_names", ["same"] * a.n_obs), r"adata\.obs_names: 'same' is there twice"),
        (lambda a: setattr(a, "var_names", ["same"] * a.n_vars), r"adata\.var_names: 'same' .*var_names_make_unique"),
        (lambda a: setattr(a, "X", None), r"adata\.X: is empty; give layer"),
        (lambda a: a.X.data.__setitem__(0, np.nan), r"adata\.X: holds 1 missing"),
        (lambda a: setattr(a, "X", a.X.astype(np.complex64)), r"adata\.X: expected numbers, found complex64"),
    ):
        spoiled = adata.copy()
        spoil(spoiled)
        with pytest.raises(WorkerError, match=says):
            cw.tl.rank_genes_groups(spoiled, "group")


def test_pseudobulk_refuses_values_that_are_no_counts(adata):
    del adata.layers["counts"]
    with pytest.raises(WorkerError, match=r"layer: adata\.X holds no raw counts"):
        cw.tl.pseudobulk(adata, "treated", sample="sample", group="yes")


def shuffled(x):
    """The same cells with their genes in reverse, and each value in two parts."""
    out = x.tocoo()
    row, col, half = out.row[::-1], out.col[::-1], np.floor(out.data[::-1] / 2)
    bounds = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=x.shape[0]) * 2)])
    order = np.argsort(np.concatenate([row, row]), kind="stable")
    data = np.concatenate([half, out.data[::-1] - half])[order]
    return sparse.csr_matrix((data, np.concatenate([col, col])[order], bounds), shape=x.shape)


@pytest.mark.parametrize(
    "kind",
    [
        *KINDS.values(), *(lambda x, t=t: x.astype(t) for t in ("int8", "uint16", "int32", "int64")), shuffled,
        lambda x: x.toarray().astype(np.int32), lambda x: x.toarray().astype(np.float16),
    ],
)  # fmt: skip
def test_pseudobulk_is_the_same_for_every_kind_of_counts(adata, kind):
    other = adata.copy()
    other.layers["counts"] = kind(other.layers["counts"])
    for one in (adata, other):
        cw.tl.pseudobulk(one, "treated", sample="sample", group="yes")
    for field in ("names", "scores", "logfoldchanges", "pvals"):
        assert other.uns["pseudobulk"][field].tolist() == adata.uns["pseudobulk"][field].tolist()


@pytest.mark.parametrize("dense", [False, True])
def test_counts_that_only_double_precision_tells_apart_are_summed_exactly(adata, dense):
    """Single precision holds whole numbers up to 2^24."""
    from cellworker.api.anndata.samples import sample_sums

    counts = np.array([[2**24 + 1, 0], [2**24 + 1, 3]], np.int64)
    values = counts if dense else sparse.csr_matrix(counts)
    found = sample_sums((values, "adata.X", adata.var_names[:2]), np.zeros(2, int), 1, 1)
    assert found.tolist() == [[2**25 + 2, 3]]


def test_one_sample_a_side_is_reported_to_be_not_testable(adata):
    few = adata[adata.obs["sample"].isin(["s0", "s5"])].copy()
    with pytest.raises(WorkerError, match="one sample against one") as caught:
        cw.tl.pseudobulk(few, "treated", sample="sample", group="yes")
    assert caught.value.code is ErrorCode.DESIGN_NOT_TESTABLE


@pytest.mark.parametrize("ending", ["h5ad", "zarr", "rds"])
def test_what_is_written_is_read_again(adata, tmp_path, ending):
    pytest.importorskip("zarr" if ending == "zarr" else "h5py")
    path = cw.write(adata, tmp_path / f"file.{ending}")
    again = cw.read(path)
    assert list(again.obs_names) == list(adata.obs_names)
    np.testing.assert_allclose(again.X.toarray(), adata.X.toarray(), rtol=1e-6)
    assert (again.layers["counts"] != adata.layers["counts"]).nnz == 0
    with pytest.raises(WorkerError, match=r"path: .* is there already"):
        cw.write(adata, path)


def test_a_column_beyond_32_bits_is_damage_and_not_another_gene(adata):
    rows = adata.X.copy()
    rows.indices = rows.indices.astype(np.int64)
    rows.indices[0] += 1 << 32
    adata.X = rows
    with pytest.raises(WorkerError, match=r"adata\.X: is damaged \(it names column 4294967"):
        cw.tl.rank_genes_groups(adata, "group")
