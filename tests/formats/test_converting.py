"""Converting between .rds, .h5ad and .zarr: nothing changes on the way that is not told."""

import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from tests.formats.anndata_files import load, write
from tests.formats.test_anndata_reading import COUNTS, LOG, adata

from cellworker.api.experiment import OpenExperiment
from cellworker.cli.main import main
from cellworker.errors import WorkerError
from cellworker.experiment.cell_sets import CellSets
from cellworker.experiment.model import Categorical
from cellworker.formats.common.cells.annotated_columns import annotated_columns
from cellworker.formats.convert.converting import convert, write_annotated_copy
from cellworker.formats.opening.open import open_experiment
from cellworker.settings import Settings
from cellworker.tasks.catalog import example_bodies

KINDS = ("h5ad", "zarr", "rds")


@pytest.fixture
def stores(tmp_path) -> Settings:
    return Settings(store_dir=tmp_path / "stores", threads=2)


@pytest.fixture(scope="module")
def twins(tmp_path_factory, root):
    """The same experiment in every format, converted from .rds, and once more through .h5ad."""
    folder = tmp_path_factory.mktemp("twins")
    settings = Settings(store_dir=folder / "stores", threads=2)
    source = root / "tests/fixtures/pbmcsmall/v5"
    paths = {"source": source}
    for kind in KINDS:
        paths[kind] = folder / kind / f"a.{kind}"
        paths[kind].parent.mkdir()
        convert(source, paths[kind], settings)
    paths["again"] = folder / "again.rds"
    convert(paths["h5ad"], paths["again"], settings)
    return {name: open_experiment(path, settings) for name, path in paths.items()}


def without_ids(answer: bytes) -> bytes:
    """New cell sets have random keys."""
    return re.sub(rb"[0-9a-f]{8}-[0-9a-f]{4}-1[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}", b"", answer)


def answer(opened, task, body) -> bytes:
    with OpenExperiment(opened.experiment, opened.cell_sets, opened.source) as experiment:
        try:
            return without_ids(experiment.run_raw(task, **body))
        except WorkerError as error:
            return repr(error).encode()


TASKS = [
    "GetEmbedding",
    "ListGenes",
    "DifferentialExpression",
    "BatchDifferentialExpression",
    "GeneExpression",
    "ClusterCells",
    "DotPlot",
    "GetBackgroundExpressedGenes",
    "GetDoubletScore",
    "GetMitochondrialContent",
    "GetNGenes",
    "GetNUmis",
    "MarkerHeatmap",
    "GetExpressionCellSets",
    "GetNormalizedExpression",
    "ScTypeAnnotate",
    "CellCycleScoring",
]


@pytest.mark.parametrize("task", TASKS)
def test_every_task_answers_the_same_from_every_format(twins, task):
    bodies = example_bodies(twins["source"].experiment, twins["source"].cell_sets)
    body = {name: value for name, value in bodies[task].items() if name != "name"}
    expected = answer(twins["source"], task, body)
    assert b"WorkerError" not in expected or task in {"ScTypeAnnotate", "CellCycleScoring"}
    for name, opened in twins.items():
        assert answer(opened, task, body) == expected, name


def test_a_comparison_between_samples_needs_the_counts_and_finds_them(twins):
    first = twins["source"]
    samples = [child.key for child in first.cell_sets.find_class("sample").children]
    body = {"cellSet": samples[0], "compareWith": samples[1], "basis": "all", "comparisonType": "between"}
    expected = answer(first, "DifferentialExpression", body)
    assert all(answer(opened, "DifferentialExpression", body) == expected for opened in twins.values())


@pytest.mark.parametrize("kind", ["h5ad", "zarr"])
def test_anndata_opens_what_we_write(twins, kind):
    opened = twins["source"].experiment
    made = load(twins[kind].source)
    np.testing.assert_array_equal(made.X.data, opened.data_by_cell.values)
    np.testing.assert_array_equal(made.X.indices, opened.data_by_cell.genes)
    assert made.X.indices.dtype == made.X.indptr.dtype
    np.testing.assert_array_equal(made.layers["counts"].data, opened.counts.values)
    assert made.layers["counts"].dtype == np.float32
    assert list(made.obs_names) == opened.barcodes
    assert list(made.var_names) == opened.genes.names
    assert list(made.var["gene_ids"]) == opened.genes.ids
    np.testing.assert_array_equal(made.obs["cells_id"], opened.cell_ids)
    np.testing.assert_array_equal(made.obsm["X_umap"], opened.reductions["umap"].values)
    sets = twins["source"].cell_sets
    clusters = sets.find_class("louvain")
    assert list(made.obs["seurat_clusters"].cat.categories) == [child.name for child in clusters.children]
    assert list(made.uns["seurat_clusters_colors"]) == [child.color for child in clusters.children]
    for child in clusters.children:
        inside = made.obs["cells_id"].isin(child.cell_ids)
        assert set(made.obs["seurat_clusters"][inside]) == {child.name}
    assert set(made.obs["samples"]) == {child.name for child in sets.find_class("sample").children}
    assert made.obs["custom_cellset-Custom B"].dtype == bool


@pytest.mark.parametrize("kind", ["h5ad", "zarr"])
def test_large_arrays_go_through_in_pieces(tmp_path, stores, kind):
    rng = np.random.default_rng(4)
    values = sparse.random(4000, 300, 0.3, format="csr", random_state=rng, dtype=np.float32)
    values.data = np.ceil(values.data * 300)
    import anndata

    made = anndata.AnnData(values, obs=pd.DataFrame(index=[f"c{i}" for i in range(4000)]),
                           var=pd.DataFrame(index=[f"g{i}" for i in range(300)]))  # fmt: skip
    made.obsm["X_pca"] = rng.normal(size=(4000, 70))
    source = write(made, tmp_path, "h5ad-gzip", "in")
    target = tmp_path / f"out.{kind}"
    convert(source, target, stores)
    again = load(target)
    assert (values != again.X).nnz == 0
    np.testing.assert_array_equal(again.obsm["X_pca"], made.obsm["X_pca"])


def test_the_command_reports_what_became_of_everything(tmp_path, capsys):
    made = adata(layers={"counts": COUNTS})
    made.obs["leiden"] = pd.Categorical(list("aabbab"))
    made.uns["leiden_colors"] = np.array(["#ff0000", "#00ff00"])
    made.uns["rank_genes_groups"] = {"params": {"groupby": "leiden"}}
    made.varm["PCs"] = np.ones((4, 2))
    made.obsm["X_my map"] = np.ones((6, 2))
    source, target = write(made, tmp_path, "h5ad"), tmp_path / "b.rds"
    assert main(["convert", str(source), str(target), "--quiet"]) == 0
    printed = capsys.readouterr().out
    kept, rest = printed.split("\nrenamed\n")
    renamed, lost = rest.split("\ncould not be represented\n")
    assert "6 cells and 4 genes" in kept
    assert "raw counts (12 values)" in kept
    assert "the key of my map is mymap_" in renamed
    assert "varm/PCs is misc$anndata$varm$PCs" in renamed
    assert "uns/rank_genes_groups is misc$anndata$uns$rank_genes_groups" in renamed
    assert "uns/leiden_colors is misc$anndata$uns$leiden_colors" in renamed
    assert "obs, in meta.data: leiden" in kept
    assert lost.strip() == "nothing"
    assert main(["convert", str(source), str(target), "--quiet"]) == 1
    assert "--force" in capsys.readouterr().err
    assert main(["convert", str(source), str(target), "--quiet", "--force"]) == 0


@pytest.mark.parametrize(
    ("target", "words"),
    [("a.txt", "end its name in"), ("no/such/a.h5ad", "there is no folder"), ("a.h5ad", "the experiment itself")],
)
def test_targets_that_cannot_be_are_refused_before_anything_is_read(tmp_path, stores, target, words):
    write(adata(), tmp_path, "h5ad")
    with pytest.raises(WorkerError, match=words):
        convert(tmp_path / "a.h5ad", tmp_path / target, stores, force=True)
    assert not (tmp_path / "stores").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_stopping_leaves_nothing_and_replacing_leaves_one(tmp_path, stores, kind):
    source, target = write(adata(), tmp_path, "h5ad"), tmp_path / "out" / f"b.{kind}"
    target.parent.mkdir()

    class StopError(Exception):
        pass

    def stop(stage, fraction=None):
        if stage.startswith(("writing", "copying")) and target.parent.exists():
            raise StopError

    open_experiment(source, stores)
    with pytest.raises(StopError):
        convert(source, target, stores, on_progress=stop)
    assert not list(target.parent.iterdir())
    for _ in range(2):
        convert(source, target, stores, force=True)
        assert list(target.parent.iterdir()) == [target]


def test_names_that_a_file_cannot_hold_are_changed_and_reported(tmp_path, stores):
    made = adata()
    source = write(made, tmp_path, "h5ad")
    opened = open_experiment(source, stores).experiment
    labels = Categorical(np.zeros(6, np.int32), ["x"])
    write_annotated_copy(source, opened, {"T/NK cells": labels, "..": labels}, tmp_path / "b.h5ad")
    assert {"T_NK cells", "_.."} <= set(load(tmp_path / "b.h5ad").obs.columns)


def test_overlaps_are_reported_and_columns_are_not_repeated(twins):
    experiment = twins["source"].experiment
    ids = experiment.cell_ids[:3].tolist()
    document = {"cellSets": [
        {"key": "k", "name": "mine", "rootNode": True, "type": "cellSets", "children": [
            {"key": "a", "name": "one", "color": "#000000", "cellIds": ids[:2]},
            {"key": "b", "name": "one", "color": "#000000", "cellIds": ids[1:]}]},
    ]}  # fmt: skip
    import orjson

    found = annotated_columns(experiment, CellSets.parse(orjson.dumps(document)))
    assert found.columns["mine"].codes[:4].tolist() == [0, 0, 1, -1]
    assert found.columns["mine"].categories == ["one", "one (2)"]
    assert any("1 cells are in several" in line for line in found.lost)
    again = annotated_columns(twins["h5ad"].experiment, twins["h5ad"].cell_sets)
    assert list(again.columns) == list(twins["h5ad"].experiment.metadata)


def test_an_annotated_copy_has_its_columns_and_embedding(tmp_path, twins):
    experiment = twins["source"].experiment
    points = np.arange(2.0 * experiment.n_cells).reshape(-1, 2)
    labels = Categorical((np.arange(experiment.n_cells) % 2).astype(np.int32), ["even", "odd"])
    for kind in KINDS:
        target = tmp_path / f"b.{kind}"
        source = twins["source"].source
        write_annotated_copy(
            source, experiment, {"samples": labels}, target, identities="samples", embedding=("tsne", points)
        )
        opened = open_experiment(target, Settings(store_dir=tmp_path / "stores", threads=1)).experiment
        np.testing.assert_array_equal(opened.reductions["tsne"].values, points)
        assert opened.reductions["tsne"].key == "tSNE_"
        assert opened.metadata["samples"].categories == ["even", "odd"]


R_CHECK = """
suppressMessages(library(Seurat)); quiet <- suppressWarnings
args <- commandArgs(TRUE); made <- readRDS(args[1]); first <- readRDS(args[2])
stopifnot(validObject(made)); made <- quiet(suppressMessages(UpdateSeuratObject(made)))
a <- GetAssayData(made, slot = "counts"); b <- GetAssayData(first, slot = "counts")
stopifnot(identical(a@x, b@x), identical(a@i, b@i), identical(a@p, b@p), identical(dimnames(a), dimnames(b)))
stopifnot(max(abs(GetAssayData(made, slot = "data") - GetAssayData(first, slot = "data"))) < 1e-6)
stopifnot(identical(as.vector(Embeddings(made, "umap")), as.vector(Embeddings(first, "umap"))))
stopifnot(identical(as.character(Idents(made)), as.character(Idents(first))))
Idents(made) <- "seurat_clusters"
stopifnot(nlevels(Idents(made)) == 3, is.logical(made[["custom_cellset-Custom A"]][, 1]))
pdf(NULL); print(quiet(DimPlot(made, reduction = "umap")))
markers <- quiet(FindMarkers(made, ident.1 = levels(Idents(made))[1], verbose = FALSE)); stopifnot(nrow(markers) > 10)
cat("as it should be")
"""


def has_seurat() -> bool:
    rscript = shutil.which("Rscript")
    if rscript is None:
        return False
    command = [rscript, "-e", "quit(status = !requireNamespace('Seurat', quietly = TRUE))"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_seurat_works_with_what_we_write(tmp_path, twins, root):
    if not has_seurat():
        pytest.skip("Rscript with Seurat is not on this machine")
    script = tmp_path / "check.R"
    script.write_text(R_CHECK)
    first = root / "tests/fixtures/pbmcsmall/v4/r.rds"
    # A copy is of the same version of Seurat as its source.
    copied = tmp_path / "copied.rds"
    convert(first, copied, Settings(store_dir=tmp_path / "stores", threads=1))
    for path in (copied, twins["again"].source):
        command = ["Rscript", "--vanilla", str(script), str(path), str(first)]
        found = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        assert found.stdout.endswith("as it should be"), found.stderr


def test_reading_and_writing_need_no_anndata(tmp_path):
    path = write(adata(LOG, layers={"counts": COUNTS}), tmp_path, "h5ad")
    code = (
        "import sys\nfor name in ('anndata', 'zarr', 'numcodecs', 'pandas'): sys.modules[name] = None\n"
        "from cellworker.cli.main import main\n"
        f"status = main(['convert', {str(path)!r}, {str(tmp_path / 'b.zarr')!r}, '--quiet'])\n"
        f"sys.exit(status or main(['check', {str(tmp_path / 'b.zarr')!r}]))"
    )
    environment = {**os.environ, "STORE_DIR": str(tmp_path / "stores")}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, capture_output=True)
