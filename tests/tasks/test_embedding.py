"""Stored embeddings."""

import numpy as np
import pytest

from builders import small_experiment
from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.model import Reduction
from cellworker.tasks.catalog import TASKS


def experiment(**reductions):
    values = np.array([[1.5, 2, 9], [3, 4, 9], [np.nan, np.nan, 9], [7, 8, 9]])
    there = {name: Reduction(values) for name in reductions or ("UMAP", "pca")}
    return small_experiment(cell_ids=np.array([5, 0, 3, 2], np.int32), reductions=there)


def test_points_are_indexed_by_cell_id_with_null_where_there_is_none(answer):
    got = answer(experiment(), "getEmbedding", {"type": "pca", "config": {}, "use_saved": False})
    assert got == [[3.0, 4.0], None, [7.0, 8.0], None, None, [1.5, 2.0]]


@pytest.mark.parametrize("name", ["UMAP", "umap", "Umap"])
def test_names_are_matched_exactly_then_whatever_their_case(answer, name):
    assert answer(experiment(), "getEmbedding", {"type": name, "use_saved": True})[0] == [3.0, 4.0]


def test_the_exact_name_wins(answer):
    both = experiment()
    both.reductions = {"UMAP": Reduction(np.zeros((4, 2))), "umap": Reduction(np.ones((4, 2)))}
    assert answer(both, "getEmbedding", {"type": "umap", "use_saved": True})[0] == [1.0, 1.0]


def test_a_missing_reduction_is_refused_with_those_that_exist(answer):
    with pytest.raises(WorkerError, match="'tsne': it has UMAP, pca") as caught:
        answer(experiment(), "getEmbedding", {"type": "tsne", "use_saved": True})
    assert caught.value.code is ErrorCode.REDUCTION_NOT_FOUND
    none = small_experiment(reductions={})
    with pytest.raises(WorkerError, match="it has none"):
        answer(none, "getEmbedding", {"type": "pca"})


def test_one_dimension_is_too_few(answer):
    flat = small_experiment(reductions={"pca": Reduction(np.zeros((4, 1)))})
    with pytest.raises(WorkerError, match="fewer than two") as caught:
        answer(flat, "getEmbedding", {"type": "pca"})
    assert caught.value.code is ErrorCode.REDUCTION_NOT_FOUND


@pytest.mark.parametrize("kind", ["umap", "tsne", "images"])
def test_embeddings_that_would_have_to_be_computed_are_not_invented(answer, kind):
    with pytest.raises(WorkerError, match="yet") as caught:
        answer(experiment(), "getEmbedding", {"type": kind, "config": {}, "use_saved": False})
    assert caught.value.code is ErrorCode.TASK_NOT_AVAILABLE


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"type": "umap", "config": {"minimumDistance": -1}}, "minimumDistance"),
        ({"type": "umap", "config": {"minimumDistance": "0.3"}}, "minimumDistance"),
        ({"type": "umap", "config": {"distanceMetric": "manhattan"}}, "distanceMetric"),
        ({"type": "tsne", "config": {"perplexity": 0}}, "perplexity"),
        ({"type": "tsne", "config": {"learningRate": True}}, "learningRate"),
        ({"type": "phate"}, "type"),
        ({"type": ""}, "type"),
        ({}, "type"),
    ],
)
def test_a_wrong_configuration_is_named(prepare, body, field):
    with pytest.raises(WorkerError, match=rf"body\.(config\.)?{field}") as caught:
        prepare("GetEmbedding", body)
    assert caught.value.code is ErrorCode.INVALID_INPUT


def test_the_body_becomes_the_engines_request(prepare):
    request = prepare("GetEmbedding", {"type": "harmony", "useSaved": True})
    assert (request.type, request.use_saved, request.config) == ("harmony", True, {})


def test_tables_leave_out_gaps(answer):
    tables = TASKS["GetEmbedding"].to_tables(answer(experiment(), "getEmbedding", {"type": "pca"}))
    assert tables == {"cells": {"cell_id": [0, 2, 5], "x": [3.0, 7.0, 1.5], "y": [4.0, 8.0, 2.0]}}
