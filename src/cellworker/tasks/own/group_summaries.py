"""GetGroupSummaries: a gene, a metadata column or a score by group, for violins, boxes and histograms."""

from typing import Annotated, Any

import numpy as np
from msgspec import Meta, Struct, field
from numpy.typing import NDArray

from cellworker.analysis.statistics.summaries import PROBABILITIES, density, summary
from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.model import Experiment
from cellworker.protocol.validation import Text
from cellworker.tasks.common.cell_columns import find_column, numbers_of
from cellworker.tasks.common.gene_scores import GeneSetScore, known_genes, score_cells
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

__all__ = ["GROUP_SUMMARIES"]


class Variable(Struct):
    """The variable to summarise: exactly one of a gene, a metadata column of numbers or logicals, and a score."""

    gene: Text | None = None
    column: Text | None = None
    score: GeneSetScore | None = None


class GroupSummariesBody(Struct):
    """GetGroupSummaries. `within`: key of a cell set, a class or a selection; only its cells count."""

    of: Variable
    group_by: Grouping = field(name="groupBy")
    within: str | None = None
    n_bins: Annotated[int, Meta(ge=1, le=1000)] = field(name="nBins", default=50)
    n_points: Annotated[int, Meta(ge=2, le=1000)] = field(name="nPoints", default=128)


class GroupSummariesRequest(Struct):
    """``getGroupSummaries``. `within`: a bitmap or ranges."""

    of: Variable
    group_by: RequestedGrouping = field(name="groupBy")
    within: str | None = None
    n_bins: Annotated[int, Meta(ge=1, le=1000)] = field(name="nBins", default=50)
    n_points: Annotated[int, Meta(ge=2, le=1000)] = field(name="nPoints", default=128)


def prepare(given: PrepareInput) -> GroupSummariesRequest:
    """Turn keys into cells."""
    body: GroupSummariesBody = given.body
    _check(body.of)
    within = None if body.within is None else cells_key(body.within, given.cell_sets, "body.within")
    grouping = prepare_grouping(body.group_by, given.cell_sets, "body.groupBy")
    return GroupSummariesRequest(body.of, grouping, within, body.n_bins, body.n_points)


def names_sets(body: GroupSummariesBody) -> bool:
    """Return whether a body names anything that needs the cell sets."""
    return reads_cell_sets(body.group_by, body.within)


def compute(experiment: Experiment, request: GroupSummariesRequest, context: Context) -> dict[str, Any]:
    """Return the summaries; all groups share the edges of the histogram and the points of the density.

    Raises
    ------
    WorkerError
        ``R_WORKER_GENE_NOT_FOUND``, ``R_WORKER_COLUMN_NOT_FOUND``, and ``INVALID_INPUT`` for a column of labels.
    """
    _check(request.of)
    within = None if request.within is None else rows_of(experiment, request.within, "request.within")
    groups = groups_of(experiment, request.group_by, "body.groupBy", within)
    values = _values(experiment, request.of, context)
    used = np.zeros(len(values), np.bool_)
    for one in groups:
        used[one.rows] = True
    known = values[used & np.isfinite(values)]
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 0.0)
    edges = np.linspace(low, high if high > low else low + 1.0, request.n_bins + 1)
    at = np.linspace(low, high, request.n_points)
    return {
        "of": _title(experiment, request.of),
        "min": low if len(known) else None,
        "max": high if len(known) else None,
        "probabilities": list(PROBABILITIES),
        "edges": edges,
        "points": at,
        "groups": [_summarised(one, values[one.rows], edges, at) for one in groups],
    }


def _check(of: Variable) -> None:
    given = [name for name in ("gene", "column", "score") if getattr(of, name) is not None]
    if len(given) != 1:
        raise WorkerError(
            ErrorCode.INVALID_INPUT, f"body.of: expected exactly one of gene, column and score, found {len(given)}."
        )


def _values(experiment: Experiment, of: Variable, context: Context) -> NDArray[np.float64]:
    """Return the variable, float64 ``(n_cells,)``, NaN where missing."""
    if of.gene is not None:
        return experiment.data.dense(_gene(experiment, of.gene)).astype(np.float64)
    if of.score is not None:
        return score_cells(experiment, of.score, context, "body.of.score").values
    assert of.column is not None
    values = numbers_of(find_column(experiment, of.column, "body.of.column"))
    if values is None:
        message = f"body.of.column: {of.column!r} holds labels; expected numbers. GetComposition counts labels."
        raise WorkerError(ErrorCode.INVALID_INPUT, message)
    return values


def _gene(experiment: Experiment, name: str) -> int:
    found, _ = known_genes(experiment.genes, [name])
    if not found:
        raise WorkerError(ErrorCode.R_WORKER_GENE_NOT_FOUND, f"Gene(s): {name} not found!")
    return found[0]


def _title(experiment: Experiment, of: Variable) -> str:
    if of.gene is not None:
        return experiment.genes.names[_gene(experiment, of.gene)]
    return of.column or "score"


def _summarised(
    group: Group, values: NDArray[np.float64], edges: NDArray[np.float64], at: NDArray[np.float64]
) -> dict[str, Any]:
    found = summary(values, edges)
    return {
        "key": group.key,
        "name": group.name,
        "color": group.color,
        "cells": len(values),
        "missing": found.missing,
        "positive": found.positive,
        "mean": found.mean,
        "deviation": found.deviation,
        "quantiles": found.quantiles,
        "counts": found.counts,
        "density": density(values[np.isfinite(values)], at),
    }


def to_tables(result: dict[str, Any]) -> Tables:
    """One table: a row for each group."""
    groups = result["groups"]
    columns = ("key", "name", "cells", "missing", "positive", "mean", "deviation")
    quantiles = {
        f"quantile_{probability:g}": [group["quantiles"][i] for group in groups]
        for i, probability in enumerate(result["probabilities"])
    }
    return {"groups": {**{name: [group[name] for group in groups] for name in columns}, **quantiles}}


GROUP_SUMMARIES = Task(
    name="GetGroupSummaries",
    path="getGroupSummaries",
    about="a gene, a metadata column or a score by group: quantiles, density, histogram, counts",
    example=lambda parts: {"of": {"gene": parts.genes[0]}, "groupBy": {"class": parts.cell_class}},
    ours=True,
    body=GroupSummariesBody,
    request=GroupSummariesRequest,
    prepare=prepare,
    compute=compute,
    needs_cell_sets=True,
    cell_sets_only_if=names_sets,
    to_tables=to_tables,
)
