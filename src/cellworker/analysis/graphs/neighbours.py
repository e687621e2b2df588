"""Nearest neighbours as in Seurat: a forest of random hyperplane trees, the method of Annoy."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cellworker.native import address, kernel

__all__ = ["Metric", "Neighbours", "nearest_neighbours", "single_precision"]

Metric = Literal["cosine", "euclidean"]
OnProgress = Callable[[float], None]

_BLOCK = 2048  # queries
_BUILDING = 0.5  # share of the time, roughly, on two threads


@dataclass(frozen=True, slots=True)
class Neighbours:
    """The nearest points of each query.

    Attributes
    ----------
    cells
        int32 ``(n_queries, k)``: row numbers, nearest first, ties by number; -1 where fewer were found.
    distances
        float32 ``(n_queries, k)``: Euclidean, or for cosine the Euclidean distance of the unit vectors.
    """

    cells: NDArray[np.int32]
    distances: NDArray[np.float32]


def nearest_neighbours(
    points: NDArray[np.floating],
    k: int,
    metric: Metric,
    *,
    queries: NDArray[np.floating] | None = None,
    n_trees: int = 50,
    candidates: int | None = None,
    threads: int = 1,
    on_progress: OnProgress | None = None,
) -> Neighbours:
    """Find the `k` nearest points of each query.

    The neighbours are those of Annoy (algorithms.md, section 6.2) built with one job and its default seed: single
    precision, points added in order.

    Parameters
    ----------
    points
        ``(n_points, n_dims)``, finite.
    k
        Number of neighbours, at most `n_points`. A point is its own first neighbour.
    metric
        "cosine" or "euclidean".
    queries
        ``(n_queries, n_dims)``, finite; by default the points.
    n_trees
        Size of the forest.
    candidates
        Approximate number of points examined for each query; by default ``k * n_trees``.
    threads
        Threads for the queries; the result does not depend on it.
    on_progress
        Called with the fraction done; may raise to stop.

    Raises
    ------
    ValueError
        If shapes do not fit, `k` is out of range, or a coordinate is not a finite number in single precision.
    MemoryError
        If the trees do not fit in memory.
    """
    mine = single_precision(points)
    asked = mine if queries is None else single_precision(queries)
    n, dims = mine.shape
    if asked.shape[1] != dims or dims < 1:
        message = f"points have {dims} dimensions and queries {asked.shape[1]}"
        raise ValueError(message)
    if not 1 <= k <= n or n_trees < 1 or n > np.iinfo(np.int32).max:
        message = f"cannot find {k} of {n} points with {n_trees} trees"
        raise ValueError(message)
    report = on_progress or (lambda fraction: None)  # noqa: ARG005
    new = kernel("cw_forest_new")
    grow = kernel("cw_forest_grow")
    query = kernel("cw_forest_query")
    free = kernel("cw_forest_free")
    found = Neighbours(np.empty((len(asked), k), np.int32), np.empty((len(asked), k), np.float32))

    forest = new(address(mine, np.float32), n, dims, metric == "cosine", n_trees)
    if not forest:
        raise MemoryError("no memory for the neighbour search")
    try:
        for tree in range(n_trees):
            report(_BUILDING * tree / n_trees)
            if grow(forest):
                raise MemoryError("no memory for the neighbour search")

        places = np.empty(len(asked), np.int32)
        kernel("cw_forest_places")(
            forest, address(asked, np.float32), len(asked), address(places, np.int32, writable=True)
        )
        # Neighbours in space one after the other, so that the nodes they read stay in the cache.
        order = np.argsort(places, kind="stable").astype(np.int32)

        def block(start: int) -> None:
            some = order[start : start + _BLOCK]
            if query(
                forest, address(asked, np.float32), address(some, np.int32), len(some), k, candidates or k * n_trees,
                address(found.cells, np.int32, writable=True), address(found.distances, np.float32, writable=True),
            ):  # fmt: skip
                raise MemoryError("no memory for the neighbour search")

        with ThreadPoolExecutor(max(1, threads)) as pool:
            done = 0
            # In rounds, so that a stopped search ends instead of continuing in the background.
            starts = range(0, len(asked), _BLOCK)
            for first in range(0, len(starts), max(1, threads)):
                report(_BUILDING + (1 - _BUILDING) * done / max(1, len(asked)))
                round_ = starts[first : first + max(1, threads)]
                list(pool.map(block, round_))
                done += len(round_) * _BLOCK
    finally:
        free(forest)
    return found


def single_precision(points: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return points ``(n_points, n_dims)`` as a C-contiguous float32 matrix; the same array where it already is one.

    Raises
    ------
    ValueError
        If they are no matrix, or a coordinate is not a finite number in single precision.
    """
    if points.ndim != 2:
        raise ValueError("points must be a matrix")
    with np.errstate(over="ignore"):
        out = np.ascontiguousarray(points, np.float32)
    if not np.isfinite(out).all():
        raise ValueError("coordinates must be finite numbers")
    return out
