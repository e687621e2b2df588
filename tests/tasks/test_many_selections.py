"""Requests whose keys stand for more cells together than memory holds, although each alone is a request."""

import json

import msgspec
import numpy as np
import pytest

from builders import cell_sets, small_experiment
from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment import bitmaps
from cellworker.tasks.catalog import find

ALL_FOUR = "ranges:0-3"
# Every field that takes keys without end, with the way to the list.
LISTS = [
    ("GetGroupSummaries", lambda keys: {"of": {"gene": "A"}, "groupBy": {"sets": keys}}, "body.groupBy.sets"),
    ("GetComposition", lambda keys: {"groupBy": {"sets": keys}, "splitBy": {"sets": [ALL_FOUR]}}, "body.groupBy.sets"),
    ("GetNormalizedExpression", lambda keys: {"subsetBy": {"louvain": keys}}, "body.subsetBy"),
    ("GetNormalizedExpression", lambda keys: {"subsetBy": {str(i): [key] for i, key in enumerate(keys)}},
     "body.subsetBy"),
    ("GetTrajectoryAnalysisStartingNodes", lambda keys: {"embedding": {"method": "umap"}, "cellSets": keys},
     "body.cellSets"),
    ("BatchDifferentialExpression", lambda keys: {"cellSet": keys, "compareWith": "ranges:4-4", "basis": ["all"]},
     "body"),
]  # fmt: skip


@pytest.fixture
def sets():
    return cell_sets(louvain={"louvain-0": [0, 1], "louvain-1": [2, 3]})


def refusal(call) -> str:
    with pytest.raises(WorkerError) as caught:
        call()
    assert caught.value.code is ErrorCode.INVALID_INPUT
    return caught.value.message


@pytest.mark.parametrize(("task", "body", "field"), LISTS)
def test_cells_are_counted_while_they_are_looked_up(task, body, field, prepare, sets, monkeypatch) -> None:
    keys = [f"ranges:0-{i}" for i in range(4, 40)] if "Batch" not in task else [ALL_FOUR] * 40
    prepare(task, body(keys), sets, earlier=b"[]")
    monkeypatch.setattr(bitmaps, "MAX_NAMED_CELLS", 90)
    message = refusal(lambda: prepare(task, body(keys), sets))
    assert message.startswith(f"{field}: names more than 90 cells")
    assert "several requests" in message


def test_of_two_thousand_large_selections_few_are_looked_up(prepare, sets, monkeypatch) -> None:
    monkeypatch.setattr(bitmaps, "MAX_NAMED_CELLS", 1 << 20)
    looked_up: list[str] = []

    def note(text: str, what: str):
        looked_up.append(what)
        return cells_of_ranges(text, what)

    cells_of_ranges = bitmaps._cells_of_ranges
    monkeypatch.setattr(bitmaps, "_cells_of_ranges", note)
    body = {"of": {"gene": "A"}, "groupBy": {"sets": [f"ranges:0-{(1 << 18) - 1}"] * 2000}}
    assert "names more than 1,048,576 cells" in refusal(lambda: prepare("GetGroupSummaries", body, sets))
    assert len(looked_up) == 5


def test_the_engine_counts_the_cells_of_its_own_requests_too(prepare, sets, answer, monkeypatch) -> None:
    experiment = small_experiment(np.ones((4, 2)), cell_ids=np.arange(4, dtype=np.int32))
    asked = prepare("GetComposition", {"groupBy": {"sets": [ALL_FOUR] * 40}, "splitBy": {"sets": [ALL_FOUR]}}, sets)
    request = json.loads(msgspec.json.encode(asked))
    path = find("GetComposition").path
    assert answer(experiment, path, request)["cells"] == 4
    monkeypatch.setattr(bitmaps, "MAX_NAMED_CELLS", 90)
    assert "names more than 90 cells" in refusal(lambda: answer(experiment, path, request))


def test_selections_without_end_are_not_looked_up(prepare, sets) -> None:
    keys = [f"ranges:{i}" for i in range(2001)]
    message = refusal(lambda: prepare("GetNormalizedExpression", {"subsetBy": {"louvain": keys}}, sets))
    assert message == "body.subsetBy.louvain: names 2,001 selections; expected 2,000 at most."
    prepare("GetNormalizedExpression", {"subsetBy": {"louvain": keys[1:]}}, sets)


def test_keys_that_are_repeated_change_nothing(prepare, sets) -> None:
    once = prepare("GetNormalizedExpression", {"subsetBy": {"louvain": ["louvain-1", "ranges:0"]}}, sets)
    often = prepare("GetNormalizedExpression", {"subsetBy": {"louvain": ["louvain-1", "ranges:0"] * 5000}}, sets)
    assert once.subset_by == often.subset_by == [0, 2, 3]


def test_the_cells_of_many_keys_are_those_of_each(sets, monkeypatch) -> None:
    monkeypatch.setattr("cellworker.experiment.cell_sets._UNITED_AT_ONCE", 3)
    assert sets.cells_of_all(["louvain-1", "louvain", "ranges:7-9", "ranges:1-8"], "x").tolist() == list(range(10))
    assert sets.cells_of_all([], "x").tolist() == []
