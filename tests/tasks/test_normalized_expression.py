"""The normalised matrix as a file."""

import gzip
import json

import numpy as np
import pytest

from builders import small_experiment, synthetic_experiment
from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.cell_sets import CellSets
from cellworker.tasks.catalog import TASKS
from cellworker.tasks.task import Context

TASK = TASKS["GetNormalizedExpression"]
SETS = CellSets.parse(
    json.dumps(
        {
            "cellSets": [
                {"key": "louvain", "name": "l", "children": [
                    {"key": "l0", "name": "0", "cellIds": [1, 2]}, {"key": "l1", "name": "1", "cellIds": [3]},
                    {"key": "l2", "name": "2", "cellIds": [9]}]},
                {"key": "sample", "name": "s", "children": [
                    {"key": "s0", "name": "0", "cellIds": [1, 3, 4]}, {"key": "s1", "name": "1", "cellIds": [2]}]},
            ]
        }
    ).encode()
)  # fmt: skip


def content(path):
    return gzip.decompress(path.read_bytes()).decode()


def spaced():
    return small_experiment(cell_ids=np.array([5, 0, 3, 2], np.int32))


def test_the_whole_matrix_has_a_row_for_each_gene_and_a_column_for_each_cell(answer):
    path = answer(spaced(), "GetNormalizedExpression", {"subsetBy": None, "applySubset": False})
    assert path.name.endswith(".csv.gz")
    assert content(path) == (
        ", ,CELL0-1,CELL1-1,CELL2-1,CELL3-1\n"
        "1,ENSG00001,0,2,0,1\n2,ENSG00002,1.5,0,0,3\n3,ENSG00003,0,0.5,0.25,0\n"
    )  # fmt: skip


def test_chosen_cells_keep_the_objects_order_and_removed_ones_are_left_out(answer):
    path = answer(spaced(), "GetNormalizedExpression", {"subsetBy": [2, 5, 4, 99, 2], "applySubset": True})
    assert content(path).split("\n")[:3] == [", ,CELL0-1,CELL3-1", "1,ENSG00001,0,1", "2,ENSG00002,1.5,3"]


def test_one_cell_may_come_as_a_bare_number(answer):
    assert content(answer(spaced(), "GetNormalizedExpression", {"subsetBy": 0, "applySubset": True})).count(",") == 8


@pytest.mark.parametrize("ids", [[], [4], None])
def test_no_cells_are_an_error_and_no_file(answer, tmp_path, ids):
    with pytest.raises(WorkerError, match="No cells match requested filters") as caught:
        answer(spaced(), "GetNormalizedExpression", {"subsetBy": ids, "applySubset": True})
    assert caught.value.code is ErrorCode.R_WORKER_EMPTY_CELL_SET
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("subset_by", "ids"),
    [
        ({"louvain": ["l0"]}, [1, 2]),
        ({"louvain": ["l0", "l1"]}, [1, 2, 3]),
        ({"louvain": ["l0", "l1"], "sample": ["s0"], "metadata": []}, [1, 3]),
        ({"louvain": ["louvain"], "clm": None}, [1, 2, 3, 9]),
    ],
)
def test_keys_of_a_category_unite_and_categories_intersect(prepare, subset_by, ids):
    request = prepare("GetNormalizedExpression", {"subsetBy": subset_by}, SETS)
    assert (request.subset_by, request.apply_subset) == (ids, True)


@pytest.mark.parametrize("subset_by", [{}, {"louvain": [], "sample": []}, None])
def test_nothing_chosen_is_everything(prepare, subset_by):
    request = prepare("GetNormalizedExpression", {"subsetBy": subset_by}, SETS)
    assert (request.subset_by, request.apply_subset) == (None, False)


def test_an_empty_intersection_is_reported_before_anything_is_computed(prepare):
    with pytest.raises(WorkerError) as caught:
        prepare("GetNormalizedExpression", {"subsetBy": {"louvain": ["l2"], "sample": ["s0"]}}, SETS)
    assert caught.value.code is ErrorCode.R_WORKER_EMPTY_CELL_SET


def test_an_unknown_key_is_named(prepare):
    with pytest.raises(WorkerError, match=r"body\.subsetBy\.sample: .*'nope'") as caught:
        prepare("GetNormalizedExpression", {"subsetBy": {"sample": ["nope"]}}, SETS)
    assert caught.value.code is ErrorCode.INVALID_INPUT


def test_a_larger_matrix_comes_back_number_for_number(tmp_path, monkeypatch):
    monkeypatch.setattr("cellworker.tasks.normalized_expression._BLOCK_BYTES", 20_000)
    experiment = synthetic_experiment(700, 90)
    stages = []
    context = Context(scratch=tmp_path, threads=3, progress=lambda stage, fraction=None: stages.append(fraction))
    lines = content(TASK.compute(experiment, TASK.request(), context)).rstrip("\n").split("\n")
    table = np.array([line.split(",")[2:] for line in lines[1:]], np.float32)
    np.testing.assert_array_equal(table, np.array([experiment.data.dense(gene) for gene in range(90)]))
    assert lines[0].split(",")[2:] == experiment.barcodes
    assert stages[0] == 0
    assert stages[-1] == 1
    assert stages == sorted(stages)
    assert len(stages) > 5


def test_a_cancelled_request_leaves_no_file(tmp_path):
    class Cancelled(BaseException):
        pass

    def progress(stage, fraction=None):
        if fraction:
            raise Cancelled

    with pytest.raises(Cancelled):
        TASK.compute(spaced(), TASK.request(), Context(scratch=tmp_path, progress=progress))
    assert list(tmp_path.iterdir()) == []
