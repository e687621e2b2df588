"""Results that a file brought with it: what readers find of them, and what the store keeps."""

from typing import Any

import numpy as np
import pytest
from tests.formats.anndata_files import CONTAINERS, read, write
from tests.formats.seurat_drafts import draft_from_seurat

from cellworker.experiment.model import Categorical, StoredTable
from cellworker.experiment.store.store import open_store, write_store
from cellworker.formats.common.findings import Findings
from cellworker.formats.common.stored_results import ResultTables
from cellworker.formats.r.rds.build import data_frame, doubles, factor, integers, named_list, strings
from cellworker.formats.r.rds.model import RList, Skipped


def values(column: Any) -> list[Any]:
    if isinstance(column, Categorical):
        return [None if code < 0 else column.categories[code] for code in column.codes]
    return column.tolist()


def told(table: StoredTable) -> dict[str, list[Any]]:
    return {name: values(column) for name, column in table.columns.items()}


def results() -> dict[str, Any]:
    """What scanpy and others leave in uns."""
    import pandas as pd

    names = np.rec.fromarrays([["g1", "g0"], ["g2", "g1"]], dtype=[("B", object), ("T cells", object)])
    scores = np.rec.fromarrays([[2.5, -1], [9.0, 0.5]], dtype=[("B", "<f4"), ("T cells", "<f4")])
    shares = pd.DataFrame({"B": [0.1, 0.2, 0.3], "T cells": [0.4, 0.5, 0.6]}, index=["g0", "g1", "g2"])
    return {
        "rank_genes_groups": {
            "params": {"groupby": "leiden", "method": "wilcoxon", "use_raw": False},
            "names": names, "scores": scores, "pts": shares,
        },
        "markers": pd.DataFrame(
            {"score": [1.5, np.nan], "label": pd.Categorical(["a", None]), "n": [1, 2]}, index=["x", "y"]
        ),
        "pca": {"variance": np.array([3.0, 1.0]), "variance_ratio": np.array([0.75, 0.25])},
        "settings": {"resolution": 0.5, "inner": {"name": "deep", "steps": np.array([1, 2, 3])}},
        "order": np.array(["b", "a"], dtype=object),
        "leiden_colors": np.array(["#112233"], dtype=object),
        "nothing": {},
    }  # fmt: skip


@pytest.fixture(scope="module", params=["h5ad", "zarr-2", "zarr-3"])
def tables(request, tmp_path_factory) -> dict[str, StoredTable]:
    anndata = pytest.importorskip("anndata")
    import pandas as pd

    assert request.param in CONTAINERS
    adata = anndata.AnnData(np.ones((4, 3), np.float32), var=pd.DataFrame(index=["g0", "g1", "g2"]), uns=results())
    draft, findings = read(write(adata, tmp_path_factory.mktemp("uns"), request.param))
    assert draft is not None, findings.errors
    return draft.stored


def test_scanpys_tests_are_one_table_with_the_columns_of_its_getter(tables) -> None:
    found = tables["rank_genes_groups"]
    assert (found.kind, found.source) == ("tests", "uns/rank_genes_groups")
    assert told(found) == {
        "group": ["B", "B", "T cells", "T cells"], "names": ["g1", "g0", "g2", "g1"],
        "scores": [2.5, -1.0, 9.0, 0.5], "pct_nz_group": [0.2, 0.1, 0.6, 0.5],
    }  # fmt: skip
    assert found.parameters == {"groupby": "leiden", "method": "wilcoxon", "use_raw": "False"}


def test_frames_lists_and_mappings_are_tables(tables) -> None:
    score = told(tables["markers"])
    assert (score["index"], score["label"], score["n"]) == (["x", "y"], ["a", None], [1, 2])
    assert score["score"][0] == 1.5
    assert np.isnan(score["score"][1])
    assert told(tables["pca"]) == {"variance": [3.0, 1.0], "variance_ratio": [0.75, 0.25]}
    assert told(tables["order"]) == {"value": ["b", "a"]}
    assert told(tables["settings"]) == {"name": ["resolution"], "value": ["0.5"]}
    assert told(tables["settings.inner"]) == {"name": ["name"], "value": ["deep"]}
    assert told(tables["settings.inner.steps"]) == {"value": [1, 2, 3]}
    assert tables["settings.inner.steps"].source == "uns/settings/inner/steps"


def test_colours_and_empty_mappings_are_no_results(tables) -> None:
    assert not {"leiden_colors", "nothing"} & set(tables)


def test_the_store_gives_back_what_the_reader_found(tmp_path, trees) -> None:
    draft = draft_from_seurat(trees.seurat())
    columns = {
        "a/b": Categorical(np.array([0, -1, 1], np.int32), ["ä", "x" * 3000]),
        "": np.array([1.5, np.nan, np.inf]),
        "n": np.array([1, 2, 3]),
        "ok": np.array([True, False, True]),
    }
    draft.stored = {
        "one.two/three": StoredTable("uns/one/two", "table", columns, {"method": "t-test"}),
        "empty names": StoredTable("uns/x", "list", {"value": np.array([1.0])}),
    }
    write_store(draft, tmp_path / "s.h5ad", key="k")
    found = open_store(tmp_path / "s.h5ad").stored
    assert list(found) == list(draft.stored)
    for name, table in draft.stored.items():
        assert (found[name].source, found[name].kind, found[name].parameters) == (
            table.source, table.kind, table.parameters,
        )  # fmt: skip
        assert list(found[name].columns) == list(table.columns)
        assert repr(told(found[name])) == repr(told(table))


def test_misc_of_a_seurat_object(trees) -> None:
    misc = {
        "markers": data_frame(
            {"gene": strings(["CD3D", "LYZ"]), "avg_log2FC": doubles([1.5, -2.0]),
             "cluster": factor(np.array([1, 0]), ["B", "T"])}, ["r1", "r2"]
        ),
        "matrix": trees.matrix(np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), ["x", "y", "z"], ["a", "b"]),
        "list": named_list({"method": strings("wilcox"), "n": integers([3]), "genes": strings(["A", "B"])}),
        "numbers": integers([1, 2, 3]),
        "code": Skipped("closure"),
        "color_pool": strings(["#112233"]),
    }  # fmt: skip
    draft = draft_from_seurat(trees.seurat(misc=named_list(misc)))
    assert list(draft.stored) == ["markers", "matrix", "list.genes", "list", "numbers"]
    assert told(draft.stored["markers"]) == {
        "row": ["r1", "r2"], "gene": ["CD3D", "LYZ"], "avg_log2FC": [1.5, -2.0], "cluster": ["T", "B"],
    }  # fmt: skip
    assert told(draft.stored["matrix"]) == {"row": ["x", "y", "z"], "a": [1, 3, 5], "b": [2, 4, 6]}
    assert told(draft.stored["list"]) == {"name": ["method", "n"], "value": ["wilcox", "3"]}
    assert told(draft.stored["list.genes"]) == {"value": ["A", "B"]}
    assert draft.stored["markers"].source == "misc/markers"


def test_colours_of_a_seurat_object_by_name_and_by_order(trees) -> None:
    kinds = factor(np.array([0, 0, 1, 1, 0, 1]), ["B", "T"])
    named = strings(["#445566", "#112233FF"])
    named.attributes["names"] = strings(["T", "B"])
    misc = {"kind_colors": named, "other_colors": strings(["#AABBCC", "#ddeeff"]), "bad_colors": strings(["red", "x"])}
    metadata = trees.metadata(kind=kinds, other=kinds, bad=kinds)
    draft = draft_from_seurat(trees.seurat(**{"meta.data": metadata, "misc": named_list(misc)}))
    assert draft.extra["colors"] == {"kind": ["#112233", "#445566"], "other": ["#aabbcc", "#ddeeff"]}


def test_the_platforms_objects_bring_no_results(trees) -> None:
    assert draft_from_seurat(trees.platform()).stored == {}


def test_an_object_without_a_list_of_misc_has_none(trees) -> None:
    assert draft_from_seurat(trees.seurat(misc=RList([]))).stored == {}


def test_what_is_too_large_is_left_out_and_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cellworker.formats.common.stored_results._MAX_VALUES", 10)
    found, findings = ResultTables(), Findings()
    found.add("small", "uns/small", "list", {"value": np.arange(4)})
    found.add("large", "uns/large", "list", {"value": np.arange(7)})
    found.add("also small", "uns/also", "list", {"value": np.arange(6)})
    found.add("uneven", "uns/uneven", "table", {"a": np.arange(1), "b": np.arange(2)})
    found.tell(findings, "uns")
    assert list(found.tables) == ["small", "also small"]
    assert "large" in findings.fallbacks[0]


def test_a_broken_result_does_not_keep_a_file_from_opening(tmp_path) -> None:
    h5py, anndata = pytest.importorskip("h5py"), pytest.importorskip("anndata")
    import pandas as pd

    bad = pd.DataFrame({"kind": pd.Categorical(["a", "b"])}, index=["x", "y"])
    adata = anndata.AnnData(np.ones((4, 3), np.float32), uns={"good": np.array([1.0, 2.0]), "bad": bad})
    path = write(adata, tmp_path, "h5ad")
    with h5py.File(path, "a") as file:
        file["uns/bad/kind/codes"][1] = 9
    draft, findings = read(path)
    assert draft is not None
    assert list(draft.stored) == ["good"]
    assert any("bad" in sentence for sentence in findings.fallbacks)
