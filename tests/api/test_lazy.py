"""Matrices that are Dask arrays, on two workers that are processes of their own: the results of one machine."""

import pickle
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cellworker as cw
from cellworker import ErrorCode, WorkerError

from .conftest import make

distributed = pytest.importorskip("distributed")
pytestmark = [
    # anndata's lazy reading is experimental, and says so
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

CELLS, GENES = 5000, 120
RANKED = ("names", "scores", "pvals", "pvals_adj", "logfoldchanges")


@pytest.fixture(scope="module")
def cluster():
    import warnings

    from distributed import Client, LocalCluster

    with (
        warnings.catch_warnings(action="ignore"),
        LocalCluster(n_workers=2, threads_per_worker=1, memory_limit="1GB", dashboard_address=None) as workers,
        Client(workers) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def whole():
    return make(CELLS, GENES)


@pytest.fixture(scope="module")
def files(whole, tmp_path_factory):
    """The same cells as files of each kind that anndata reads lazily."""
    import warnings

    import zarr

    folder = tmp_path_factory.mktemp("lazy")
    found = {}
    for kind in ("csr", "csc", "dense"):
        other = whole.copy()
        if kind == "dense":
            other.X = other.X.toarray()
        else:
            other.X = other.X.asformat(kind)
        other.write_h5ad(folder / f"{kind}.h5ad")
        found[kind] = folder / f"{kind}.h5ad"
    with warnings.catch_warnings(action="ignore"):
        whole.write_zarr(zarr.storage.LocalStore(folder / "csr.zarr"))
    found["zarr"] = folder / "csr.zarr"
    return found


@pytest.fixture
def lazily(files):
    """Open a file so that its matrices are Dask arrays."""
    from anndata import AnnData
    from anndata.experimental import read_elem_lazy
    from anndata.io import read_elem

    opened = []

    def read(kind):
        import h5py
        import zarr

        if kind == "zarr":
            file = zarr.open_group(files[kind], mode="r")
        else:
            file = h5py.File(files[kind])
            opened.append(file)
        return AnnData(
            X=read_elem_lazy(file["X"]),
            obs=read_elem(file["obs"]),
            var=read_elem(file["var"]),
            layers={"counts": read_elem_lazy(file["layers/counts"])},
        )

    yield read
    for file in opened:
        file.close()


def same_table(found, expected):
    for field in RANKED:
        assert found[field].dtype == expected[field].dtype
        assert found[field].tobytes() == expected[field].tobytes() or found[field].tolist() == expected[field].tolist()


def test_without_a_cluster_this_processs_threads_do_it(lazily, whole):
    with pytest.raises(ValueError, match="client"):  # no test before this one has started a cluster
        distributed.get_client()
    lazy = lazily("csr")
    cw.tl.rank_genes_groups(lazy, "group")
    same_table(
        lazy.uns["rank_genes_groups"],
        cw.tl.rank_genes_groups(whole, "group", copy=True).uns["rank_genes_groups"],
    )


@pytest.mark.parametrize("kind", ["csr", "csc", "dense", "zarr"])
def test_markers_are_those_of_one_machine_to_the_bit(cluster, lazily, whole, kind):
    lazy = lazily(kind)
    cw.tl.rank_genes_groups(lazy, "group", pts=True)
    expected = cw.tl.rank_genes_groups(whole, "group", pts=True, copy=True).uns["rank_genes_groups"]
    found = lazy.uns["rank_genes_groups"]
    same_table(found, expected)
    for shares in ("pts", "pts_rest"):
        assert found[shares].equals(expected[shares])


def test_two_sets_are_those_of_one_machine_to_the_bit(cluster, lazily, whole):
    lazy = lazily("csr")
    sets = {"groups": ["g1", "g3"], "reference": "g0", "pts": True}
    cw.tl.rank_genes_groups(lazy, "group", **sets)
    expected = cw.tl.rank_genes_groups(whole, "group", **sets, copy=True).uns["rank_genes_groups"]
    same_table(lazy.uns["rank_genes_groups"], expected)
    assert lazy.uns["rank_genes_groups"]["pts"].equals(expected["pts"])


def test_the_values_of_cells_that_are_in_no_set_do_not_travel(cluster, lazily, monkeypatch):
    from cellworker.api.anndata.cluster import Cluster

    monkeypatch.setattr(Cluster, "of_now", classmethod(lambda cls: cls(3_000_000, 1_000_000)))
    compute, asked = Cluster.compute, []
    monkeypatch.setattr(Cluster, "compute", staticmethod(lambda tasks: asked.append(1) or compute(tasks)))

    def passes(**sets):
        asked.clear()
        cw.tl.rank_genes_groups(lazily("csr"), "group", **sets)
        return len(asked)

    assert passes(groups=["g1"], reference="g0") < passes(groups=["g1"])


def test_a_damaged_value_of_a_cell_that_is_in_no_set_is_reported_too(cluster, lazily):
    lazy = lazily("csr")
    known = lazy.obs["group"].astype(str)
    lazy.X = lazy.X.map_blocks(_spoilt_at_the_start, dtype=np.float32)
    others = [name for name in sorted(set(known)) if name != known.iloc[0]]
    with pytest.raises(WorkerError, match=r"adata\.X: holds 1 missing values"):
        cw.tl.rank_genes_groups(lazy, "group", groups=others[:1], reference=others[1])


def test_small_blocks_in_many_waves_change_nothing(cluster, lazily, whole, monkeypatch):
    from cellworker.api.anndata import lazy as module
    from cellworker.api.anndata.cluster import Cluster

    waves = []
    compute = Cluster.compute
    monkeypatch.setattr(Cluster, "of_now", classmethod(lambda cls: cls(3_000_000, 1_000_000)))
    monkeypatch.setattr(Cluster, "compute", staticmethod(lambda tasks: waves.append(len(tasks)) or compute(tasks)))
    monkeypatch.setattr(module, "_CELLS_VALUES", 100_000)
    lazy = lazily("csr")
    cw.tl.rank_genes_groups(lazy, "group")
    same_table(
        lazy.uns["rank_genes_groups"],
        cw.tl.rank_genes_groups(whole, "group", copy=True).uns["rank_genes_groups"],
    )
    assert len(waves) > 3
    assert max(waves[1:]) > 1


def test_sums_scores_and_phases_are_those_of_one_machine_to_the_bit(cluster, lazily, whole):
    lazy, expected = lazily("csr"), whole.copy()
    for data in (lazy, expected):
        cw.tl.score_genes(data, ["gene1", "gene5", "gene9"], n_bins=5, ctrl_size=10)
        cw.tl.score_cell_cycle(data, s_genes=["gene2", "gene4"], g2m_genes=["gene8", "gene16"])
        cw.tl.pseudobulk(data, "treated", sample="sample", group="yes", reference="no")
        cw.tl.cell_types(data, "group", markers={"A": ["gene1", "gene2"], "B": ["gene7"]})
    same_table(lazy.uns["pseudobulk"], expected.uns["pseudobulk"])
    for column in ("score", "S_score", "G2M_score"):
        assert lazy.obs[column].to_numpy().tobytes() == expected.obs[column].to_numpy().tobytes()
    assert lazy.obs["phase"].tolist() == expected.obs["phase"].tolist()
    assert lazy.obs["cell_type"].tolist() == expected.obs["cell_type"].tolist()


@pytest.mark.parametrize("mask", [None, "chosen"])
def test_components_are_those_of_one_machine(cluster, lazily, whole, mask):
    lazy, expected = lazily("csr"), whole.copy()
    for data in (lazy, expected):
        data.var["chosen"] = np.arange(GENES) % 3 > 0
        cw.pp.pca(data, 10, mask_var=mask)
    largest = np.abs(expected.obsm["X_pca"]).max()
    assert np.abs(lazy.obsm["X_pca"] - expected.obsm["X_pca"]).max() < 1e-6 * largest
    np.testing.assert_allclose(lazy.uns["pca"]["variance"], expected.uns["pca"]["variance"], rtol=1e-10)
    np.testing.assert_allclose(lazy.varm["PCs"], expected.varm["PCs"], atol=1e-8)


def test_anndatas_lazy_object_is_taken_as_it_is(cluster, files, whole):
    from anndata.experimental import read_lazy

    lazy = read_lazy(files["csr"])
    try:
        cw.tl.rank_genes_groups(lazy, "group", layer="counts")
        expected = cw.tl.rank_genes_groups(whole, "group", layer="counts", copy=True)
        same_table(lazy.uns["rank_genes_groups"], expected.uns["rank_genes_groups"])
    finally:
        lazy.file.close()


def test_a_damaged_block_is_reported_in_a_sentence_from_a_worker(cluster, lazily):
    lazy = lazily("csr")
    lazy.X = lazy.X.map_blocks(_spoilt, dtype=np.float32)
    with pytest.raises(WorkerError, match=r"adata\.X: holds 1 missing values") as caught:
        cw.tl.rank_genes_groups(lazy, "group")
    assert caught.value.code == ErrorCode.INVALID_INPUT


def _spoilt_at_the_start(block, block_info=None):
    first = bool(block_info) and not any(block_info[None]["chunk-location"])
    return _spoilt(block) if first else block


def _spoilt(block):
    block = block.copy()
    block.data[0] = np.nan
    return block


def test_what_needs_the_matrix_in_memory_says_so(lazily):
    lazy = lazily("csr")
    with pytest.raises(WorkerError, match=r"adata\.X: is a Dask array.*to_memory"):
        cw.pp.neighbors(lazy, use_rep="X")


def test_a_matrix_that_comes_at_an_odd_address_is_put_right(whole):
    from cellworker.api.anndata.lazy import chosen_anywhere

    parts = []
    stream = pickle.dumps(chosen_anywhere(whole), protocol=5, buffer_callback=parts.append)
    odd = []
    for part in parts:
        room = np.empty(part.raw().nbytes + 1, np.uint8)
        room[1:] = part.raw()
        odd.append(room[1:])
    matrix = pickle.loads(stream, buffers=odd)
    code = np.zeros(CELLS, np.int32)
    assert np.array_equal(matrix.group_sums(code, 1), chosen_anywhere(whole).group_sums(code, 1))


@given(st.lists(st.integers(0, 50), min_size=1, max_size=60), st.integers(0, 120))
def test_runs_hold_everything_once_and_only_one_thing_may_exceed_a_run(sizes, most):
    from cellworker.api.anndata.lazy import cuts

    edges = cuts(np.concatenate([[0], np.cumsum(sizes)]), most)
    assert edges[0] == 0
    assert edges[-1] == len(sizes)
    assert (np.diff(edges) > 0).all()
    for a, b in pairwise(edges.tolist()):
        assert b - a == 1 or sum(sizes[a:b]) <= most
