"""SingleCellExperiment as a target and as a source: what is written is read again equal, and R reads it."""

import json
import shutil
import subprocess

import anndata
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.formats.anndata_files import write
from tests.formats.rformats.conftest import FIXTURES, dense
from tests.formats.test_copying_anndata import rich
from tests.formats.test_nothing_lost import told

from cellworker.cli.main import main
from cellworker.experiment.model import Categorical
from cellworker.formats.bioconductor.reader import read_bioconductor
from cellworker.formats.common.findings import Findings
from cellworker.formats.common.scratch import Scratch
from cellworker.formats.convert.converting import convert, write_annotated_copy
from cellworker.formats.opening.open import open_experiment
from cellworker.formats.r.rds.elements import elements_of
from cellworker.formats.seurat.h5.files import read_exactly
from cellworker.settings import Settings


def has_bioconductor() -> bool:
    command = ["Rscript", "-e", "q(status = !requireNamespace('SingleCellExperiment', quietly = TRUE))"]
    return shutil.which("Rscript") is not None and not subprocess.run(command, check=False).returncode


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Every source in every form, with the reports: converted once for all tests."""
    folder = tmp_path_factory.mktemp("made")
    stores = Settings(store_dir=folder / "stores", threads=1)
    files = {"sce": "sce.rds", "seurat": "one.rda", "h5seurat": "object.h5seurat", "old": "old_se.rds"}
    sources = {name: FIXTURES / file for name, file in files.items()} | {"anndata": write(rich(), folder, "h5ad", "in")}
    out = {}
    for name, source in sources.items():
        for ending in ("h5ad", "rds", "sce.rds"):
            target = folder / f"{name}.{ending}"
            out[name, ending] = (target, convert(source, target, stores))
    return sources, out, stores


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("object.h5seurat", ""),
        ("sce.rds", ""),
        ("old_se.rds", ""),
        ("several.RData", "seurat"),
        ("several.RData", "sce"),
    ],
)
def test_an_object_becomes_a_matrix_of_10x(file, name, truth, tmp_path):
    stores = Settings(store_dir=tmp_path / "stores", threads=1, object_name=name, make_missing=False)
    report = convert(FIXTURES / file, tmp_path / "a.h5", stores)
    assert [line for line in report.renamed if "matrix/data" in line]
    matrix = open_experiment(tmp_path / "a.h5", Settings(store_dir=tmp_path / "stores", threads=1, make_missing=False))
    np.testing.assert_array_equal(dense(matrix.experiment.counts, 50), truth["counts"])


@pytest.mark.parametrize(("target", "holds"), [("a.rds", True), ("a.h5ad", True), ("a.sce.rds", False)])
def test_what_was_made_is_in_the_report_where_it_is_in_the_target(target, holds, tmp_path):
    stores = Settings(store_dir=tmp_path / "stores", threads=1)
    report = convert(FIXTURES / "se.rds", tmp_path / target, stores)
    assert ("reductions: pca, umap" in report.kept) is holds
    without = Settings(store_dir=tmp_path / "stores", threads=1, make_missing=False)
    written = open_experiment(tmp_path / target, without)
    assert ({"pca", "umap"} <= set(written.experiment.reductions)) is holds


def tree(path, tmp_path, name=""):
    return read_exactly(path, tmp_path, lambda _done, _total: None, name).root


def spoken_of(report) -> set[str]:
    """Return the paths that a report speaks of, those at the top of the object too."""
    top = {name for line in report.kept if ": " not in line for name in line.split(", ")}
    return top | {path.removeprefix("the root/") for path in told(report)}


PAIRS = [(name, ending) for name in ("sce", "seurat", "h5seurat", "old") for ending in ("h5ad", "rds", "sce.rds")]


@pytest.mark.parametrize("pair", PAIRS, ids="-to-".join)
def test_every_element_of_the_source_is_in_the_report(made, tmp_path, pair):
    sources, out, _ = made
    name = "seurat" if pair[0] == "seurat" else ""
    root = read_exactly(sources[pair[0]], tmp_path, lambda _done, _total: None, name).root
    named = spoken_of(out[pair][1])
    lines = [*out[pair][1].kept, *out[pair][1].renamed, *out[pair][1].lost]
    missing = []
    for element in elements_of(root):
        parts = ["/".join(element.path[: n + 1]) for n in range(len(element.path))]
        if not any(part in named for part in parts):
            missing.append("/".join(element.path))
    assert missing == [], lines


@pytest.mark.parametrize("pair", [pair for pair in PAIRS if pair[0] != "old"], ids="-to-".join)
def test_experiments_are_the_same_after_conversion(made, truth, pair):
    _, out, stores = made
    experiment = open_experiment(out[pair][0], stores).experiment
    np.testing.assert_array_equal(dense(experiment.counts, 50), truth["counts"])
    np.testing.assert_array_equal(dense(experiment.data_by_cell, 50), truth["logcounts"].astype(np.float32))
    np.testing.assert_array_equal(experiment.reductions["pca"].values, truth["pca"])
    assert experiment.barcodes == truth["cells"]
    for name, expected in truth["columns"].items():
        column = experiment.metadata[name]
        if isinstance(column, Categorical) and name in truth["levels"]:
            assert [column.categories[code] for code in column.codes] == expected, name
    if pair[0] != "sce":
        labels = experiment.identities
        assert [labels.categories[code] for code in labels.codes] == truth["identities"]
        assert sorted(experiment.graphs) == sorted(truth["graphs"])
        np.testing.assert_array_equal(experiment.scaled.values, truth["scaled"].T.astype(np.float32))
    else:
        assert experiment.genes.original_names == truth["symbols"]


def test_alternative_experiments_and_metadata_stay(made, tmp_path, truth):
    _, out, _ = made
    again = tree(out["sce", "sce.rds"][0], tmp_path)
    held = again.slots["int_colData"].slots["listData"].get("altExps").slots["listData"].get("ADT").slots["se"]
    counts = held.slots["assays"].slots["data"].slots["listData"].get("counts")
    np.testing.assert_array_equal(counts.values.reshape(30, 3).T, truth["antibodies"])
    seurat = tree(out["sce", "rds"][0], tmp_path).slots["misc"].get("source")
    assert seurat.get("metadata").get("study").tolist() == ["a study"]
    data = anndata.read_h5ad(out["sce", "h5ad"][0])
    assert data.uns["bioconductor"]["metadata"]["study"].tolist() == ["a study"]


def test_columns_keep_what_r_says_of_them(made, tmp_path):
    _, out, _ = made
    for pair in (("sce", "rds"), ("seurat", "sce.rds")):
        root = tree(out[pair][0], tmp_path)
        table = root.slots.get("meta.data") or root.slots["colData"].slots["listData"]
        assert table.get("flag").kind == "logical"
        assert table.get("flag").values[:3].tolist() == [1, 0, -(2**31)]
        assert table.get("gap").values[:2].tolist() == [-(2**31), 2]


def test_a_rich_anndata_file_is_in_the_single_cell_experiment(made, tmp_path):
    _, out, _ = made
    path, report = out["anndata", "sce.rds"]
    root = tree(path, tmp_path)
    assert report.lost == []
    assert root.class_name == "SingleCellExperiment"
    columns = root.slots["colData"].slots["listData"]
    assert columns.get("ordered").attributes["class"].tolist() == ["ordered", "factor"]
    held = dict(root.slots["metadata"].pairs())["source"]
    assert "uns" in held.names
    pca = root.slots["int_colData"].slots["listData"].get("reducedDims").slots["listData"].get("PCA")
    np.testing.assert_array_equal(pca.attributes["rotation"].values, rich().varm["PCs"].ravel(order="F"))


def test_the_command_line_chooses_the_class(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("STORE_DIR", str(tmp_path / "stores"))
    target = tmp_path / "out.rds"
    assert main(["convert", str(FIXTURES / "se.rds"), str(target), "--class", "SingleCellExperiment", "--quiet"]) == 0
    assert tree(target, tmp_path).class_name == "SummarizedExperiment"  # the object as it is
    assert main(["convert", str(FIXTURES / "several.RData"), str(target), "--force", "--object", "seurat", "--quiet",
                 "--class", "SingleCellExperiment"]) == 0  # fmt: skip
    assert tree(target, tmp_path).class_name == "SingleCellExperiment"
    assert main(["convert", str(FIXTURES / "several.RData"), str(tmp_path / "x.h5ad"), "--quiet"]) != 0
    assert "--object seurat" in capsys.readouterr().err


def test_an_annotated_copy_of_a_single_cell_experiment_is_a_seurat_object(tmp_path):
    stores = Settings(store_dir=tmp_path / "stores", threads=1)
    opened = open_experiment(FIXTURES / "sce.rds", stores)
    labels = Categorical((np.arange(30) % 2).astype(np.int32), ["even", "odd"])
    target = tmp_path / "copy.rds"
    write_annotated_copy(
        opened.source, opened.experiment, {"parity": labels}, target, identities="parity",
        embedding=("umap", np.arange(60.0).reshape(30, 2)),
    )  # fmt: skip
    again = open_experiment(target, stores).experiment
    assert again.origin.family == "Seurat"
    assert again.metadata["parity"].categories == ["even", "odd"]
    np.testing.assert_array_equal(again.reductions["umap"].values[:, 0], np.arange(0.0, 60, 2))
    assert again.identities.categories == ["even", "odd"]


NAMES = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), min_size=1, max_size=4)


@given(
    counts=st.lists(st.lists(st.integers(0, 5), min_size=3, max_size=3), min_size=2, max_size=5),
    names=st.lists(NAMES, min_size=3, max_size=3, unique=True),
    numbers=st.lists(st.floats(allow_nan=False, width=64), min_size=5, max_size=5),
)  # fmt: skip
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_written_is_read_again_equal(tmp_path, counts, names, numbers):
    from cellworker.formats.bioconductor.build import single_cell_experiment
    from cellworker.formats.r.rds import build
    from cellworker.formats.r.rds.writer import write_rds

    table = np.array([*counts, [1, 2, 3]], np.float64)
    cells = [f"c{i}" for i in range(len(table))]
    rows, columns = np.nonzero(table)
    indptr = np.searchsorted(rows, np.arange(len(table) + 1)).astype(np.int32)
    matrix = build.dgc_matrix(
        indptr, columns.astype(np.int32), table[rows, columns], 3, row_names=names, column_names=cells
    )
    values = np.resize(numbers, (len(table), 2))
    root = single_cell_experiment(
        {"counts": matrix}, cells, names, columns={"n": build.doubles(values[:, 0])},
        features={"symbol": build.strings([f"S{name}" for name in names])},
        reduced={"PCA": build.matrix(values)}, metadata={},
    )  # fmt: skip
    path = tmp_path / "x.rds"
    write_rds(root, path, compression="none")
    findings = Findings()
    draft = read_bioconductor(tree(path, tmp_path), findings, Scratch(None))
    assert draft is not None, findings.errors
    assert (draft.genes.ids, draft.barcodes) == (names, cells)
    assert draft.genes.original_names == [f"S{name}" for name in names]
    np.testing.assert_array_equal(draft.counts.values, table[rows, columns])
    np.testing.assert_array_equal(draft.counts.columns, columns)
    np.testing.assert_array_equal(draft.reductions["pca"].values, values)
    np.testing.assert_array_equal(draft.metadata["n"], values[:, 0])


READ = """
suppressMessages({library(SingleCellExperiment)})
exact <- function(m) apply(unname(as.matrix(m)), 1:2, function(v) sprintf("%.17g", as.double(v)))
say <- function(path) {
x <- readRDS(path)
stopifnot(validObject(x))
y <- cbind(x[1:10, 1:4], x[1:10, 5:6]); y$extra <- 1:6; colLabels(y) <- factor(1:6); sizeFactors(y) <- rep(1, 6)
stopifnot(identical(dim(y), c(10L, 6L)))
list(class = as.character(class(x)), cells = colnames(x), genes = rownames(x), assays = assayNames(x),
  reduced = reducedDimNames(x), counts = exact(counts(x)), logcounts = exact(logcounts(x)),
  pca = exact(reducedDim(x, "PCA")),
  columns = colnames(colData(x)), groups = as.character(x$groups))
}
cat(jsonlite::toJSON(lapply(commandArgs(TRUE), say)))
"""


@pytest.mark.skipif(not has_bioconductor(), reason="needs R with SingleCellExperiment")
def test_r_reads_what_is_written(made, truth, tmp_path):
    _, out, _ = made
    names = ["sce", "seurat", "h5seurat"]
    script = tmp_path / "read.R"
    script.write_text(READ)
    done = subprocess.run(
        ["Rscript", str(script), *(str(out[name, "sce.rds"][0]) for name in names)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for name, found in zip(names, json.loads(done.stdout[done.stdout.index("[{") :]), strict=True):
        assert found["class"] == ["SingleCellExperiment"], name
        assert (found["cells"], found["assays"]) == (truth["cells"], ["counts", "logcounts"])
        assert set(found["reduced"]) == {"PCA", "TSNE"}
        np.testing.assert_array_equal(np.array(found["counts"], float), truth["counts"])
        np.testing.assert_array_equal(
            np.array(found["logcounts"], float).astype(np.float32), truth["logcounts"].astype(np.float32)
        )
        np.testing.assert_array_equal(np.array(found["pca"], float), truth["pca"])
        assert found["groups"] == truth["columns"]["groups"]
