"""cellworker in a notebook."""

import gzip
import json
import sys
from pathlib import Path

import numpy as np
import pytest

import cellworker
from cellworker import ErrorCode, OpenExperiment, WorkerError
from cellworker.settings import Settings

PBMCSMALL = Path(__file__).parent / "fixtures" / "pbmcsmall" / "v5"


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    with cellworker.open_experiment(PBMCSMALL, Settings(store_dir=tmp_path_factory.mktemp("store"))) as opened:
        yield opened


def test_an_experiment_reports_in_one_line_what_it_is(experiment):
    assert isinstance(experiment, OpenExperiment)
    assert repr(experiment) == "<Experiment r.rds: 80 cells x 230 genes, 10 cell sets in 4 classes>"


def test_one_table_is_a_data_frame(experiment):
    frame = experiment.run("ListGenes", orderBy="dispersions", orderDirection="DESC", offset=0, limit=3)
    assert list(frame.columns) == ["gene_names", "dispersions"]
    assert frame["gene_names"].tolist() == ["PPBP", "IGLL5", "VDAC3"]


def test_several_tables_are_data_frames_by_name(experiment):
    frames = experiment.run("GeneExpression", genes=["PPBP", "IGLL5"])
    assert list(frames) == ["genes", "expression"]
    assert frames["genes"]["gene"].tolist() == ["IGLL5", "PPBP"]
    assert frames["expression"].groupby("gene").size().to_dict() == {"IGLL5": 3, "PPBP": 13}


def test_plain_python_is_what_the_platform_gets(experiment):
    result = experiment.call("ListGenes", limit=1)
    assert set(result) == {"total", "gene_names", "dispersions"}
    assert result["total"] == 230
    assert json.loads(experiment.run_raw("ListGenes", limit=1)) == result


def test_arrays_are_taken_where_lists_are_wanted(experiment):
    settings = {"cellIds": np.array([48, 64])}
    result = experiment.call("GeneExpression", genes=np.array(["PPBP"]).tolist(), downsampleSettings=settings)
    assert result["cellIds"] == [48, 64]


def test_a_file_lives_until_the_experiment_is_closed(tmp_path):
    opened = cellworker.open_experiment(PBMCSMALL, Settings(store_dir=tmp_path))
    path = opened.run("GetNormalizedExpression", subsetBy={"louvain": ["louvain-0"]})
    assert gzip.decompress(path.read_bytes()).startswith(b", ,")
    assert gzip.decompress(opened.run_raw("GetNormalizedExpression")).count(b"\n") == 231
    opened.close()
    assert not path.exists()
    assert opened.run("GetNormalizedExpression").exists()
    opened.close()


def test_genes_and_cells_are_data_frames_in_matrix_order(experiment):
    assert experiment.genes.shape == (230, 3)
    assert experiment.genes["name"][0] == "MS4A1"
    cells = experiment.cells
    assert cells["cell_id"].tolist() == experiment.experiment.cell_ids.tolist()
    assert cells["barcode"][0] == "ATGCCAGAACGACT"
    assert sorted(cells["Track_1"].unique()) == ["knock", "wild"]
    assert experiment.cell_sets.find_class("louvain").name == "louvain clusters"


def test_errors_name_the_field_or_the_task(experiment):
    with pytest.raises(WorkerError, match=r"body\.limit") as caught:
        experiment.run("ListGenes", limit=-1)
    assert caught.value.code is ErrorCode.INVALID_INPUT
    with pytest.raises(WorkerError, match="'Nope' is not a task"):
        experiment.run("Nope")
    with pytest.raises(WorkerError, match="body: cannot encode object"):
        experiment.run("ListGenes", limit=object())


def test_progress_is_reported(tmp_path):
    stages = []
    opened = cellworker.open_experiment(
        PBMCSMALL, Settings(store_dir=tmp_path), progress=lambda stage, fraction=None: stages.append(stage)
    )
    before = len(stages)
    opened.run("GetNormalizedExpression")
    opened.close()
    assert before
    assert len(stages) > before


def test_a_place_without_an_experiment_is_reported_in_words(tmp_path):
    with pytest.raises(WorkerError) as caught:
        cellworker.open_experiment(tmp_path / "nothing", Settings(store_dir=tmp_path))
    assert caught.value.code is ErrorCode.EXPERIMENT_NOT_FOUND


def test_without_pandas_the_message_says_what_to_install(experiment, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"\[notebook\]"):
        experiment.run("ListGenes", limit=1)
    assert experiment.call("ListGenes", limit=1)["gene_names"]
