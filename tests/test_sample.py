"""The bundled sample: whole, small, and sound in our eyes and in R's."""

import json
import shutil
import subprocess

import numpy as np
import pytest
from tests.formats.seurat_drafts import draft_from_seurat

from cellworker.formats.r.rds.reader import read_rds
from cellworker.sample import sample_path

RSCRIPT = shutil.which("Rscript")
CELLS, GENES = 548, 9810


@pytest.fixture(scope="module")
def draft(tmp_path_factory):
    spool = tmp_path_factory.mktemp("spool")
    return draft_from_seurat(read_rds(sample_path() / "r.rds", spool).root)


@pytest.fixture(scope="module")
def classes():
    content = json.loads((sample_path() / "cell_sets.json").read_text())
    return {found["name"]: found for found in content["cellSets"]}


def test_it_is_small_enough_to_ship():
    assert sum(path.stat().st_size for path in sample_path().iterdir()) < 5_000_000


def test_it_opens_as_a_platform_experiment_without_any_fallback(draft):
    assert draft.origin.kind == "platform"
    assert draft.origin.fallbacks == []
    assert (len(draft.cell_ids), len(draft.genes)) == (CELLS, GENES)


def test_its_counts_are_whole_and_its_data_are_their_logarithms(draft):
    counts, data = draft.counts, draft.data
    np.testing.assert_array_equal(counts.values, np.rint(counts.values))
    assert counts.values.min() >= 1
    totals = np.add.reduceat(counts.values.astype(np.float64), counts.indptr[:-1])
    expected = np.log1p(counts.values / np.repeat(totals, np.diff(counts.indptr)) * 1e4)
    np.testing.assert_array_equal(data.columns, counts.columns)
    np.testing.assert_allclose(data.values, expected, rtol=1e-6)
    np.testing.assert_allclose(totals, draft.metadata["nCount_RNA"], rtol=1e-6)


def test_cell_ids_have_gaps_and_no_order(draft):
    ids = draft.cell_ids
    assert len(np.unique(ids)) == CELLS
    assert ids.max() >= CELLS
    assert (np.diff(ids) < 0).any()


def test_it_holds_what_every_task_needs(draft):
    symbols = set(draft.genes.original_names)
    assert len(draft.genes.ids) > 2064, "cell-cycle scoring draws its controls from that many genes"
    assert {"MKI67", "SMC4", "PCNA", "MCM5"} <= symbols
    assert {"CD3D", "MS4A1", "NKG7", "CD14", "LYZ"} <= symbols
    assert {"pca", "umap"} <= set(draft.reductions)
    assert draft.scaled_values.shape == (CELLS, 2000)
    assert len(draft.dispersions.dispersions) == GENES
    assert {"samples", "percent.mt", "doublet_scores", "nCount_RNA", "nFeature_RNA"} <= set(draft.metadata)
    assert len(draft.misc.color_pool) == 380


def test_most_gene_ids_are_ensembl_ids_and_no_name_is_one(draft):
    assert np.mean([gene.startswith("ENSG") for gene in draft.genes.ids]) > 0.9
    assert not any(name.startswith("ENSG") for name in draft.genes.names)


@pytest.mark.parametrize("name", ["louvain clusters", "Samples", "Group", "Cell type"])
def test_each_classification_puts_every_cell_into_one_set(draft, classes, name):
    ids = np.concatenate([child["cellIds"] for child in classes[name]["children"]])
    np.testing.assert_array_equal(np.sort(ids), np.sort(draft.cell_ids))


def test_samples_support_pseudobulk(classes):
    for group in classes["Group"]["children"]:
        members = set(group["cellIds"])
        inside = [child for child in classes["Samples"]["children"] if set(child["cellIds"]) <= members]
        assert len(inside) == 3
        assert min(len(child["cellIds"]) for child in inside) >= 50


def test_sample_names_in_the_object_are_the_keys_of_the_cell_sets(draft, classes):
    column = draft.metadata["samples"]
    names = np.array(column.categories)[column.codes]
    for child in classes["Samples"]["children"]:
        assert set(names[np.isin(draft.cell_ids, child["cellIds"])]) == {child["key"]}


@pytest.mark.skipif(RSCRIPT is None, reason="Rscript is not installed")
def test_seurat_accepts_it_and_finds_the_b_cells_markers():
    code = f"""
        if (!requireNamespace("Seurat", quietly = TRUE)) {{ cat("no Seurat"); quit() }}
        suppressMessages(library(Seurat))
        o <- readRDS("{sample_path()}/r.rds")
        invisible(validObject(o, complete = TRUE))
        Idents(o) <- o$cell_type
        m <- suppressWarnings(FindMarkers(o, "B cell", features = VariableFeatures(o)[1:300], verbose = FALSE))
        best <- o@misc$gene_annotations[rownames(m)[1:10], "name"]
        again <- NormalizeData(o, verbose = FALSE)
        cat(dim(o), all.equal(again[["RNA"]]@data, o[["RNA"]]@data), any(c("CD79A", "MS4A1", "CD79B") %in% best))
    """
    done = subprocess.run([RSCRIPT, "--vanilla", "-e", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    if done.stdout == "no Seurat":
        pytest.skip("R has no Seurat")
    assert done.stdout.split() == [str(GENES), str(CELLS), "TRUE", "TRUE"]
