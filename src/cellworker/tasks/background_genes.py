"""GetBackgroundExpressedGenes (contract 5.6): which genes the compared cells express."""

from typing import Any

import numpy as np
from msgspec import Struct, field

from cellworker.analysis.statistics.sums import group_sums
from cellworker.experiment.comparisons import resolve_comparison
from cellworker.experiment.model import Experiment
from cellworker.experiment.suitability import counted, require
from cellworker.protocol.validation import Text
from cellworker.tasks.common.compared_cells import ComparisonCells, compared_rows
from cellworker.tasks.common.examples import comparison_example
from cellworker.tasks.common.sent_cells import sent_later
from cellworker.tasks.common.table_frames import Tables
from cellworker.tasks.task import Context, PrepareInput, Task

__all__ = ["BACKGROUND_GENES"]

_MORE_THAN = 15  # counts over both sets


class BackgroundGenesBody(Struct):
    """GetBackgroundExpressedGenes."""

    cell_set: Text = field(name="cellSet")
    compare_with: Text = field(name="compareWith")
    basis: str | None = None
    comparison_type: str = field(name="comparisonType", default="within")


class BackgroundGenesRequest(ComparisonCells):
    """``getBackgroundExpressedGenes``."""


def prepare(given: PrepareInput) -> BackgroundGenesRequest:
    """Turn keys into cells."""
    body: BackgroundGenesBody = given.body
    cells = resolve_comparison(
        given.cell_sets, cell_set=body.cell_set, compare_with=body.compare_with, basis=body.basis
    )
    return BackgroundGenesRequest(sent_later(cells.base), sent_later(cells.background))


def compute(experiment: Experiment, request: BackgroundGenesRequest, context: Context) -> dict[str, Any]:
    """Return the original symbols of the genes with more than 15 counts over both sets, in matrix order."""
    require(counted(experiment))
    counts = experiment.counts
    assert counts is not None
    rows = np.union1d(*compared_rows(experiment, request.base_cells, request.background_cells))
    total = group_sums(
        counts.indptr,
        counts.genes,
        counts.values,
        rows,
        np.zeros(len(rows), np.int32),
        n_groups=1,
        n_genes=len(experiment.genes),
        threads=context.threads,
    )[0]
    return {"genes": [experiment.genes.original_names[i] for i in np.flatnonzero(total > _MORE_THAN).tolist()]}


def to_tables(result: Any) -> Tables:  # noqa: ANN401
    """One column of symbols."""
    return {"genes": {"gene": result["genes"]}}


BACKGROUND_GENES = Task(
    name="GetBackgroundExpressedGenes",
    path="getBackgroundExpressedGenes",
    about="the genes that are expressed in two groups at all",
    example=comparison_example,
    body=BackgroundGenesBody,
    request=BackgroundGenesRequest,
    prepare=prepare,
    compute=compute,
    needs_cell_sets=True,
    to_tables=to_tables,
)
