"""Finds the reduction for clusters and embeddings, and the sketch where an object has one."""

import numpy as np
from numpy.typing import NDArray

from cellworker.experiment.model import Experiment
from cellworker.experiment.suitability import full_reduction, placed, require

__all__ = ["coordinates_of", "find_sketch", "full_reduction"]


def coordinates_of(experiment: Experiment, name: str, purpose: str) -> NDArray[np.float64]:
    """Return a reduction's coordinates, float64 ``(n_cells, n_dims)``, all finite.

    Parameters
    ----------
    purpose
        Completes the message "the reduction 'pca', which ...".

    Raises
    ------
    WorkerError
        ``REDUCTION_NOT_FOUND`` when it is missing or has no place for some cells.
    """
    require(placed(experiment, name=name, purpose=purpose))
    return experiment.reductions[name].values


def find_sketch(experiment: Experiment) -> tuple[str, NDArray[np.int64]] | None:
    """Return the name of the reduction of all cells and the rows of the sketch; None where the object has no sketch."""
    active, full = experiment.misc.active_reduction, full_reduction(experiment)
    if full == active or active not in experiment.reductions:
        return None
    chosen = np.flatnonzero(_placed(experiment.reductions[active].values))
    return (full, chosen) if 0 < len(chosen) < experiment.n_cells else None


def _placed(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.asarray(np.isfinite(values).all(axis=1))
