"""The reduction that clusters and embeddings are computed from, and the sketch where an object has one."""

import numpy as np
from numpy.typing import NDArray

from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.model import Experiment

__all__ = ["coordinates_of", "find_sketch", "full_reduction"]

_SKETCH = ".sketch"


def coordinates_of(experiment: Experiment, name: str, purpose: str) -> NDArray[np.float64]:
    """Return a reduction's coordinates, float64 ``(n_cells, n_dims)``, all finite.

    Parameters
    ----------
    purpose
        Ends the sentence "the reduction 'pca', which ...".

    Raises
    ------
    WorkerError
        ``REDUCTION_NOT_FOUND`` when it is missing or has no place for some cells.
    """
    if name not in experiment.reductions:
        there = ", ".join(experiment.reductions) or "none"
        raise WorkerError(
            ErrorCode.REDUCTION_NOT_FOUND,
            f"The experiment's active reduction {name!r}, which {purpose}, is missing: it has {there}.",
        )
    values = experiment.reductions[name].values
    missing = experiment.n_cells - int(np.count_nonzero(_placed(values)))
    if missing:
        raise WorkerError(
            ErrorCode.REDUCTION_NOT_FOUND,
            f"The reduction {name!r}, which {purpose}, has no coordinates for {missing} of {experiment.n_cells} cells.",
        )
    return values


def full_reduction(experiment: Experiment) -> str:
    """Return the name of the active reduction; of a sketch's, that of the reduction of all cells where there is one."""
    active = experiment.misc.active_reduction
    full = active.removesuffix(_SKETCH)
    return full if full in experiment.reductions else active


def find_sketch(experiment: Experiment) -> tuple[str, NDArray[np.int64]] | None:
    """Return the name of the reduction of all cells and the rows of the sketch; None where the object has no sketch."""
    active, full = experiment.misc.active_reduction, full_reduction(experiment)
    if full == active or active not in experiment.reductions:
        return None
    chosen = np.flatnonzero(_placed(experiment.reductions[active].values))
    return (full, chosen) if 0 < len(chosen) < experiment.n_cells else None


def _placed(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.asarray(np.isfinite(values).all(axis=1))
