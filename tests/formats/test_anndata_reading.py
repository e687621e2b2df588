"""Reading AnnData: every encoding that anndata writes, and the conventions of scverse."""

import warnings

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from tests.formats.anndata_files import CONTAINERS, dense, read, write

from cellworker.errors import ErrorCode
from cellworker.experiment.model import Categorical
from cellworker.experiment.packed_texts import PackedTexts
from cellworker.formats.anndata import elements
from cellworker.formats.anndata.containers import hdf5
from cellworker.formats.check.checking import check_experiment
from cellworker.formats.opening.open import locate, open_experiment
from cellworker.settings import Settings

COUNTS = np.array([[3, 0, 0, 1], [0, 4, 0, 0], [1, 0, 7, 2], [0, 0, 0, 5], [2, 2, 0, 0], [0, 1, 1, 1]], np.float32)
LOG = np.log1p(COUNTS / COUNTS.sum(axis=1, keepdims=True) * 1e4).astype(np.float32)
FORMS = {"csr": sparse.csr_matrix, "csc": sparse.csc_matrix, "dense": np.asarray}


def adata(x=LOG, **parts):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        obs = parts.pop("obs", pd.DataFrame(index=[f"cell{i}" for i in range(len(COUNTS))]))
        var = parts.pop("var", pd.DataFrame(index=["CD3D", "MS4A1", "NKG7", "MT-CO1"][: x.shape[1]]))
        return anndata.AnnData(x, obs=obs, var=var, **parts)


def wide_raw(x, names=("CD3D", "MS4A1", "NKG7", "MT-CO1")):
    return anndata.AnnData(x, var=pd.DataFrame(index=list(names)))


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("form", FORMS)
def test_every_container_and_form_gives_the_same_numbers(tmp_path, container, form):
    path = write(adata(FORMS[form](LOG), layers={"counts": FORMS[form](COUNTS)}), tmp_path, container)
    draft, findings = read(path)
    assert not findings.errors
    np.testing.assert_array_equal(dense(draft.data), LOG)
    np.testing.assert_array_equal(dense(draft.counts), COUNTS)
    assert draft.barcodes == [f"cell{i}" for i in range(6)]
    assert draft.genes.ids == ["CD3D", "MS4A1", "NKG7", "MT-CO1"]


@pytest.mark.parametrize("container", CONTAINERS)
def test_names_of_many_cells_are_packed_on_the_way(tmp_path, monkeypatch, container):
    names = ["AAAC-1", "", "ü", "日本", "x" * 300, "last"]
    path = write(adata(obs=pd.DataFrame(index=names)), tmp_path, container)
    monkeypatch.setattr(elements, "_MANY_ROWS", 5)
    monkeypatch.setattr(hdf5, "_TEXTS", 2)
    draft, findings = read(path)
    assert not findings.errors
    assert isinstance(draft.barcodes, PackedTexts)
    assert draft.barcodes == names


def test_repeated_names_of_many_cells_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.setattr(elements, "_MANY_ROWS", 5)
    path = write(adata(obs=pd.DataFrame(index=["a", "b", "a", "c", "a", "a.1"])), tmp_path, "h5ad")
    draft, findings = read(path)
    assert draft.barcodes == ["a", "b", "a.2", "c", "a.3", "a.1"]
    assert any("repeated names" in sentence for sentence in findings.fallbacks)


@settings(max_examples=20)
@given(data=st.data())
def test_any_matrix_of_any_type_comes_back(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("any")
    n, m = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 30))
    dtype = data.draw(st.sampled_from(["f4", "f8", "i4", "i8", "u2", "f2", "u1"]))
    seed = data.draw(st.integers(0, 2**32 - 1))
    values = np.random.default_rng(seed).poisson(0.7, (n, m)).astype(dtype)
    form = data.draw(st.sampled_from([name for name in FORMS if dtype != "f2" or name == "dense"]))
    container = data.draw(st.sampled_from(CONTAINERS))
    made = anndata.AnnData(FORMS[form](values), obs=pd.DataFrame(index=[f"c{i}" for i in range(n)]),
                           var=pd.DataFrame(index=[f"g{i}" for i in range(m)]))  # fmt: skip
    draft, findings = read(write(made, folder, container))
    assert not findings.errors
    np.testing.assert_array_equal(dense(draft.counts), values.astype(np.float32))


def test_arrays_of_several_pieces_are_read_in_order_and_spooled(tmp_path):
    rng = np.random.default_rng(3)
    values = sparse.random(3000, 400, 0.1, format="csc", random_state=rng, dtype=np.float64)
    values.data = np.ceil(values.data * 9)
    made = anndata.AnnData(values, obs=pd.DataFrame(index=[f"c{i}" for i in range(3000)]),
                           var=pd.DataFrame(index=[f"g{i}" for i in range(400)]))  # fmt: skip
    for container in ("h5ad-gzip", "zarr-2", "zarr-3"):
        draft, _ = read(write(made, tmp_path, container, container), scratch=tmp_path)
        np.testing.assert_array_equal(dense(draft.counts), values.toarray().astype(np.float32))


def test_shuffled_gzip_is_read_as_hdf5_reads_it(tmp_path):
    path = write(adata(sparse.csr_matrix(LOG)), tmp_path, "h5ad")
    with h5py.File(path, "a") as file:
        for name, options in (("data", {"shuffle": True, "compression": "gzip"}), ("indices", {"fletcher32": True})):
            values = file[f"X/{name}"][:]
            del file[f"X/{name}"]
            file["X"].create_dataset(name, data=values, chunks=(4,), **options)
    np.testing.assert_array_equal(dense(read(path)[0].data), LOG)


@pytest.mark.parametrize("container", ["h5ad", "zarr-2", "zarr-3"])
def test_every_kind_of_column(tmp_path, container):
    obs = pd.DataFrame(
        {
            "plain": np.arange(6), "number": np.linspace(0, 1, 6).astype("f4"), "flag": [True, False] * 3,
            "labels": pd.Categorical(["b", "a", None, "b", "a", "c"], categories=["c", "b", "a"]),
            "years": pd.Categorical([2020, 2021, 2020, 2021, 2020, 2021]),
            "text": ["x", "y", "x", "y", "x", "z"],
            "gaps": pd.array([1, None, 3, 4, 5, 6], dtype="Int32"),
            "maybe": pd.array([True, None, False] * 2, dtype="boolean"),
        },
        index=[f"cell{i}" for i in range(6)],
    )  # fmt: skip
    draft, findings = read(write(adata(obs=obs), tmp_path, container))
    assert not findings.errors
    columns = draft.metadata
    assert columns["plain"].dtype == np.int64
    assert columns["plain"].tolist() == list(range(6))
    np.testing.assert_array_equal(columns["number"], obs["number"].to_numpy(np.float64))
    assert columns["flag"].tolist() == [True, False] * 3
    assert columns["labels"].categories == ["c", "b", "a"]
    assert columns["labels"].codes.tolist() == [1, 2, -1, 1, 2, 0]
    assert columns["years"].categories == ["2020", "2021"]
    # anndata stores repeated text as a categorical, unrepeated as text; either way the labels are these.
    text = columns["text"]
    assert [text.categories[code] for code in text.codes] == ["x", "y", "x", "y", "x", "z"]
    np.testing.assert_array_equal(columns["gaps"], [1, np.nan, 3, 4, 5, 6])
    assert columns["maybe"].codes.tolist() == [1, -1, 0, 1, -1, 0]


def test_categoricals_as_anndata_0_7_wrote_them(tmp_path):
    path = write(adata(), tmp_path, "h5ad")
    with h5py.File(path, "a") as file:
        obs = file["obs"]
        obs.create_group("__categories").create_dataset("leiden", data=["0", "1"], dtype=h5py.string_dtype())
        codes = obs.create_dataset("leiden", data=np.array([0, 1, -1, 0, 0, 1], np.int8))
        codes.attrs["categories"] = obs["__categories/leiden"].ref
        obs.attrs["column-order"] = ["leiden"]
        obs.attrs["encoding-version"] = "0.1.0"
    column = read(path)[0].metadata["leiden"]
    assert isinstance(column, Categorical)
    assert (column.categories, column.codes.tolist()) == (["0", "1"], [0, 1, -1, 0, 0, 1])


def test_counts_alone_are_normalised_and_that_is_reported(tmp_path):
    draft, findings = read(write(adata(sparse.csr_matrix(COUNTS)), tmp_path, "h5ad"))
    np.testing.assert_allclose(dense(draft.data), LOG, rtol=1e-6)
    np.testing.assert_array_equal(dense(draft.counts), COUNTS)
    assert any("10,000 per cell" in problem.advice for problem in findings.problems)


def test_counts_in_raw_serve_the_genes_of_x_in_its_order(tmp_path):
    made = adata(LOG[:, [2, 0]], var=pd.DataFrame(index=["NKG7", "CD3D"]))
    made.raw = wide_raw(COUNTS)
    draft, _ = read(write(made, tmp_path, "h5ad"))
    assert draft.genes.ids == ["NKG7", "CD3D"]
    np.testing.assert_array_equal(dense(draft.counts), COUNTS[:, [2, 0]])


def test_raw_is_served_instead_of_scaled_x_which_is_kept(tmp_path):
    scaled = (LOG - LOG.mean(0))[:, [3, 1]]
    made = adata(scaled, var=pd.DataFrame(index=["MT-CO1", "MS4A1"]))
    made.raw = wide_raw(LOG)
    draft, findings = read(write(made, tmp_path, "h5ad"))
    np.testing.assert_array_equal(dense(draft.data), LOG)
    assert draft.scaled_genes.tolist() == [3, 1]
    np.testing.assert_array_equal(draft.scaled_values, scaled)
    assert draft.counts is None
    assert any(problem.severity == "warning" and problem.field == "counts" for problem in findings.problems)


def test_normalised_values_without_logarithm_are_logged(tmp_path):
    linear = COUNTS / COUNTS.sum(axis=1, keepdims=True) * 1e4 + np.where(COUNTS > 0, 0.25, 0)
    draft, findings = read(write(adata(linear), tmp_path, "h5ad"))
    np.testing.assert_allclose(dense(draft.data), np.log1p(linear), rtol=1e-6)
    assert any("log1p" in problem.advice for problem in findings.problems)


def test_ids_and_symbols_are_distinguished(tmp_path):
    ids = ["ENSG00000000001", "ENSG00000000002", "ENSG00000000003", "ENSG00000000004"]
    symbols = ["CD3D", "TBCE", "TBCE", ""]
    by_id = adata(var=pd.DataFrame({"feature_name": symbols}, index=ids))
    genes = read(write(by_id, tmp_path, "h5ad", "ids"))[0].genes
    assert genes.ids == ids
    assert genes.names == ["CD3D", "TBCE - ENSG00000000002", "TBCE - ENSG00000000003", "ENSG00000000004"]
    assert genes.original_names == symbols
    by_symbol = adata(var=pd.DataFrame({"gene_ids": ids}, index=["CD3D", "MS4A1", "NKG7", "LYZ"]))
    genes = read(write(by_symbol, tmp_path, "h5ad", "symbols"))[0].genes
    assert (genes.ids, genes.names) == (ids, ["CD3D", "MS4A1", "NKG7", "LYZ"])


def test_what_scanpy_leaves_is_found(tmp_path):
    made = adata(layers={"counts": COUNTS})
    made.obs["leiden"] = pd.Categorical(["0", "1", "0", "1", "0", "1"])
    made.obs["batch"] = pd.Categorical(["a", "a", "a", "b", "b", "b"])
    made.obs["pct_counts_mt"] = np.arange(6.0)
    made.uns["leiden_colors"] = np.array(["#ff0000", "#00FF00"])
    made.uns["neighbors"] = {"params": {"use_rep": "X_harmony"}}
    for name, width in (("X_pca", 3), ("X_umap", 2), ("X_harmony", 2), ("spatial", 2)):
        made.obsm[name] = np.arange(6.0 * width).reshape(6, width)
    made.obsp["connectivities"] = sparse.csr_matrix(np.eye(6))
    made.var["dispersions_norm"] = [0.5, np.nan, 2.0, -1.0]
    made.varm["PCs"] = np.ones((4, 3))
    path = write(made, tmp_path, "h5ad")
    draft, _ = read(path)
    assert set(draft.reductions) == {"pca", "umap", "harmony", "spatial"}
    assert draft.reductions["umap"].key == "UMAP_"
    assert draft.misc.active_reduction == "harmony"
    assert draft.misc.default_reduction == "umap"
    assert draft.metadata["samples"].categories == ["a", "b"]
    assert draft.metadata["percent.mt"].tolist() == list(range(6))
    assert draft.metadata["nCount_RNA"].tolist() == COUNTS.sum(axis=1).tolist()
    assert draft.dispersions.dispersions.tolist() == [0.5, -1.0, 2.0, -1.0]
    assert "connectivities" in draft.graphs
    assert draft.extra["used"] == {"frame": "var", "data": "X", "counts": "layers/counts"}
    opened = open_experiment(path, Settings(store_dir=tmp_path / "stores", threads=1))
    clusters = opened.cell_sets.find_class("leiden")
    assert [(child.name, child.color) for child in clusters.children] == [
        ("Cluster 0", "#ff0000"), ("Cluster 1", "#00ff00")
    ]  # fmt: skip


def test_mitochondrial_share_is_computed_and_fractions_become_percent(tmp_path):
    draft, _ = read(write(adata(COUNTS), tmp_path, "h5ad", "a"))
    np.testing.assert_allclose(draft.metadata["percent.mt"], 100 * COUNTS[:, 3] / COUNTS.sum(axis=1))
    made = adata()
    made.obs["percent_mito"] = np.linspace(0, 0.5, 6)
    draft, _ = read(write(made, tmp_path, "h5ad", "b"))
    np.testing.assert_allclose(draft.metadata["percent.mt"], np.linspace(0, 50, 6))


def test_everything_that_is_missing_is_reported_at_once(tmp_path):
    made = adata(LOG - 3)
    made.obs["cells_id"] = [0, 1, 2, 3, 4, 4]
    path = write(made, tmp_path, "h5ad")
    report = check_experiment(path, Settings(store_dir=tmp_path / "stores", threads=1))
    assert report.status == 1
    errors = {problem.field: problem for problem in report.problems if problem.severity == "error"}
    assert set(errors) == {"X", "obs cells_id"}
    assert "X (scaled values)" in errors["X"].found
    assert "layers['counts']" in errors["X"].advice
    assert any(problem.field == "obsm" for problem in report.problems)


def test_a_file_without_obs_and_var_is_refused_with_what_to_do(tmp_path):
    path = tmp_path / "a.h5ad"
    with h5py.File(path, "w") as file:
        file.create_group("obs")
    draft, findings = read(path)
    assert draft is None
    assert findings.errors[0].code == ErrorCode.EXPERIMENT_UNSUPPORTED
    assert "write_h5ad" in findings.errors[0].advice


def test_a_store_of_cellworker_is_an_experiment_itself(tmp_path, root):
    settings = Settings(store_dir=tmp_path / "stores", threads=1)
    first = open_experiment(root / "tests/fixtures/pbmcsmall/v5", settings)
    again = open_experiment(first.store, Settings(store_dir=tmp_path / "others", threads=1)).experiment
    np.testing.assert_array_equal(again.data.values, first.experiment.data.values)
    np.testing.assert_array_equal(again.cell_ids, first.experiment.cell_ids)
    assert again.genes == first.experiment.genes
    assert set(again.reductions) == set(first.experiment.reductions)


def test_a_zarr_store_that_changes_is_read_again(tmp_path):
    settings = Settings(store_dir=tmp_path / "stores", threads=1)
    path = write(adata(), tmp_path, "zarr-2")
    first = open_experiment(path, settings)
    assert open_experiment(path, settings).store == first.store
    made = adata()
    made.obs["leiden"] = pd.Categorical(list("abcabc"))
    import shutil

    shutil.rmtree(path)
    write(made, tmp_path, "zarr-2")
    second = open_experiment(path, settings)
    assert second.store != first.store
    assert "leiden" in second.experiment.metadata


def test_a_folder_with_one_anndata_file_is_found_and_an_rds_goes_first(tmp_path):
    for container in ("h5ad", "zarr-2"):
        folder = tmp_path / container
        folder.mkdir()
        path = write(adata(), folder, container)
        (folder / "a.cell_sets.json").write_text('{"cellSets": []}')
        assert locate(folder).source == path
        assert locate(path).cell_sets == folder / "a.cell_sets.json"
        (folder / "r.rds").touch()
        assert locate(folder).source == folder / "r.rds"
