"""Turns cell ids of a request into the rows that are compared."""

import numpy as np
from msgspec import Struct, field
from numpy.typing import NDArray

from cellworker.experiment.comparisons import EmptySideError
from cellworker.experiment.id_sets import without
from cellworker.experiment.model import Experiment
from cellworker.experiment.suitability import rankable, require
from cellworker.tasks.common.sent_cells import SentCells, ids_of

__all__ = ["ComparisonCells", "check_values", "compared_rows", "listed_rows"]


class ComparisonCells(Struct):
    """The cells of one comparison, by id; some may be ids that quality control removed."""

    base_cells: SentCells = field(name="baseCells")
    background_cells: SentCells = field(name="backgroundCells")


def listed_rows(experiment: Experiment, cell_ids: list[int] | int | str | None) -> NDArray[np.int32]:
    """Return the rows of cell ids, ascending, each once; ids that quality control removed are ignored."""
    rows = experiment.positions(ids_of(cell_ids))
    listed = np.zeros(experiment.n_cells, np.bool_)
    listed[rows[rows >= 0]] = True
    return np.flatnonzero(listed).astype(np.int32)


def compared_rows(
    experiment: Experiment, base_ids: list[int] | int | str, background_ids: list[int] | int | str
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return the rows of both sides; a cell on both sides counts as base.

    Raises
    ------
    EmptySideError
        When a side has no cell in the experiment.
    """
    base = listed_rows(experiment, base_ids)
    background = without(listed_rows(experiment, background_ids), base)
    if not len(base) or not len(background):
        raise EmptySideError.of(first=not len(base))
    return base, background


def check_values(experiment: Experiment) -> None:
    """Refuse missing or infinite values: they cannot be ranked.

    Raises
    ------
    WorkerError
        ``EXPERIMENT_UNSUPPORTED`` naming genes.
    """
    require(rankable(experiment))
