"""ScoreGenes: how much more each cell expresses a set of genes than control genes of similar expression."""

import numpy as np

from cellworker.experiment.model import Experiment
from cellworker.protocol.columns import ColumnTable, Numbers
from cellworker.tasks.common.cell_columns import by_cell_id
from cellworker.tasks.common.gene_scores import GeneSetScore, score_cells
from cellworker.tasks.common.table_frames import column_tables
from cellworker.tasks.task import Context, PrepareInput, Task

__all__ = ["SCORE_GENES"]


class ScoreGenesBody(GeneSetScore):
    """ScoreGenes."""


class ScoreGenesRequest(GeneSetScore):
    """``scoreGenes``."""


def prepare(given: PrepareInput) -> ScoreGenesRequest:
    """Pass the body on."""
    body: ScoreGenesBody = given.body
    return ScoreGenesRequest(body.genes, body.method, body.n_controls, body.n_bins, body.seed)


def compute(experiment: Experiment, request: ScoreGenesRequest, context: Context) -> ColumnTable:
    """Return the scores by cell id, and the genes and controls behind them.

    Raises
    ------
    WorkerError
        As `score_cells`.
    """
    scored = score_cells(experiment, request, context, "body")
    n_controls, n_bins, seed = request.settings()
    names = experiment.genes.names
    facts = {
        "byCell": True,
        "method": request.method,
        "nControls": n_controls,
        "nBins": n_bins,
        "seed": seed,
        "genes": [names[i] for i in scored.genes.tolist()],
        "notFound": scored.unknown,
        "controls": [names[i] for i in scored.controls.tolist()],
    }
    return ColumnTable({"score": Numbers(by_cell_id(experiment, scored.values, np.nan))}, facts)


SCORE_GENES = Task(
    name="ScoreGenes",
    path="scoreGenes",
    about="the score of a gene set in every cell, as Seurat's AddModuleScore or scanpy's score_genes gives it",
    example=lambda parts: {"genes": parts.genes[:3], "method": "scanpy"},
    ours=True,
    body=ScoreGenesBody,
    request=ScoreGenesRequest,
    prepare=prepare,
    compute=compute,
    columns=compute,
    lane="long",
    to_tables=column_tables,
)
