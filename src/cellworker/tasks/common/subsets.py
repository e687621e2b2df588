"""A subset of the cells as an experiment of its own, for clusters and maps of the subset."""

import hashlib
from dataclasses import replace
from typing import Annotated, Any, Literal

import numpy as np
from msgspec import Meta, Struct, field
from numpy.typing import NDArray

from cellworker.analysis.statistics.pca import principal_components
from cellworker.analysis.statistics.variable_genes import gene_variability
from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.model import CellMajor, Experiment, Reduction
from cellworker.experiment.suitability import MAPS
from cellworker.tasks.common.compared_cells import check_values
from cellworker.tasks.common.groupings import rows_of
from cellworker.tasks.common.reductions import coordinates_of, full_reduction
from cellworker.tasks.common.result_cache import kept
from cellworker.tasks.task import Context

__all__ = ["Space", "cells_taken", "subset_of"]

_NAME = "subset"
_FEWEST = 3  # min cells for principal components
_ROWS = 1 << 14
_CHOOSING, _REDUCING = "Choosing variable genes", "Computing principal components"


class Space(Struct):
    """The space in which a subset's cells are compared.

    `components` "saved": the coordinates of the active reduction, as for all cells. "own": principal components of the
    subset alone, from the genes that vary most among its cells.
    """

    components: Literal["saved", "own"] = "saved"
    n_genes: Annotated[int, Meta(ge=2, le=20_000)] = field(name="nGenes", default=2000)
    n_components: Annotated[int, Meta(ge=2, le=200)] = field(name="nComponents", default=30)


class _Subset(Experiment):
    def __init__(self, whole: Experiment, rows: NDArray[np.int32], values: NDArray[np.float64], n_used: int) -> None:
        self.key = whole.key
        self.genes = whole.genes
        self.cell_ids = whole.cell_ids[rows]
        self.reductions = {_NAME: Reduction(values)}
        self.graphs, self.images = {}, {}
        self.misc = replace(whole.misc, active_reduction=_NAME, default_reduction="", num_pcs=n_used)
        self.origin = whole.origin


def subset_of(
    experiment: Experiment, cells: str, space: Space, context: Context
) -> tuple[Experiment, NDArray[np.int32]]:
    """Return an experiment of some cells, with the reduction for comparing them, and their rows.

    Parameters
    ----------
    cells
        A bitmap or ranges.

    Raises
    ------
    WorkerError
        ``R_WORKER_EMPTY_CELL_SET`` when none of the cells is in the experiment; ``REDUCTION_NOT_FOUND`` when the active
        reduction is missing or has no place for some cells; ``INVALID_INPUT`` for too few cells or genes.
    """
    rows = rows_of(experiment, cells, "request.cells")
    if not len(rows):
        raise WorkerError(ErrorCode.R_WORKER_EMPTY_CELL_SET, "None of the set's cells is in the experiment.")
    if space.components == "saved":
        values = coordinates_of(experiment, full_reduction(experiment), MAPS)[rows]
        return _Subset(experiment, rows, values, experiment.misc.num_pcs), rows
    if len(rows) < _FEWEST:
        message = f"body.cellSet: has {len(rows)} cells in the experiment; own components need {_FEWEST} or more."
        raise WorkerError(ErrorCode.INVALID_INPUT, message)
    check_values(experiment)
    text = f"{experiment.key} {cells} {space.n_genes} {space.n_components}"
    key = f"subset-{hashlib.sha256(text.encode()).hexdigest()[:32]}"
    values = kept(context.kept, key, lambda: {"scores": _own_components(experiment, rows, space, context)})["scores"]
    return _Subset(experiment, rows, values, values.shape[1]), rows


def _own_components(
    experiment: Experiment, rows: NDArray[np.int32], space: Space, context: Context
) -> NDArray[np.float64]:
    """Return the cells' principal components, float64 ``(len(rows), k)``."""
    context.progress(_CHOOSING, 0.0)
    counted = experiment.counts if experiment.counts is not None else experiment.data_by_cell
    taken = cells_taken(counted, rows)
    variability = gene_variability(
        taken.genes, taken.values, n_cells=len(rows), n_genes=counted.n_genes, threads=context.threads,
        progress=lambda done: context.progress(_CHOOSING, 0.4 * done),
    )  # fmt: skip
    genes = np.sort(variability.top(space.n_genes))
    k = min(space.n_components, len(rows) - 1, len(genes))
    if k < 2:
        message = f"body.cellSet: only {len(genes)} genes occur in its {len(rows)} cells; expected more for components."
        raise WorkerError(ErrorCode.INVALID_INPUT, message)
    matrix = _chosen_genes(experiment.data_by_cell, rows, genes)
    found = principal_components(
        matrix, k, threads=context.threads,
        on_progress=lambda done: context.progress(_REDUCING, 0.5 + 0.5 * done),
    )  # fmt: skip
    return np.asarray(found.scores)


def cells_taken(matrix: CellMajor, rows: NDArray[np.integer[Any]]) -> CellMajor:
    """Return some cells of a matrix, in the order of `rows`."""
    lengths = matrix.indptr[rows + 1] - matrix.indptr[rows]
    indptr = np.zeros(len(rows) + 1, np.int64)
    np.cumsum(lengths, out=indptr[1:])
    places = np.arange(indptr[-1]) + np.repeat(matrix.indptr[rows] - indptr[:-1], lengths)
    return CellMajor(indptr, matrix.genes[places], matrix.values[places], matrix.n_genes)


def _chosen_genes(matrix: CellMajor, rows: NDArray[np.int32], genes: NDArray[np.int64]) -> object:
    """Return some genes of some cells as SciPy's compressed rows, read in chunks of cells."""
    from scipy.sparse import csr_array  # noqa: PLC0415 heavy

    column = np.full(matrix.n_genes, -1, np.int32)
    column[genes] = np.arange(len(genes), dtype=np.int32)
    indices, values, lengths = [], [], []
    for start in range(0, len(rows), _ROWS):
        part = cells_taken(matrix, rows[start : start + _ROWS])
        where = column[part.genes]
        held = where >= 0
        indices.append(where[held])
        values.append(part.values[held])
        before = np.concatenate([[0], np.cumsum(held)])
        lengths.append(np.diff(before[part.indptr]))
    indptr = np.concatenate([[0], np.cumsum(np.concatenate(lengths))])
    content = (np.concatenate(values), np.concatenate(indices), indptr)
    return csr_array(content, shape=(len(rows), len(genes)))
