"""UMAP (McInnes, Healy and Melville, 2018): a map of points in two dimensions, the same for any number of threads."""

import ctypes
import math
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cellworker.analysis.graphs.neighbours import Metric, Neighbours, single_precision
from cellworker.analysis.maps.umap_graph import WeightedGraph, check_neighbours, curve, fuzzy_graph, fuzzy_rows
from cellworker.analysis.maps.umap_start import along_a_curve, beginning, noise, placed
from cellworker.native import address, kernel

__all__ = ["umap", "umap_of_graph", "umap_transform"]

OnProgress = Callable[[float], None]

_WINDOW = 64  # points that repel a point in an epoch
_NEGATIVES = 5.0  # repulsions for each unit of attraction
_RATE = 0.5
_BETAS = (0.5, 0.9)
_POWERS = 1000
"""Epochs after which powers of both are practically 0 and no longer change."""
_EPS = 1e-7
_ROWS = 2048
_GROUP = 65536  # rows between two reports: a fraction of a second
_FEW = 10_000  # points, up to which epochs are cheap
_TRIED_ROWS = 2000
_MAX_TRIES = 24

_P, _W, _F, _U = ctypes.c_void_p, ctypes.c_int32, ctypes.c_float, ctypes.c_uint64


class _Layout(ctypes.Structure):
    """The state that `cw_umap_move` reads and writes, field by field as in umap.c."""

    _fields_ = (
        *((name, _P) for name in ("first", "to", "weight", "strength", "anchors", "pool_x", "pool_y")),
        *((name, _P) for name in ("old", "new", "moments", "next_x", "next_y", "place")),
        ("seed", _U), ("n_pool", _W), ("window", _W), ("a", _F), ("b", _F), ("negatives", _F),
    )  # fmt: skip


class _Step(ctypes.Structure):
    _fields_ = (("rate", _F), ("beta1", _F), ("beta2", _F), ("eps", _F))


def umap(
    neighbours: Neighbours,
    *,
    min_dist: float,
    spread: float = 1.0,
    metric: Metric = "euclidean",
    points: NDArray[np.floating] | None = None,
    n_epochs: int | None = None,
    seed: int = 42,
    threads: int = 1,
    on_progress: OnProgress | None = None,
) -> NDArray[np.float32]:
    """Compute a layout in which near points stay near.

    Memberships and their union are those of the paper (and of uwot's umap2). The layout moves all points at once, by
    the gradients of the previous epoch (uwot's batch mode, with Adam), and sums attraction over all links instead of
    sampling. For up to 1,000 points it makes several layouts and returns the one that keeps most neighbours: with so
    few points, a single layout depends too much on chance.

    Parameters
    ----------
    neighbours
        The nearest points of each point, itself included, as from `nearest_neighbours`.
    min_dist
        Min distance of points, from 0 to ten times `spread`.
    spread
        Scale of the layout, above 0.
    metric
        The metric of the neighbours. For "cosine", whose distances are lengths d of chords, the layout uses ``d^2 /
        2``, which is one minus the cosine.
    points
        ``(n, n_dims)``: the data behind the neighbours, if the layout should start from it (the first seven dimensions
        count; principal components have the right order). By default it starts from noise.
    n_epochs
        Number of epochs; by default 500, or 200 for more than 10,000 points and for each of several layouts.
    seed
        From 0 to 2^64 - 1.
    threads
        Threads to use; the result does not depend on it, to the last bit.
    on_progress
        Called with the fraction done; may raise to stop.

    Returns
    -------
    float32 ``(n, 2)``, with mean 0.

    Raises
    ------
    ValueError
        If shapes do not fit, a number is out of range, or a distance or coordinate is not finite.
    MemoryError
        If memory runs out.
    """
    report = on_progress or (lambda fraction: None)  # noqa: ARG005
    a, b = curve(min_dist, spread)
    check_neighbours(neighbours, len(neighbours.cells))
    n = len(neighbours.cells)
    begins = None if points is None else _places(points, n)
    _check_counts(n_epochs, seed)
    if n == 1:
        return np.zeros((1, 2), np.float32)
    tries, epochs = _effort(n, n_epochs)
    report(0.0)
    with ThreadPoolExecutor(max(1, threads)) as run:
        graph = fuzzy_graph(neighbours, run, metric=metric, report=lambda part: report(0.04 * part))
        kept = _Tries(neighbours.cells, epochs, tries)
        return _laid_out(
            graph, begins, kept, shape=(a, b), seed=seed, run=run, threads=threads,
            report=lambda part: report(0.04 + 0.96 * part),
        )  # fmt: skip


def umap_of_graph(
    graph: WeightedGraph,
    *,
    min_dist: float,
    spread: float = 1.0,
    shape: tuple[float, float] | None = None,
    points: NDArray[np.floating] | None = None,
    start: NDArray[np.floating] | None = None,
    n_epochs: int | None = None,
    seed: int = 42,
    threads: int = 1,
    on_progress: OnProgress | None = None,
) -> NDArray[np.float32]:
    """Lay out the points of an existing graph, like scanpy's ``obsp["connectivities"]``.

    Parameters
    ----------
    graph
        Symmetric, without loops, weights from 0 to 1; a link below 1/500 hardly counts.
    shape
        The curve's a and b, above 0; by default those of `min_dist` and `spread`.
    start
        ``(n, 2)``, finite: where the points start, whatever the scale, instead of what follows from `points`.
    min_dist, spread, points, n_epochs, seed, threads, on_progress
        As for `umap`.

    Returns
    -------
    float32 ``(n, 2)``, with mean 0. For more than 1,000 points and the graph of `umap`, it is the result of `umap`.

    Raises
    ------
    ValueError
        If shapes do not fit or a number is out of range.
    MemoryError
        If memory runs out.
    """
    report = on_progress or (lambda fraction: None)  # noqa: ARG005
    shape = shape or curve(min_dist, spread)
    n = len(graph)
    begins = None if points is None else _places(points, n)
    _check_counts(n_epochs, seed)
    if n == 1:
        return np.zeros((1, 2), np.float32)
    tries, epochs = _effort(n, n_epochs)
    report(0.0)
    lists = _strongest(graph) if tries > 1 else np.empty((n, 0), np.int32)
    with ThreadPoolExecutor(max(1, threads)) as run:
        several = _Tries(lists, epochs, tries, start)
        return _laid_out(graph, begins, several, shape=shape, seed=seed, run=run, threads=threads, report=report)


@dataclass(frozen=True, slots=True)
class _Tries:
    """Number of layouts, their epochs, and where they start if given; the layout that keeps most of `lists` wins."""

    lists: NDArray[np.int32]
    epochs: int
    count: int
    start: NDArray[np.floating] | None = None


def _effort(n: int, n_epochs: int | None) -> tuple[int, int]:
    """Return the number of layouts, and their epochs."""
    tries = max(1, min(_MAX_TRIES, _TRIED_ROWS // n))
    return tries, n_epochs if n_epochs is not None else 500 if tries == 1 and n <= _FEW else 200


def _strongest(graph: WeightedGraph) -> NDArray[np.int32]:
    """Return each point's strongest links, the strongest first, after the point itself; -1 for none."""
    lengths = np.diff(graph.first)
    k = int(np.median(lengths)) if len(lengths) else 0
    rows = np.repeat(np.arange(len(graph)), lengths)
    order = np.lexsort((graph.to, -graph.weight, rows))
    rank = np.arange(len(rows)) - np.repeat(graph.first[:-1], lengths)
    kept = rank < k
    out = np.full((len(graph), k + 1), -1, np.int32)
    out[:, 0] = np.arange(len(graph))
    out[rows[kept], rank[kept] + 1] = graph.to[order][kept]
    return out


def _laid_out(
    graph: WeightedGraph,
    begins: NDArray[np.float32] | None,
    tries: _Tries,
    *,
    shape: tuple[float, float],
    seed: int,
    run: Executor,
    threads: int,
    report: OnProgress,
) -> NDArray[np.float32]:
    n = len(graph)
    if tries.start is None:
        begin = beginning(graph, begins, seed, run, lambda part: report(0.11 * part))
    else:
        begin = placed(tries.start, seed)
    # Order points so that those near in the layout, which are read together, are near in memory.
    order = along_a_curve(begin)
    graph, begin = graph.rearranged(order, run), begin[order]
    best, max_kept = begin, -1.0
    for i in range(tries.count):

        def told(part: float, i: int = i) -> None:
            report(0.11 + 0.89 * (i + part) / tries.count)

        # Every start but the first has its own seed and starting point.
        start = begin if i == 0 else begin + np.float32(5 * (i % 3)) * noise((n, 2), seed + i)
        layout = _moved(_Task(graph, start, None, (seed + i) % 2**64, *shape, tries.epochs, _RATE), run, threads, told)
        out = np.empty_like(layout)
        out[order] = layout
        kept = _kept(tries.lists, out) if tries.count > 1 else 0.0
        if kept > max_kept:
            best, max_kept = out, kept
    for d in range(2):
        # the exact sum in any order
        best[:, d] -= np.float32(math.fsum(best[:, d].tolist()) / n)
    return best


def umap_transform(
    neighbours: Neighbours,
    layout: NDArray[np.floating],
    *,
    min_dist: float,
    spread: float = 1.0,
    metric: Metric = "euclidean",
    n_epochs: int | None = None,
    seed: int = 42,
    threads: int = 1,
    on_progress: OnProgress | None = None,
) -> NDArray[np.float32]:
    """Place new points in a layout, which does not change.

    A point starts at the mean of its neighbours' coordinates, weighted by their memberships, and moves for a few
    epochs.

    Parameters
    ----------
    neighbours
        The nearest points of each new point, among those of the layout.
    layout
        ``(n_old, 2)``, finite.
    min_dist, spread, metric, seed, threads, on_progress
        As in `umap`; use the values with which the layout was made.
    n_epochs
        Number of epochs; by default 100, or 30 for more than 10,000 new points.

    Returns
    -------
    float32 ``(n_new, 2)``.

    Raises
    ------
    ValueError
        If shapes do not fit, a number is out of range or not finite, or a point has no neighbour.
    MemoryError
        If memory runs out.
    """
    report = on_progress or (lambda fraction: None)  # noqa: ARG005
    a, b = curve(min_dist, spread)
    old = _places(layout, len(layout))
    if old.shape[1] != 2:
        raise ValueError("a layout has two dimensions")
    cells, distances = check_neighbours(neighbours, len(old))
    if (cells < 0).all(axis=1).any():
        raise ValueError("a point has no neighbour")
    _check_counts(n_epochs, seed)
    n, k = cells.shape
    epochs = n_epochs if n_epochs is not None else 100 if n <= _FEW else 30
    report(0.0)
    with ThreadPoolExecutor(max(1, threads)) as run:
        weights = fuzzy_rows(
            cells, distances, run, metric=metric, queries=True, report=lambda part: report(0.1 * part)
        )  # fmt: skip
        cells = np.maximum(cells, 0)
        # Neighbour by neighbour: the same sums on every machine.
        strength, start = np.zeros(n, np.float32), np.zeros((n, 2), np.float32)
        for j in range(k):
            strength += weights[:, j]
            start += weights[:, j, None] * old[cells[:, j]]
        start /= strength[:, None]
        graph = WeightedGraph(np.arange(0, n * k + 1, k, dtype=np.int64), cells.ravel(), weights.ravel(), strength)
        task = _Task(graph, start, old, seed, a, b, epochs, _RATE / 4)
        return _moved(task, run, threads, lambda part: report(0.2 + 0.8 * part))


@dataclass(frozen=True, slots=True)
class _Task:
    """Points to move: `anchors` are the ends of links, None for the points themselves."""

    graph: WeightedGraph
    start: NDArray[np.float32]
    anchors: NDArray[np.float32] | None
    seed: int
    a: float
    b: float
    epochs: int
    rate: float


def _moved(task: _Task, run: Executor, threads: int, report: OnProgress) -> NDArray[np.float32]:
    graph, n = task.graph, len(task.graph)
    old, new = np.array(task.start, np.float32, order="C"), np.empty((n, 2), np.float32)
    anchors = old if task.anchors is None else task.anchors
    n_pool = len(anchors)
    place = np.empty(n_pool, np.int32)
    kernel("cw_umap_shuffle")(address(place, np.int32, writable=True), n_pool, task.seed)
    pool = np.empty((2, n_pool + _WINDOW), np.float32)
    pool[:, place] = anchors.T
    pool[:, n_pool:] = np.resize(pool[:, :n_pool].T, (_WINDOW, 2)).T
    next_pool = np.empty_like(pool)
    moments = np.zeros((n, 4), np.float32)
    move = kernel("cw_umap_move")
    whole = ctypes.sizeof(ctypes.c_float) * (n_pool + _WINDOW)

    # Look it up once: small maps have hundreds of epochs, each as short as the lookup.
    links = (
        address(graph.first, np.int64), address(graph.to, np.int32), address(graph.weight, np.float32),
        address(graph.strength, np.float32),
    )  # fmt: skip
    of_anchors, of_place = address(anchors, np.float32), address(place, np.int32)
    here = {id(array): address(array, np.float32, writable=True) for array in (old, new, pool, next_pool, moments)}
    self_moving = task.anchors is None
    beta1, beta2 = _BETAS
    power1 = power2 = 1.0
    for epoch in range(task.epochs):
        of_pool, of_next, of_old = here[id(pool)], here[id(next_pool)], here[id(old)]
        layout = _Layout(
            *links, of_old if self_moving else of_anchors, of_pool, of_pool + whole, of_old, here[id(new)],
            here[id(moments)], of_next if self_moving else None, of_next + whole if self_moving else None,
            of_place, task.seed, n_pool, _WINDOW, task.a, task.b, _NEGATIVES,
        )  # fmt: skip
        if epoch < _POWERS:  # only multiplications, which are the same on every machine
            power1, power2 = power1 * beta1, power2 * beta2
        rate = task.rate * (1 - epoch / task.epochs)
        rate *= math.sqrt(1 - power2) / (1 - power1)
        step = _Step(rate, beta1, beta2, _EPS)
        at, how = ctypes.addressof(layout), ctypes.addressof(step)
        for first in range(0, n, _GROUP):
            report((epoch + first / n) / task.epochs)
            last = min(first + _GROUP, n)
            if threads < 2 or last - first <= _ROWS:
                move(at, first, last, epoch, how)
            else:
                blocks = range(first, last, _ROWS)
                list(run.map(lambda row: move(at, row, min(row + _ROWS, last), epoch, how), blocks))  # noqa: B023
        old, new, pool, next_pool = new, old, *((next_pool, pool) if self_moving else (pool, next_pool))
    return old


def _kept(cells: NDArray[np.int32], layout: NDArray[np.float32]) -> float:
    """Return the share of listed neighbours that are near in the layout: for the lists, and for their nearer halves."""
    dx, dy = (layout[:, None, d] - layout[None, :, d] for d in range(2))
    near = np.argsort(dx * dx + dy * dy, axis=1, kind="stable")
    rank = np.empty_like(near)
    np.put_along_axis(rank, near, np.arange(len(near))[None], axis=1)
    total = 0.0
    for length in {cells.shape[1], (cells.shape[1] + 1) // 2}:
        some = cells[:, :length]
        inside = (np.take_along_axis(rank, np.maximum(some, 0), axis=1) < length) & (some >= 0)
        total += int(np.count_nonzero(inside)) / length
    return total


def _places(points: NDArray[np.floating], n: int) -> NDArray[np.float32]:
    if points.ndim != 2 or len(points) != n or not points.shape[1]:
        message = f"expected a place for each of {n} points, not {points.shape}"
        raise ValueError(message)
    return single_precision(points)


def _check_counts(n_epochs: int | None, seed: int) -> None:
    if (n_epochs is not None and n_epochs < 1) or not 0 <= seed < 2**64:
        message = f"epochs must be at least 1 and the seed fit 64 bits, not {n_epochs} and {seed}"
        raise ValueError(message)
