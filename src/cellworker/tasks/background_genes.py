"""GetBackgroundExpressedGenes (contract 5.6): which genes are expressed at all in the cells compared."""

from typing import Any

import numpy as np

from cellworker.analysis.statistics.sums import group_sums
from cellworker.experiment.comparisons import resolve_comparison
from cellworker.experiment.model import Experiment
from cellworker.experiment.suitability import counted, require
from cellworker.protocol.bodies import BackgroundGenesBody
from cellworker.protocol.engine_bodies import BackgroundGenesRequest
from cellworker.tasks.common.compared_cells import compared_rows
from cellworker.tasks.common.table_frames import Tables
from cellworker.tasks.task import Context, PrepareInput, Task

__all__ = ["BACKGROUND_GENES"]

_MORE_THAN = 15  # counts over both sets


def prepare(given: PrepareInput) -> BackgroundGenesRequest:
    """Turn keys into cells."""
    body: BackgroundGenesBody = given.body
    cells = resolve_comparison(
        given.cell_sets, cell_set=body.cell_set, compare_with=body.compare_with, basis=body.basis
    )
    return BackgroundGenesRequest(cells.base.tolist(), cells.background.tolist())


def compute(experiment: Experiment, request: BackgroundGenesRequest, context: Context) -> dict[str, Any]:
    """Symbols, as they came, of the genes with more than 15 counts over both sets, in matrix order."""
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
    body=BackgroundGenesBody,
    request=BackgroundGenesRequest,
    prepare=prepare,
    compute=compute,
    needs_cell_sets=True,
    to_tables=to_tables,
)
