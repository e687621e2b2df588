"""Conversions and downloads within AnnData: what is not touched is the same, looked at with h5py and zarr."""

import json
import shutil

import h5py
import numpy as np
import orjson
import pandas as pd
import pytest
from scipy import sparse
from tests.formats.anndata_files import CONTAINERS, load, write
from tests.formats.test_anndata_reading import COUNTS, LOG, adata
from tests.formats.trees import tree

from cellworker.errors import WorkerError
from cellworker.experiment.model import Categorical
from cellworker.formats.common.provenance import decode
from cellworker.formats.convert.converting import convert, write_annotated_copy
from cellworker.formats.opening.open import open_experiment
from cellworker.settings import Settings


@pytest.fixture
def stores(tmp_path) -> Settings:
    return Settings(store_dir=tmp_path / "stores", threads=2)


def rich(counts=COUNTS):
    """An object with every kind of element that anndata writes."""
    import anndata

    made = adata(LOG, layers={"counts": counts})
    n = made.n_obs
    made.obs["ordered"] = pd.Categorical(["lo", "hi"] * 3, categories=["lo", "mid", "hi"], ordered=True)
    made.obs["numbers"] = pd.Categorical([3, 1, 2, 3, 1, 2])
    made.obs["maybe"] = pd.array([True, None, False, True, None, False], dtype="boolean")
    made.obs["whole"] = pd.array([1, None, 3, 4, 5, 2**40], dtype="Int64")
    made.obs["byte"] = np.arange(n, dtype=np.uint8)
    made.obs["single"] = np.linspace(0, 1, n, dtype=np.float32)
    made.obs["text"] = [f"t{i} \N{GREEK SMALL LETTER ALPHA}" for i in range(n)]
    made.obs["gaps"] = pd.Categorical(["a", None, "b", "a", None, "b"])
    made.var["highly_variable"] = [True, False, True, False]
    made.var["biotype"] = pd.Categorical(["coding", "lnc", "coding", "lnc"], ordered=True)
    made.varm["PCs"] = np.arange(8.0).reshape(4, 2)
    made.varm["table"] = pd.DataFrame({"a": [1, 2, 3, 4]}, index=made.var_names)
    made.obsm["X_pca"] = np.arange(2.0 * n).reshape(n, 2).astype(np.float32)
    made.obsm["frame"] = pd.DataFrame({"x": np.arange(n), "y": list("abcdef")}, index=made.obs_names)
    made.obsm["sparse"] = sparse.random(n, 9, 0.3, format="csc", random_state=np.random.default_rng(1))
    made.obsp["connectivities"] = sparse.random(n, n, 0.5, format="csr", random_state=np.random.default_rng(2))
    made.obsp["dense"] = np.arange(float(n * n)).reshape(n, n)
    made.varp["links"] = sparse.random(4, 4, 0.5, format="csc", random_state=np.random.default_rng(3))
    made.layers["spliced"] = sparse.csc_matrix(LOG * 2.0)
    made.layers["dense"] = LOG.astype(np.float64)
    made.raw = anndata.AnnData(
        sparse.csr_matrix(np.hstack([LOG, LOG]).astype(np.float32)),
        obs=made.obs[[]], var=pd.DataFrame({"k": range(8)}, index=[f"r{i}" for i in range(8)]),
    )  # fmt: skip
    names = np.array([("g1", "g2"), ("g3", "g1")], dtype=[("0", "O"), ("1", "O")])
    scores = np.array([(1.5, 2.5), (0.5, 0.25)], dtype=[("0", "f4"), ("1", "f4")])
    made.uns = {
        "rank_genes_groups": {"params": {"groupby": "ordered", "use_raw": True}, "names": names, "scores": scores},
        "ordered_colors": np.array(["#ff0000", "#00ff00", "#0000ff"]),
        "pca": {"variance": np.array([2.0, 1.0]), "params": {"n": 2}},
        "complex": np.array([1 + 2j, 3j]), "half": np.ones(3, np.float16), "word": "x", "number": 3, "truth": True,
        "none": None, "empty": {}, "cube": np.arange(24).reshape(2, 3, 4),
        "grid": np.array([["a", "b"], ["c", "d"]], object),
        "nothing": np.zeros((0, 3)), "large": np.arange(5000, dtype=np.int64), "frame": pd.DataFrame({"q": [1.5, 2.5]}),
        "matrix": sparse.csr_matrix(np.eye(3, dtype=np.int8)),
    }  # fmt: skip
    return made


def same(before, after, *, stored: bool):
    assert before.keys() == after.keys()
    for path, node in before.items():
        other = after[path]
        assert (node.kind, node.dtype, node.shape) == (other.kind, other.dtype, other.shape), path
        assert node.attrs == other.attrs, path
        assert node.values == other.values, path
        if stored:
            assert node.stored == other.stored, path


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("kind", ["h5ad", "zarr"])
def test_every_element_is_the_same_in_the_copy(tmp_path, stores, container, kind):
    source = write(rich(), tmp_path, container, "in")
    target = tmp_path / f"out.{kind}"
    report = convert(source, target, stores)
    assert report.lost == []
    assert report.renamed == []
    after = tree(target)
    if source.suffix != target.suffix:
        (record,) = decode(after[""].attrs.pop("cellworker"))  # what made the file is all that it has more
        assert (record.task, record.source) == ("convert", source.name)
    same(tree(source), after, stored=source.suffix == target.suffix)
    assert list(load(target).obs.columns) == list(load(source).obs.columns)
    if source.suffix == target.suffix == ".h5ad":
        assert target.read_bytes() == source.read_bytes()


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("kind", ["h5ad", "zarr"])
def test_additions_change_nothing_else(tmp_path, stores, container, kind):
    source = write(rich(), tmp_path, container, "in")
    opened = open_experiment(source, stores).experiment
    labels = Categorical(np.array([0, 1, 0, 1, -1, 0], np.int32), ["one", "two"])
    points = np.arange(12.0).reshape(6, 2)
    target = tmp_path / f"out.{kind}"
    columns = {"seurat_clusters": labels, "custom_cellset-T/NK": np.arange(6) > 2}
    report = write_annotated_copy(source, opened, columns, target, embedding=("umap", points))
    assert any("'custom_cellset-T/NK' is 'custom_cellset-T_NK'" in line for line in report.renamed)
    before, after = tree(source), tree(target)
    new = {path for path in after if path not in before}
    assert {path.split("/")[1] for path in new} == {"seurat_clusters", "custom_cellset-T_NK", "X_umap"}
    order = after["obs"].attrs.pop("column-order")
    assert order == [*before["obs"].attrs.pop("column-order"), "seurat_clusters", "custom_cellset-T_NK"]
    same(before, {path: node for path, node in after.items() if path not in new}, stored=source.suffix == target.suffix)
    made = load(target)
    assert list(made.obs["seurat_clusters"].cat.categories) == ["one", "two"]
    assert made.obs["seurat_clusters"].isna().tolist() == [False] * 4 + [True, False]
    np.testing.assert_array_equal(made.obsm["X_umap"], points)
    again = open_experiment(target, stores).experiment
    np.testing.assert_array_equal(again.data_by_cell.values, opened.data_by_cell.values)
    np.testing.assert_array_equal(again.counts.values, opened.counts.values)


def test_columns_replaced_by_the_cell_sets_are_reported(tmp_path, stores):
    source = write(rich(), tmp_path, "h5ad", "in")
    ids = [{"key": f"k{i}", "name": f"n{i}", "color": "#010203", "cellIds": [i]} for i in range(6)]
    sets = {"cellSets": [{"key": "x", "name": "ordered", "rootNode": True, "type": "cellSets", "children": ids}]}
    (tmp_path / "in.cell_sets.json").write_bytes(orjson.dumps(sets))
    report = convert(source, tmp_path / "out.h5ad", stores)
    assert any(line.startswith("obs/ordered") and "replaced" in line for line in report.lost)
    assert any(line.startswith("uns/ordered_colors") and "replaced" in line for line in report.lost)
    made = load(tmp_path / "out.h5ad")
    assert list(made.obs["ordered"]) == [f"n{i}" for i in range(6)]
    assert list(made.uns["ordered_colors"]) == ["#010203"] * 6


def test_labels_of_the_time_before_anndata_0_8_stay_and_get_company(tmp_path, stores):
    source = write(adata(LOG, layers={"counts": COUNTS}), tmp_path, "h5ad", "in")
    with h5py.File(source, "r+") as file:
        obs = file["obs"]
        obs.create_dataset("__categories/old", data=np.array(["p", "q"], object), dtype=h5py.string_dtype())
        obs["__categories/old"].attrs["ordered"] = False
        obs.create_dataset("old", data=np.array([0, 1, 0, 1, 1, 0], np.int8))
        obs["old"].attrs["categories"] = obs["__categories/old"].ref
        obs.attrs["encoding-version"] = "0.1.0"
        obs.attrs["column-order"] = np.array(["old"], object)
        for name in [name for name in obs if name not in {"old", "__categories", obs.attrs["_index"]}]:
            del obs[name]
    opened = open_experiment(source, stores).experiment
    labels = Categorical(np.array([0, 1, 0, 1, -1, 0], np.int32), ["one", "two"])
    for kind in ("h5ad", "zarr"):
        target = tmp_path / f"out.{kind}"
        write_annotated_copy(source, opened, {"new": labels}, target)
        again = open_experiment(target, stores).experiment
        assert again.metadata["old"].categories == ["p", "q"]
        assert again.metadata["new"].codes.tolist() == [0, 1, 0, 1, -1, 0]
    made = load(tmp_path / "out.h5ad")
    assert list(made.obs["old"]) == list("pqpqqp")
    assert list(made.obs["new"].astype(object).fillna("?")) == ["one", "two", "one", "two", "?", "one"]


def test_tables_of_thousands_of_columns_take_more(tmp_path, stores):
    made = adata(LOG, layers={"counts": COUNTS})
    source = write(made, tmp_path, "h5ad", "in")
    opened = open_experiment(source, stores).experiment
    columns = {f"column {i} with a name of some length": np.arange(6) > 2 for i in range(5000)}
    write_annotated_copy(source, opened, columns, tmp_path / "out.h5ad")
    with h5py.File(tmp_path / "out.h5ad") as file:
        assert len(file["obs"].attrs["column-order"]) == 5000 + made.obs.shape[1]


@pytest.mark.parametrize("kind", ["h5ad", "zarr"])
def test_a_source_that_changed_meanwhile_is_refused_and_nothing_stays(tmp_path, stores, kind):
    for container in ("h5ad", "zarr-2"):
        source = write(rich(), tmp_path, container, "in")
        opened = open_experiment(source, stores).experiment
        if source.is_dir():
            shutil.rmtree(source)
        write(rich(COUNTS + 1), tmp_path, container, "in")
        target = tmp_path / "made" / f"out.{kind}"
        target.parent.mkdir(exist_ok=True)
        with pytest.raises(WorkerError, match="changed since the experiment was opened"):
            write_annotated_copy(source, opened, {}, target)
        assert list(target.parent.iterdir()) == []


@pytest.mark.parametrize("container", ["h5ad", "zarr-2"])
def test_a_link_or_a_pickle_put_in_after_opening_is_not_followed(tmp_path, stores, container):
    source = write(rich(), tmp_path, container, "in")
    opened = open_experiment(source, stores).experiment
    if container == "h5ad":
        with h5py.File(source, "r+") as file:
            file["uns/evil"] = h5py.ExternalLink("/etc/passwd", "/")
    else:
        about = {"zarr_format": 2, "shape": [1], "chunks": [1], "dtype": "|O", "fill_value": None, "order": "C",
                 "compressor": None, "filters": [{"id": "pickle"}]}  # fmt: skip
        (source / "uns/evil").mkdir()
        (source / "uns/evil/.zarray").write_text(json.dumps(about))
    for kind in ("h5ad", "zarr"):
        with pytest.raises(WorkerError):
            write_annotated_copy(source, opened, {}, tmp_path / f"out.{kind}")
        assert not (tmp_path / f"out.{kind}").exists()


def test_dates_in_a_zarr_store_are_reported_where_hdf5_has_none(tmp_path, stores):
    made = rich()
    made.uns["day"] = np.array(["2024-01-05", "2023-12-31"], "M8[ns]")
    source = write(made, tmp_path, "zarr-2", "in")
    report = convert(source, tmp_path / "out.h5ad", stores)
    assert [line for line in report.lost if "uns/day" in line]
    assert convert(source, tmp_path / "out.zarr", stores).lost == []
    np.testing.assert_array_equal(load(tmp_path / "out.zarr").uns["day"], made.uns["day"])
