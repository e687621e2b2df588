"""DownloadAnnotSeuratObject: what the file holds, judged by the original's own file, by our reader and by R."""

import json
import os
import shutil
import subprocess
import tracemalloc
from pathlib import Path

import msgspec
import numpy as np
import orjson
import pytest

import goldens
from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.cell_sets import CellClass, CellSet, CellSets
from cellworker.formats.opening.open import open_experiment
from cellworker.formats.r.rds.model import RList, RStrings, RVector
from cellworker.formats.r.rds.reader import read_rds
from cellworker.settings import Settings
from cellworker.tasks import catalog
from cellworker.tasks.annotated_object import TypedClass
from cellworker.tasks.common.sent_cells import ids_of, written
from cellworker.tasks.task import Context, PrepareInput

TASK = "DownloadAnnotSeuratObject"
GOLDEN = Path(__file__).parent.parent / "fixtures" / "pbmcsmall" / "golden"
RSCRIPT = shutil.which("Rscript")
CASES = goldens.names(GOLDEN, TASK)
FAILED = [case for case in CASES if goldens.read(GOLDEN, case).get("error")]


def plain(value):
    """A column as the goldens write it."""
    if isinstance(value, RStrings):
        return ["NA" if text is None else text for text in value.tolist()]
    levels = value.attributes.get("levels")
    if levels is not None:
        return ["NA" if code < 1 else levels[code - 1] for code in value.values.tolist()]
    return [bool(x) for x in value.values] if value.kind == "logical" else value.values.tolist()


def kind(value):
    if isinstance(value, RStrings):
        return "character"
    return "factor" if "levels" in value.attributes else {"double": "numeric"}.get(value.kind, value.kind)


@pytest.fixture
def saved(answer, tmp_path):
    """Ask for the object, and read what was written."""

    def ask(experiment, request, **more):
        path = answer(experiment, TASK, request, **more)
        spool = tmp_path / f"spool-{path.name}"
        spool.mkdir()
        return path, read_rds(path, spool).root

    return ask


@pytest.mark.parametrize("case", [case for case in CASES if case not in FAILED])
def test_the_object_is_the_original_s(case, pbmcsmall, saved):
    golden = goldens.read(GOLDEN, case)
    wanted = golden["saved_object"]
    _, root = saved(pbmcsmall.experiment, golden["request"])
    table = root.slots["meta.data"]
    columns = dict(table.pairs())
    assert table.names == list(wanted["meta_data"])
    assert {name: kind(column) for name, column in columns.items()} == wanted["meta_classes"]
    for name, column in wanted["meta_data"].items():
        if isinstance(column[0], float):
            np.testing.assert_allclose(columns[name].values, column)
        else:
            assert plain(columns[name]) == column, name
    identities = root.slots["active.ident"]
    assert plain(identities) == wanted["active_ident"]
    assert list(identities.attributes["names"]) == list(table.attributes["row.names"])
    if "active_ident_levels" in wanted:
        assert list(identities.attributes["levels"]) == wanted["active_ident_levels"]
        reductions = root.slots["reductions"]
        assert reductions.names == list(wanted["reductions"])
        for name, expected in wanted["reductions"].items():
            slots = reductions.get(name).slots
            assert (slots["key"][0], slots["assay.used"][0]) == (expected["key"], expected["assay"])
            rows, names = slots["cell.embeddings"].attributes["dimnames"].items
            assert rows.tolist() == wanted["rownames"]
            assert names.tolist() == expected["colnames"]
            values = slots["cell.embeddings"].values.reshape(len(names), -1).T[: len(expected["head"])]
            np.testing.assert_allclose(values, expected["head"])
        new = golden["request"]["embeddingMethod"]
        if not golden["request"]["isObj2s"]:
            assert bool(reductions.get(new).slots["global"].values[0]) is wanted["reductions"][new]["global"]


GIVEN = next(case for case in CASES if case not in FAILED and "umap" in case)


def test_the_same_as_an_anndata_file(pbmcsmall, answer):
    anndata = pytest.importorskip("anndata")
    golden = goldens.read(GOLDEN, GIVEN)
    path = answer(pbmcsmall.experiment, TASK, {**golden["request"], "format": "h5ad"})
    assert path.suffix == ".h5ad"
    made = anndata.read_h5ad(path)
    assert made.shape == (pbmcsmall.experiment.n_cells, len(pbmcsmall.experiment.genes))
    assert made.obs_names.tolist() == golden["saved_object"]["rownames"]
    labels = golden["saved_object"]["meta_data"]["seurat_clusters"]
    assert made.obs["seurat_clusters"].astype(object).fillna("NA").tolist() == labels
    head = golden["saved_object"]["reductions"]["umap"]["head"]
    np.testing.assert_allclose(made.obsm["X_umap"][: len(head)], head, rtol=1e-6)


@pytest.mark.parametrize("form", ["rds", "h5ad"])
def test_an_anndata_experiment_is_annotated_too(form, pbmcsmall, answer, tmp_path):
    pytest.importorskip("anndata")
    golden = goldens.read(GOLDEN, GIVEN)
    source = answer(pbmcsmall.experiment, TASK, {**golden["request"], "format": "h5ad"})
    opened = open_experiment(source, Settings(store_dir=tmp_path / "stores"))
    path = answer(opened.experiment, TASK, {**golden["request"], "format": form})
    again = open_experiment(path, Settings(store_dir=tmp_path / "stores")).experiment
    assert again.barcodes == pbmcsmall.experiment.barcodes
    column = again.metadata["seurat_clusters"]
    labels = ["NA" if code < 0 else column.categories[code] for code in column.codes.tolist()]
    assert labels == golden["saved_object"]["meta_data"]["seurat_clusters"]


def test_another_kind_of_file_is_refused_with_those_that_there_are(pbmcsmall, answer):
    golden = goldens.read(GOLDEN, GIVEN)
    with pytest.raises(WorkerError, match="expected rds or h5ad, found 'loom'"):
        answer(pbmcsmall.experiment, TASK, {**golden["request"], "format": "loom"})


@pytest.mark.parametrize("case", FAILED)
def test_what_the_original_could_not_write_is_written(case, pbmcsmall, saved):
    request = goldens.read(GOLDEN, case)["request"]
    _, root = saved(pbmcsmall.experiment, request)
    table = root.slots["meta.data"]
    ids = table.get("cells_id").values.tolist()
    for child in request["cellSets"]["scratchpad"]["children"]:
        cells = set(goldens.many(child["cellIds"]))
        column = table.get(f"custom_cellset-{child['name']}").values
        assert {cell for cell, inside in zip(ids, column, strict=True) if inside} >= cells & set(ids)
    # Where the sets of a class overlap, a cell takes the name of the first.
    for item in request["cellSets"].values():
        if item["key"] == "my-class":
            first, second = item["children"]
            labels = dict(zip(ids, table.get(item["name"]), strict=True))
            assert all(labels[cell] == first["name"] for cell in first["cellIds"] if cell in labels)
            only = set(second["cellIds"]) - set(first["cellIds"])
            assert all(labels[cell] == second["name"] for cell in only if cell in labels)


def request_for(experiment, **more):
    ids = experiment.cell_ids.tolist()
    classes = {
        "louvain": {"name": "louvain", "type": "cellSets", "children": [
            {"name": "B", "cellIds": ids[:40]}, {"name": "A", "cellIds": ids[40:79]},
        ]},
        "x": {"name": "seurat_clusters", "type": "cellSets", "children": [{"name": "é", "cellIds": ids[3]}]},
        "y": {"name": "cells_id", "type": "cellSets", "children": []},
        "z": {"name": "Phase", "type": "CLM", "children": [{"name": "no", "cellIds": ids}]},
    }  # fmt: skip
    points = [None] * (max(ids) + 2)
    for cell in ids[1:]:
        points[cell] = [cell / 2, -cell]
    return {"cellSets": classes, "embedding": points, "embeddingMethod": "tsne", "isObj2s": False} | more


def test_a_new_embedding_is_added_beside_the_others_with_na_where_a_cell_has_none(pbmcsmall, saved):
    experiment = pbmcsmall.experiment
    _, root = saved(experiment, request_for(experiment))
    reductions = root.slots["reductions"]
    assert reductions.names == ["pca", "umap", "tsne"]
    values = reductions.get("tsne").slots["cell.embeddings"].values
    na = values.view(np.uint64)[[0, experiment.n_cells]]
    assert na.tolist() == [0x7FF00000000007A2] * 2
    np.testing.assert_array_equal(values.reshape(2, -1)[0, 1:], experiment.cell_ids[1:] / 2)


def test_no_class_takes_the_place_of_ids_or_clusters(pbmcsmall, saved):
    experiment = pbmcsmall.experiment
    _, root = saved(experiment, request_for(experiment, embedding=None, isObj2s=True, embeddingMethod="pca"))
    table = root.slots["meta.data"]
    assert table.get("cells_id").values.tolist() == experiment.cell_ids.tolist()
    assert table.get("samples") is not None  # no class of samples was sent, so the object keeps its own
    assert table.get("seurat_clusters").tolist() == ["B"] * 40 + ["A"] * 39 + [None]
    assert table.get("seurat_clusters.1").tolist()[2:5] == [None, "é", None]
    assert table.get("cells_id.1").tolist() == [None] * 80
    assert table.get("Phase") is None
    assert list(root.slots["active.ident"].attributes["levels"]) == ["B", "A"]


def test_the_file_is_the_same_whatever_the_threads(pbmcsmall, answer):
    request = request_for(pbmcsmall.experiment)
    assert len({answer(pbmcsmall.experiment, TASK, request, threads=n).read_bytes() for n in (1, 2)}) == 1


def test_progress_is_reported_and_a_cancelled_request_leaves_nothing(pbmcsmall, tmp_path):
    experiment = pbmcsmall.experiment
    request = decode_request(request_for(experiment))
    told = []
    catalog.find(TASK).compute(experiment, request, Context(lambda *said: told.append(said), tmp_path))
    fractions = [fraction for _, fraction in told]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0

    class Cancelled(BaseException):
        pass

    def cancel(stage, fraction=None):
        if fraction > 0.5:
            raise Cancelled

    folder = tmp_path / "cancelled"
    folder.mkdir()
    with pytest.raises(Cancelled):
        catalog.find(TASK).compute(experiment, request, Context(cancel, folder))
    assert list(folder.iterdir()) == []


def decode_request(request):
    return catalog.find(TASK).read_request(json.dumps(request).encode())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": "csv"}, "format: expected rds.*'csv'"),
        ({"embeddingMethod": "images"}, "embeddingMethod: expected umap or tsne, found 'images'"),
        ({"embedding": [["a", "b"]] * 100}, "embedding: expected two numbers.*'a'"),
        ({"embedding": [[1, 2, 3]] * 100}, "embedding: expected two numbers"),
        ({"embedding": {"x": 1}}, "embedding: expected two numbers"),
        ({"embedding": [None, []]}, "embedding: .*none of the cells"),
    ],
)
def test_mistakes_are_reported_by_field(change, said, pbmcsmall, answer):
    with pytest.raises(WorkerError, match=said) as caught:
        answer(pbmcsmall.experiment, TASK, request_for(pbmcsmall.experiment) | change)
    assert caught.value.code is ErrorCode.INVALID_INPUT


# --- the source ---


@pytest.fixture
def opened_copy(tmp_path):
    source = tmp_path / "data" / "r.rds"
    source.parent.mkdir()
    shutil.copyfile(GOLDEN.parent / "v5" / "r.rds", source)
    return source, open_experiment(source, Settings(store_dir=tmp_path / "store")).experiment


def test_a_removed_source_is_reported(opened_copy, answer):
    source, experiment = opened_copy
    source.unlink()
    with pytest.raises(WorkerError, match="not where it was") as caught:
        answer(experiment, TASK, request_for(experiment))
    assert caught.value.code is ErrorCode.EXPERIMENT_NOT_FOUND


def test_a_source_that_was_touched_is_the_same_and_one_of_other_content_is_refused(opened_copy, answer, tmp_path):
    source, experiment = opened_copy
    os.utime(source, (1, 1))
    answer(experiment, TASK, request_for(experiment)).unlink()
    content = bytearray(source.read_bytes())
    content[4] ^= 1  # the time in the header of gzip: another file, the same object
    source.write_bytes(content)
    with pytest.raises(WorkerError, match="changed since") as caught:
        answer(experiment, TASK, request_for(experiment))
    assert caught.value.code is ErrorCode.EXPERIMENT_OUT_OF_DATE
    assert list(tmp_path.glob("*.rds")) == []


def test_a_copy_of_the_source_is_used_when_it_is_missing(opened_copy, answer, tmp_path):
    source, experiment = opened_copy
    again = tmp_path / "again.rds"
    shutil.copyfile(source, again)
    open_experiment(again, Settings(store_dir=tmp_path / "store"))
    source.unlink()
    assert answer(experiment, TASK, request_for(experiment)).stat().st_size > 1000


def test_an_experiment_made_in_memory_has_no_file(pbmcsmall, answer):
    from builders import small_experiment

    experiment = small_experiment()
    with pytest.raises(WorkerError, match="made in memory"):
        answer(experiment, TASK, {"cellSets": {}, "embeddingMethod": "umap", "isObj2s": True})


# --- the gateway's half ---


def prepared(body, earlier=None):
    ids = np.array([3, 1], np.int32)
    sets = CellSets(
        [
            CellClass("louvain", "louvain clusters", "cellSets", [CellSet("louvain-0", "Cluster 0", None, ids)]),
            CellClass("sample", "Samples", "metadataCategorical", []),
        ]
    )
    task = catalog.find(TASK)
    checked = task.read_body(json.dumps({"name": TASK, **body}).encode())
    earlier_result = task.earlier(checked)
    return earlier_result and earlier_result.etag, lambda: task.prepare(PrepareInput(checked, None, sets, earlier))


def test_the_request_carries_all_classes_and_the_stored_embedding():
    from msgspec import json as msgspec_json

    wanted, prepare = prepared({"embeddingMethod": "umap", "embeddingETag": "89a5"}, b"[[1.5,2],null]")
    assert wanted == "89a5"
    request = orjson.loads(msgspec_json.encode(prepare()))
    assert request["embedding"] == [[1.5, 2], None]
    assert list(request["cellSets"]) == ["louvain", "sample"]
    assert request["cellSets"]["louvain"] == {
        "name": "louvain clusters", "type": "cellSets", "children": [{"name": "Cluster 0", "cellIds": [3, 1]}],
    }  # fmt: skip
    assert isinstance(decode_request(request).cell_sets["sample"], TypedClass)


def test_a_request_of_many_large_sets_takes_hardly_more_memory_than_its_text():
    ids = np.arange(0, 400_000, 2, dtype=np.int32)
    sets = [CellSet(f"s{i}", f"s{i}", None, ids + i % 2) for i in range(300)]
    task = catalog.find("DownloadAnnotSeuratObject")
    body = task.read_body({"name": task.name, "isObj2s": True, "embeddingMethod": "umap"})
    given = PrepareInput(body, None, CellSets([CellClass("c", "c", "cellSets", sets)]))
    tracemalloc.start()
    try:
        text = msgspec.json.encode(task.prepare(given), enc_hook=written)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1.8 * len(text)
    sent, kept = task.read_request(text), task.prepare(given)
    for number, (far, near) in enumerate(zip(sent.cell_sets["c"].children, kept.cell_sets["c"].children, strict=True)):
        for request in (far, near):  # the engine's, and that of a request that is computed here
            np.testing.assert_array_equal(ids_of(request.cell_ids), ids + number % 2)


def test_an_uploaded_object_keeps_its_embeddings():
    wanted, prepare = prepared({"embeddingMethod": "anything", "isObj2s": True, "embeddingETag": "89a5"})
    assert wanted is None
    assert bytes(prepare().embedding) == b"null"


@pytest.mark.parametrize("etag", [{}, {"embeddingETag": "89a5"}])
def test_an_embedding_that_is_not_stored_is_reported(etag):
    _, prepare = prepared({"embeddingMethod": "umap", **etag})
    with pytest.raises(WorkerError, match=r"body\.embeddingETag.*GetEmbedding"):
        prepare()


# --- R ---


@pytest.mark.skipif(RSCRIPT is None, reason="Rscript is not installed")
def test_r_finds_everything_else_identical_and_seurat_works_with_it(pbmcsmall, answer, tmp_path):
    written = answer(pbmcsmall.experiment, TASK, goldens.read(GOLDEN, f"{TASK}-umap")["request"])
    code = f"""
        pdf(NULL)
        suppressMessages(library(Matrix))
        x <- readRDS("{pbmcsmall.source}"); y <- readRDS("{written}")
        for (s in setdiff(names(attributes(x)), c("meta.data", "active.ident", "reductions")))
          if (!identical(attr(x, s), attr(y, s))) cat("differs:", s, "\\n")
        before <- attr(x, "meta.data"); after <- attr(y, "meta.data")
        for (n in setdiff(names(before), "samples"))
          if (!identical(before[[n]], after[[n]])) cat("differs: column", n, "\\n")
        stopifnot(identical(rownames(before), rownames(after)))
        stopifnot(identical(attr(x, "reductions")$pca, attr(y, "reductions")$pca))
        if (!suppressWarnings(suppressMessages(require(Seurat, quietly = TRUE)))) {{ cat("no Seurat"); quit() }}
        if (packageVersion("SeuratObject") < "5" && {str(pbmcsmall.source.parent.name == "v5").upper()}) {{
          cat("no Assay5"); quit() }}
        stopifnot(identical(Idents(y), y@active.ident), validObject(y), validObject(y@reductions$umap))
        y <- suppressWarnings(suppressMessages(UpdateSeuratObject(y)))
        print(DimPlot(y, reduction = "umap"))
        markers <- suppressWarnings(FindMarkers(y, ident.1 = "Cluster 0", verbose = FALSE))
        cat("markers", nrow(markers) > 10, "\\n")
    """
    script = tmp_path / "look.R"
    script.write_text(code)
    done = subprocess.run([RSCRIPT, "--vanilla", script], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    if done.stdout.startswith("no "):
        pytest.skip(f"R has {done.stdout}")
    assert [line for line in done.stdout.splitlines() if not line.startswith("[1]")] == ["markers TRUE "]


@pytest.mark.shared
@pytest.mark.skipif(RSCRIPT is None, reason="Rscript is not installed")
def test_r_finds_the_files_of_both_identical(shared, answer, tmp_path):
    """The original's files, kept beside its answers, and ours: every slot, where the values are not ours to choose."""
    opened = open_experiment(shared / "data/experiments/pbmcsmall/v5", Settings(store_dir=tmp_path / "store"))
    pairs = {}
    for case in ("umap", "tsne", "sctype-obj2s"):
        request = goldens.read(GOLDEN, f"{TASK}-{case}")["request"]
        pairs[shared / "golden/pbmcsmall" / f"{TASK}-{case}.rds"] = answer(opened.experiment, TASK, request)
    lines = "".join(f'same("{theirs}", "{ours}")\n' for theirs, ours in pairs.items())
    code = f"""
        suppressMessages(library(Matrix))
        same <- function(a, b) {{
          a <- readRDS(a); b <- readRDS(b)
          for (s in names(attributes(a))) if (!isTRUE(all.equal(attr(a, s), attr(b, s), tolerance = 1e-12)))
            cat(s, "\\n")
          cat("compared\\n")
        }}
        {lines}
    """
    done = subprocess.run([RSCRIPT, "--vanilla", "-e", code], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["compared"] * 3


def test_lists_and_vectors_of_the_source_come_back(pbmcsmall, saved, tmp_path):
    """Without R: our own reading of both."""
    _, after = saved(pbmcsmall.experiment, request_for(pbmcsmall.experiment))
    spool = tmp_path / "before"
    spool.mkdir()
    before = read_rds(pbmcsmall.source, spool).root
    assert list(after.slots) == list(before.slots)
    for name in set(before.slots) - {"meta.data", "active.ident", "reductions"}:
        assert same(before.slots[name], after.slots[name]), name
    for name, column in before.slots["meta.data"].pairs():
        assert same(column, after.slots["meta.data"].get(name)), name


def same(a, b):
    if type(a) is not type(b):
        return False
    if isinstance(a, RVector):
        return np.array_equal(a.values, b.values, equal_nan=a.kind == "double") and same_all(a.attributes, b.attributes)
    if isinstance(a, RStrings):
        return a.tolist() == b.tolist() and same_all(a.attributes, b.attributes)
    if isinstance(a, RList):
        return len(a) == len(b) and all(map(same, a.items, b.items)) and same_all(a.attributes, b.attributes)
    return same_all(a.slots, b.slots) if hasattr(a, "slots") else a == b


def same_all(a, b):
    return list(a) == list(b) and all(same(a[name], b[name]) for name in a)
