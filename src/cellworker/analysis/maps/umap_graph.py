"""UMAP's graph: each point's memberships in the neighbourhoods of others."""

import ctypes
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cellworker.analysis.graphs.neighbours import Metric, Neighbours
from cellworker.native import address, kernel

__all__ = ["WeightedGraph", "check_neighbours", "curve", "fuzzy_graph", "fuzzy_rows", "parts_of"]

_ROWS = 8192
_MIN = 1 / 500
_MAX_SPREADS = 10

_D = ctypes.c_double


@dataclass(frozen=True, slots=True)
class WeightedGraph:
    """Weighted links in compressed rows.

    Attributes
    ----------
    first
        int64 ``(n + 1,)``.
    to
        int32 ``(n_links,)``.
    weight
        float32 ``(n_links,)``, from 0 to 1.
    strength
        float32 ``(n,)``: the sum of each row's weights.
    """

    first: NDArray[np.int64]
    to: NDArray[np.int32]
    weight: NDArray[np.float32]
    strength: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.strength)

    def rearranged(self, order: NDArray[np.integer], run: Executor) -> "WeightedGraph":
        """Return the same graph with its points in another order."""
        order = np.ascontiguousarray(order, np.int32)
        place = np.empty(len(order), np.int32)
        place[order] = np.arange(len(order), dtype=np.int32)
        first = np.zeros(len(order) + 1, np.int64)
        np.cumsum(np.diff(self.first)[order], out=first[1:])
        to, weight = np.empty_like(self.to), np.empty_like(self.weight)
        fill = kernel("cw_umap_rearrange")
        given = (
            address(self.first, np.int64), address(self.to, np.int32), address(self.weight, np.float32),
            address(order, np.int32), address(place, np.int32),
        )  # fmt: skip
        made = (
            address(first, np.int64), address(to, np.int32, writable=True), address(weight, np.float32, writable=True),
        )  # fmt: skip
        for _, group in _groups(len(order)):
            list(run.map(lambda block: fill(*given, *block, *made), group))
        return WeightedGraph(first, to, weight, self.strength[order])


def curve(min_dist: float, spread: float) -> tuple[float, float]:
    """Return a and b of ``1 / (1 + a x^(2 b))`` fitted to the curve of `min_dist` and `spread`.

    The curve is 1 up to `min_dist` and ``exp((min_dist - x) / spread)`` beyond it, at 300 points up to ``3 * spread``
    (further where `min_dist` is above `spread`).

    Raises
    ------
    ValueError
        If `spread` is not a number above 0, or `min_dist` not one from 0 to ``10 * spread``.
    """
    if not (0 < spread < np.inf and 0 <= min_dist <= _MAX_SPREADS * spread):
        message = f"min_dist must be from 0 to {_MAX_SPREADS} spreads and spread above 0, not {min_dist} and {spread}"
        raise ValueError(message)
    a, b = _D(), _D()
    reach = 3 * spread + max(0.0, min_dist - spread)
    kernel("cw_umap_curve")(
        min_dist, spread, reach, ctypes.addressof(a), ctypes.addressof(b)
    )  # fmt: skip
    return a.value, b.value


def check_neighbours(neighbours: Neighbours, n_points: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Return cells and distances in the form that kernels read.

    Raises
    ------
    ValueError
        If shapes do not match, a neighbour is not one of `n_points`, or a distance is not finite or below 0.
    """
    cells = np.ascontiguousarray(neighbours.cells, np.int32)
    distances = np.ascontiguousarray(neighbours.distances, np.float32)
    if cells.ndim != 2 or cells.shape != distances.shape or not cells.size:
        message = f"neighbours must be a matrix with a distance each, not {cells.shape} and {distances.shape}"
        raise ValueError(message)
    if cells.max() >= n_points:
        raise ValueError("a neighbour is not among the points")
    there = distances[cells >= 0]
    if not (np.isfinite(there).all() and (there >= 0).all()):
        raise ValueError("distances must be finite numbers from 0")
    return cells, distances


def fuzzy_rows(
    cells: NDArray[np.int32],
    distances: NDArray[np.float32],
    run: Executor,
    *,
    metric: Metric,
    queries: bool,
    report: Callable[[float], None],
) -> NDArray[np.float32]:
    """Return the memberships of the neighbours of each point, float32 ``(n, k)``, 0 for the point itself and for none.

    The nearest neighbour gets 1. Beyond it, memberships fall exponentially with the distance, at the rate that makes
    their sum the binary logarithm of the number of neighbours. For `queries`, which are not among the points, even the
    nearest neighbour's membership falls with its distance, as in the original's transform.

    Raises
    ------
    MemoryError
        If memory runs out.
    """
    n, k = cells.shape
    fill = kernel("cw_umap_memberships")
    weights = np.empty((n, k), np.float32)
    given = (address(cells, np.int32), address(distances, np.float32), k)
    keep = k if queries else k - 1

    def rows(block: tuple[int, int]) -> int:
        return int(
            fill(*given, *block, not queries, keep, metric == "cosine", not queries,
                 address(weights, np.float32, writable=True))
        )  # fmt: skip

    for done, group in _groups(n):
        report(done)
        if any(run.map(rows, group)):
            raise MemoryError("no memory for the neighbours' memberships")
    return weights


def fuzzy_graph(
    neighbours: Neighbours, run: Executor, *, metric: Metric, report: Callable[[float], None]
) -> WeightedGraph:
    """Return the union of the neighbourhoods of all points: symmetric, columns ascending in each row.

    A link with memberships a and b in its two directions gets ``a + b - a b``; links below 1/500 are left out.

    Raises
    ------
    ValueError
        If a neighbour or a distance is impossible.
    MemoryError
        If memory runs out.
    """
    n = len(neighbours.cells)
    cells, distances = check_neighbours(neighbours, n)
    k = cells.shape[1]
    weights = fuzzy_rows(
        cells, distances, run, metric=metric, queries=False, report=lambda part: report(0.5 * part)
    )  # fmt: skip
    lists = (address(cells, np.int32), address(weights, np.float32))
    listed = np.zeros(n + 1, np.int64)
    np.cumsum(np.bincount(cells[weights > 0], minlength=n), out=listed[1:])
    n_listed = int(listed[-1])
    at, who, how = listed.copy(), np.empty(n_listed, np.int32), np.empty(n_listed, np.float32)
    turn = kernel("cw_umap_listed")
    for done, group in _groups(n):
        report(0.5 + 0.2 * done)
        turn(
            *lists, group[0][0], group[-1][1], k, address(at, np.int64, writable=True),
            address(who, np.int32, writable=True), address(how, np.float32, writable=True),
        )  # fmt: skip

    first, strength = np.zeros(n + 1, np.int64), np.empty(n, np.float32)
    to, weight = np.empty(2 * n_listed, np.int32), np.empty(2 * n_listed, np.float32)
    unite = kernel("cw_umap_union")
    end = 0
    for done, group in _groups(n):
        report(0.7 + 0.3 * done)
        end = unite(
            *lists, k, group[0][0], group[-1][1], address(listed, np.int64), address(who, np.int32),
            address(how, np.float32), _MIN, end, address(first, np.int64, writable=True),
            address(to, np.int32, writable=True), address(weight, np.float32, writable=True),
            address(strength, np.float32, writable=True),
        )  # fmt: skip
        if end < 0:
            raise MemoryError("no memory for the neighbours' graph")
    return WeightedGraph(first, to[:end].copy(), weight[:end].copy(), strength)


def parts_of(graph: WeightedGraph) -> tuple[int, NDArray[np.int32]]:
    """Return the number of connected parts, and the part of each point, int32 ``(n,)``, numbered by first points."""
    part, stack = np.empty(len(graph), np.int32), np.empty(len(graph), np.int32)
    find = kernel("cw_umap_parts")
    count = find(
        len(graph), address(graph.first, np.int64), address(graph.to, np.int32),
        address(part, np.int32, writable=True), address(stack, np.int32, writable=True),
    )  # fmt: skip
    return int(count), part


def _groups(n: int) -> Iterator[tuple[float, list[tuple[int, int]]]]:
    """Yield the fraction done and blocks of rows; a block takes a fraction of a second."""
    step = 8 * _ROWS
    for start in range(0, n, step):
        stop = min(start + step, n)
        yield start / n, [(row, min(row + _ROWS, stop)) for row in range(start, stop, _ROWS)]
