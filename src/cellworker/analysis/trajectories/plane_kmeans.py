"""K-means clusters of points in the plane, as R's ``kmeans`` finds them."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from cellworker.native import address, kernel

__all__ = ["bounding_box", "plane_kmeans"]

_POINTS_AT_A_TIME = 200_000


def bounding_box(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return left, bottom, right and top of points ``(n, 2)``."""
    return np.concatenate([points.min(axis=0), points.max(axis=0)])


def plane_kmeans(
    points: NDArray[np.float64],
    centres: NDArray[np.float64],
    *,
    rounds: int = 100,
    on_progress: Callable[[float], None] | None = None,
) -> NDArray[np.int32]:
    """Cluster by Hartigan and Wong's method (algorithm AS 136, doi:10.2307/2346830).

    Parameters
    ----------
    points
        float64 ``(n, 2)``, finite.
    centres
        float64 ``(k, 2)``: the initial centres, with k from 1 to n.
    rounds
        Max rounds. A round is a pass over all clusters, and passes over each point's best two until nothing moves.
    on_progress
        Called with an upper bound of the fraction done; may raise to stop.

    Returns
    -------
    numpy.ndarray
        int32 ``(n,)``: the clusters, 0 to k - 1. Where points coincide, clusters may be empty.

    Raises
    ------
    MemoryError
        If memory runs out.
    """
    n, k = len(points), len(centres)
    own = np.zeros(n, np.int32)
    if k <= 1:
        return own
    new = kernel("cw_kmeans_new")
    run = kernel("cw_kmeans_run")
    free = kernel("cw_kmeans_free")
    box = bounding_box(points)
    state = new(
        address(points, np.float64), n, address(box, np.float64), address(centres, np.float64), k,
        address(own, np.int32, writable=True),
    )  # fmt: skip
    if not state:
        raise MemoryError("no memory for the k-means clusters")
    try:
        if on_progress:
            on_progress(0)
        passes = 0.0
        while not run(state, _POINTS_AT_A_TIME, rounds):
            passes += _POINTS_AT_A_TIME / n
            if on_progress:
                on_progress(1 - 1 / (1 + passes / 30))
    finally:
        free(state)
    return own
