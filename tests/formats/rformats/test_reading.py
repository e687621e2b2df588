"""Objects of R in every form that R gives them: the values are R's own (`tests/fixtures/rformats`)."""

import bz2
import gzip
import lzma

import numpy as np
import pytest
from tests.formats.rformats.conftest import FIXTURES, dense, plain, qs2

from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.model import Categorical
from cellworker.formats.check.checking import check_experiment
from cellworker.settings import Settings

SEURAT = ["one.rda", "version2.rda", "object.h5seurat"]
SCE = ["sce.rds", "native.rds", "delayed.rds"]


def assert_matrices(experiment, truth):
    counts, data = np.array(truth["counts"]), np.array(truth["logcounts"])
    assert experiment.barcodes == truth["cells"]
    np.testing.assert_array_equal(dense(experiment.counts, len(counts)), counts)
    np.testing.assert_array_equal(dense(experiment.data_by_cell, len(data)), data.astype(np.float32))


def assert_columns(experiment, truth):
    for name, expected in truth["columns"].items():
        column = experiment.metadata[name]
        if isinstance(column, Categorical):
            labels = [column.categories[code] if code >= 0 else None for code in column.codes.tolist()]
            told = [{True: "TRUE", False: "FALSE"}.get(value, value) for value in expected]
            assert labels == told, name
            if name in truth["levels"]:
                assert column.categories == truth["levels"][name]
        else:
            np.testing.assert_array_equal(column, [np.nan if value is None else value for value in expected], name)


@pytest.mark.parametrize("name", SEURAT)
def test_seurat_objects_of_workspaces_and_of_h5seurat_have_rs_values(opened, truth, name):
    experiment = opened(name)
    assert_matrices(experiment, truth)
    assert_columns(experiment, truth)
    assert experiment.genes.ids == truth["genes"]
    np.testing.assert_array_equal(experiment.reductions["pca"].values, truth["pca"])
    np.testing.assert_array_equal(experiment.reductions["tsne"].values, truth["tsne"])
    labels = experiment.identities
    assert [labels.categories[code] for code in labels.codes] == truth["identities"]
    assert [truth["genes"][place] for place in experiment.scaled.genes] == truth["scaled_genes"]
    np.testing.assert_array_equal(experiment.scaled.values, np.array(truth["scaled"]).T.astype(np.float32))
    assert sorted(experiment.graphs) == sorted(truth["graphs"])


@pytest.mark.parametrize("name", SCE)
def test_single_cell_experiments_have_rs_values(opened, truth, name):
    experiment = opened(name)
    assert_matrices(experiment, truth)
    assert_columns(experiment, truth)
    assert (experiment.genes.ids, experiment.genes.original_names) == (truth["ids"], truth["symbols"])
    np.testing.assert_array_equal(experiment.reductions["pca"].values, truth["pca"])
    np.testing.assert_array_equal(experiment.reductions["tsne"].values, truth["tsne"])
    assert experiment.misc.active_reduction == "pca"


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("name", ["native.rds", "sce.rds"])
def test_qs2_files_have_rs_values_in_either_byte_order(opened, truth, tmp_path, name, shuffle):
    path = tmp_path / "object.qs2"
    path.write_bytes(qs2(plain(name), block=5_001, shuffle=shuffle))
    experiment = opened(path)
    assert_matrices(experiment, truth)
    assert_columns(experiment, truth)


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_a_workspace_is_read_under_any_name_and_compression(opened, truth, tmp_path, pack):
    path = tmp_path / "anything.bin"
    path.write_bytes(pack(plain("one.rda")))
    assert_matrices(opened(path), truth)


def test_a_summarized_experiment_opens_as_far_as_it_goes(opened, truth):
    experiment = opened("se.rds")
    np.testing.assert_array_equal(dense(experiment.counts, 50), truth["counts"])
    assert_columns(experiment, truth)
    assert set(experiment.reductions) == {"pca", "umap"}, "made here, since the file has none"
    np.testing.assert_allclose(
        dense(experiment.data_by_cell, 50),
        np.log1p(np.array(truth["counts"]) / np.sum(truth["counts"], axis=0) * 1e4), rtol=1e-6,
    )  # fmt: skip


def test_assays_of_a_reference_class_are_read(opened, truth):
    assert_matrices(opened("old_se.rds"), truth)


def test_values_decide_where_the_names_of_assays_do_not(opened, truth):
    assert_matrices(opened("dense.rds"), truth)
    held = {item["matrix"]: item["used for"] for item in opened("dense.rds").extra["matrices"]}
    assert held == {"assay X": "expression and tests", "assay spliced": "comparisons of samples"}


def test_cells_and_features_without_names_take_them_from_their_tables(opened, truth):
    experiment = opened("bare.rds")
    assert (experiment.barcodes, experiment.genes.ids) == (truth["cells"], truth["genes"])
    np.testing.assert_array_equal(dense(experiment.counts, 50), truth["counts"])


def test_an_alternative_experiment_is_served_where_its_matrix_is_named(opened, truth):
    experiment = opened("sce.rds", counts="ADT/counts")
    assert experiment.genes.ids == ["CD3", "CD4", "CD8"]
    np.testing.assert_array_equal(dense(experiment.counts, 3), truth["antibodies"])


def test_named_matrices_and_samples_are_taken(opened):
    experiment = opened("dense.rds", counts="none", data="spliced", sample="letter")
    assert experiment.counts is None
    assert experiment.samples[0] == "letter"
    assert float(np.max(experiment.data_by_cell.values)) > 10


@pytest.mark.parametrize(("name", "said"), [("seurat", "meta.data"), ("sce", "colData")])
def test_an_object_is_chosen_by_its_name(opened, truth, name, said):
    experiment = opened("several.RData", object_name=name)
    assert_matrices(experiment, truth)
    assert (experiment.object_name, experiment.origin.table) == (name, said)


@pytest.mark.parametrize(
    ("file", "named", "words"),
    [
        (
            "several.RData",
            "",
            ["seurat (an object of class Seurat)", "sce (", "notes (a list of 2)", "--object seurat"],
        ),
        ("several.RData", "nobody", ["'nobody'", "seurat (an object of class Seurat)"]),
        ("several.RData", "notes", ["a list of 2", "a Seurat object"]),
        ("none.rda", "", ["no object that can be served among 2", "helper (a closure)"]),
        ("sce.rds", "sce", ["no objects by name"]),
    ],
)
def test_an_object_that_is_not_there_is_answered_with_those_that_are(opened, file, named, words):
    with pytest.raises(WorkerError) as caught:
        opened(file, object_name=named)
    for word in words:
        assert word in caught.value.message


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("on_disk.rds", ["assay counts", "another file (HDF5ArraySeed)", "as(assay(x, 'counts'), 'dgCMatrix')"]),
        ("computed.rds", ["assay counts", "yet to be computed (DelayedUnaryIsoOpStack)", "'dgCMatrix'"]),
    ],
)
def test_delayed_matrices_are_refused_in_words(opened, file, words):
    with pytest.raises(WorkerError) as caught:
        opened(file)
    assert caught.value.code is ErrorCode.EXPERIMENT_UNSUPPORTED
    for word in words:
        assert word in caught.value.message


def test_qdata_is_refused_in_words(opened, tmp_path):
    path = tmp_path / "x.qs2"
    path.write_bytes(b"\x0b\x0e\x0a\xcd" + bytes(60))
    with pytest.raises(WorkerError, match=r"qdata file of R's package qs2, which is not read; in R: .*qd_read"):
        opened(path)


def test_the_report_names_what_is_served_and_what_is_beside(tmp_path):
    report = check_experiment(FIXTURES / "sce.rds", Settings(store_dir=tmp_path, threads=1))
    assert report.contents["written by"] == "SingleCellExperiment 1.20.0"
    fields = {problem.field: problem for problem in report.problems}
    assert fields["altExps"].found == "ADT with 3 features"
    assert "--counts ADT/counts" in fields["altExps"].advice
    assert "doublet_scores" in report.contents["made here"]
