"""GetComposition: how many cells of each group are in each group of another grouping."""

from typing import Any

import numpy as np
from msgspec import Struct, field

from cellworker.analysis.statistics.composition import overlaps
from cellworker.experiment.model import Experiment
from cellworker.tasks.common.groupings import (
    Group,
    Grouping,
    RequestedGrouping,
    cells_key,
    groups_of,
    prepare_grouping,
    reads_cell_sets,
    rows_of,
)
from cellworker.tasks.common.table_frames import Tables
from cellworker.tasks.task import Context, PrepareInput, Task

__all__ = ["COMPOSITION"]


class CompositionBody(Struct):
    """GetComposition. `within`: key of a cell set, a class or a selection; only its cells count."""

    group_by: Grouping = field(name="groupBy")
    split_by: Grouping = field(name="splitBy")
    within: str | None = None


class CompositionRequest(Struct):
    """``getComposition``. `within`: a bitmap or ranges."""

    group_by: RequestedGrouping = field(name="groupBy")
    split_by: RequestedGrouping = field(name="splitBy")
    within: str | None = None


def prepare(given: PrepareInput) -> CompositionRequest:
    """Turn keys into cells."""
    body: CompositionBody = given.body
    within = None if body.within is None else cells_key(body.within, given.cell_sets, "body.within")
    return CompositionRequest(
        prepare_grouping(body.group_by, given.cell_sets, "body.groupBy"),
        prepare_grouping(body.split_by, given.cell_sets, "body.splitBy"),
        within,
    )


def names_sets(body: CompositionBody) -> bool:
    """Return whether a body names anything that needs the cell sets."""
    return reads_cell_sets(body.group_by, body.split_by, body.within)


def compute(experiment: Experiment, request: CompositionRequest, context: Context) -> dict[str, Any]:  # noqa: ARG001
    """Return the counts: a row for each group of `groupBy`, a column for each of `splitBy`.

    Raises
    ------
    WorkerError
        ``R_WORKER_COLUMN_NOT_FOUND``, and ``INVALID_INPUT`` for a column of measurements.
    """
    within = None if request.within is None else rows_of(experiment, request.within, "request.within")
    groups = groups_of(experiment, request.group_by, "body.groupBy", within)
    parts = groups_of(experiment, request.split_by, "body.splitBy", within)
    counts = overlaps([one.rows for one in groups], [one.rows for one in parts], experiment.n_cells)
    total = experiment.n_cells if within is None else len(within)
    return {"groups": _told(groups), "parts": _told(parts), "counts": counts, "cells": total}


def _told(groups: list[Group]) -> list[dict[str, Any]]:
    return [{"key": one.key, "name": one.name, "color": one.color, "cells": len(one.rows)} for one in groups]


def to_tables(result: dict[str, Any]) -> Tables:
    """One table: a row for each group and part."""
    groups, parts = result["groups"], result["parts"]
    return {
        "counts": {
            "group": [group["name"] for group in groups for _ in parts],
            "part": [part["name"] for _ in groups for part in parts],
            "cells": np.asarray(result["counts"], np.int64).ravel().tolist(),
        }
    }


COMPOSITION = Task(
    name="GetComposition",
    path="getComposition",
    about="how many cells of each group are in each group of another grouping",
    example=lambda parts: {"groupBy": {"class": parts.cell_class}, "splitBy": {"column": parts.column}},
    ours=True,
    body=CompositionBody,
    request=CompositionRequest,
    prepare=prepare,
    compute=compute,
    needs_cell_sets=True,
    cell_sets_only_if=names_sets,
    to_tables=to_tables,
)
