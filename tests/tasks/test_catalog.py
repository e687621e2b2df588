"""The list of tasks."""

from pathlib import Path

import pytest

from cellworker.errors import ErrorCode, WorkerError
from cellworker.formats.opening.open import Opened
from cellworker.tasks.catalog import BY_PATH, TASKS, example_bodies, find

# contract 7.1
PATHS = {
    "GetEmbedding": "getEmbedding",
    "GetNUmis": "getNUmis",
    "ListGenes": "listGenes",
    "MarkerHeatmap": "runMarkerHeatmap",
    "DifferentialExpression": "DifferentialExpression",
    "BatchDifferentialExpression": "BatchDifferentialExpression",
    "GetTrajectoryAnalysisStartingNodes": "runTrajectoryAnalysisStartingNodesTask",
    "GeneExpression": "runExpression",
    "GetTrajectoryAnalysisPseudoTime": "runTrajectoryAnalysisPseudoTimeTask",
    "ClusterCells": "getClusters",
    "GetBackgroundExpressedGenes": "getBackgroundExpressedGenes",
    "GetExpressionCellSets": "getExpressionCellSet",
    "GetNormalizedExpression": "GetNormalizedExpression",
    "DotPlot": "runDotPlot",
    "ScTypeAnnotate": "ScTypeAnnotate",
    "GetDoubletScore": "getDoubletScore",
    "CASSIAAnnotate": "CASSIAAnnotate",
    "CellCycleScoring": "CellCycleScoring",
    "GetMitochondrialContent": "getMitochondrialContent",
    "GetNGenes": "getNGenes",
    "DownloadAnnotSeuratObject": "DownloadAnnotSeuratObject",
}

# contract 5
ORDER = [
    "GetEmbedding", "ListGenes", "DifferentialExpression", "BatchDifferentialExpression", "GeneExpression",
    "GetBackgroundExpressedGenes", "ClusterCells", "DotPlot", "GetDoubletScore", "GetMitochondrialContent", "GetNGenes",
    "GetNUmis", "MarkerHeatmap", "GetTrajectoryAnalysisStartingNodes", "GetTrajectoryAnalysisPseudoTime",
    "GetExpressionCellSets", "GetNormalizedExpression", "ScTypeAnnotate", "CASSIAAnnotate", "CellCycleScoring",
    "DownloadAnnotSeuratObject",
]  # fmt: skip


def test_every_task_of_the_contract_is_there_under_its_path():
    platform = [task for task in TASKS.values() if not task.ours]
    assert {task.name: task.path for task in platform} == PATHS
    assert [task.name for task in platform] == ORDER
    assert [name for name, task in TASKS.items() if not task.ours] == list(TASKS)[: len(ORDER)], "ours come last"
    assert len(BY_PATH) == len(TASKS)
    assert BY_PATH["DifferentialExpression"].name == "DifferentialExpression"


def test_what_is_never_stored_is_what_changes_cell_sets():
    assert {name for name, task in TASKS.items() if not task.cacheable} == {
        "ClusterCells", "GetExpressionCellSets", "ScTypeAnnotate", "CASSIAAnnotate", "CellCycleScoring",
        "ClusterSubset",
    }  # fmt: skip
    assert all((task.patch is None) == task.cacheable for task in TASKS.values())


def test_only_gene_expression_answers_without_an_envelope_and_two_tasks_make_files():
    assert [name for name, task in TASKS.items() if task.bare] == ["GeneExpression"]
    assert {name for name, task in TASKS.items() if task.file_result} == {
        "GetNormalizedExpression", "DownloadAnnotSeuratObject",
    }  # fmt: skip


def test_an_unknown_task_is_refused_with_the_known_ones():
    with pytest.raises(WorkerError, match=r"'Nope'.*ListGenes") as caught:
        find("Nope")
    assert caught.value.code is ErrorCode.INVALID_INPUT
    assert find("ListGenes") is TASKS["ListGenes"]


@pytest.mark.parametrize(("content", "ending"), [(b"\x89HDF\r\n\x1a\n", ".h5ad"), (b"\x1f\x8b", ".rds")])
def test_the_name_of_a_download_follows_its_content(content: bytes, ending: str, tmp_path: Path) -> None:
    (tmp_path / "result").write_bytes(content)
    task = find("DownloadAnnotSeuratObject")
    assert task.file_result
    assert task.file_name is not None
    assert task.file_name(tmp_path / "result") == f"processed_matrix{ending}"


def test_every_task_has_an_example_that_it_understands_and_a_line_about_it(pbmcsmall: Opened) -> None:
    examples = example_bodies(pbmcsmall.experiment, pbmcsmall.cell_sets)
    assert list(examples) == list(TASKS)
    for name, body in examples.items():
        assert body["name"] == name
        assert find(name).read_body(body) is not None
    assert all(task.about and not task.about.endswith(".") for task in TASKS.values())
