"""One number per cell."""

import numpy as np
import pytest

from builders import small_experiment
from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.model import Categorical, Origin
from cellworker.tasks.catalog import TASKS
from cellworker.tasks.task import with_every_cell

PATHS = {
    "getDoubletScore": "doublet_scores",
    "getMitochondrialContent": "percent.mt",
    "getNGenes": "nFeature_RNA",
    "getNUmis": "nCount_RNA",
}


def with_columns(**columns):
    return small_experiment(cell_ids=np.array([5, 0, 3, 2], np.int32), metadata=columns)


def test_the_vector_is_indexed_by_cell_id_with_null_for_gaps_and_missing_numbers(answer):
    experiment = with_columns(doublet_scores=np.array([0.5, np.nan, 0.25, 0.125]))
    assert answer(experiment, "getDoubletScore", {}) == [None, None, 0.125, 0.25, None, 0.5]


def test_counts_are_log10_and_zero_has_none(answer):
    experiment = with_columns(nCount_RNA=np.array([1000, 10, 0, 1]))
    assert answer(experiment, "getNUmis", {}) == [1.0, None, 0.0, None, None, 3.0]


@pytest.mark.parametrize(("path", "column"), PATHS.items())
def test_a_column_that_is_not_there_is_named(answer, path, column):
    labels = Categorical(np.zeros(4, np.int32), ["a"])
    for experiment in (with_columns(), with_columns(**{column: labels})):
        with pytest.raises(WorkerError) as caught:
            answer(experiment, path, {"name": "x"})
        assert caught.value.code is ErrorCode.R_WORKER_COLUMN_NOT_FOUND
        assert caught.value.message == f"{column} is not computed for this experiment."


def test_the_counts_of_another_main_assay_stand_in(answer):
    experiment = with_columns(nFeature_Spatial=np.array([10.0, 100, 1000, 1]))
    experiment.origin = Origin(kind="own", assay="Spatial")
    assert answer(experiment, "getNGenes", {}) == pytest.approx([2.0, None, 0.0, 3.0, None, 1.0])


def test_tables_have_a_row_for_every_cell_and_none_for_ids_without_one(answer):
    experiment = with_columns(nCount_RNA=np.array([1000, 10, 0, np.nan]))
    task = TASKS["GetNUmis"]
    result = answer(experiment, "getNUmis", {})
    assert task.tables(result, experiment.cell_ids) == {
        "cells": {"cell_id": [0, 2, 3, 5], "log10(nCount_RNA)": [1.0, None, None, 3.0]}
    }


def test_tables_of_cells_keep_several_rows_and_their_order():
    table = {"cell_id": [2, 2, 7], "x": [1.0, 2.0, 3.0]}
    assert with_every_cell({"cells": table}, [7, 0, 2]) == {
        "cells": {"cell_id": [0, 2, 2, 7], "x": [None, 1.0, 2.0, 3.0]}
    }
