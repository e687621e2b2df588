"""t-SNE: a map of cells on which neighbours stay neighbours (van der Maaten and Hinton 2008)."""

import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from cellworker.analysis.graphs.neighbours import Neighbours
from cellworker.native import address, kernel

__all__ = ["neighbours_for", "tsne"]

OnProgress = Callable[[float], None]

_EXAGGERATION, _EXAGGERATED = 12.0, 250
_STOPS = (0, 50, _EXAGGERATED, 500)
"""Iterations before which points are renumbered, so that near points are near in memory."""
_MIN_RATE = 200.0
_HIGHEST_RATE = 1e12  # above it, every move already has the max length
_SPREAD, _NOISE = 1e-4, 0.01
_AFFINITIES, _LINKS = 0.03, 0.06  # shares of the time that are over then, roughly
_BLOCK = 1 << 20  # neighbours
_PAUSE = 0.15  # seconds between two progress reports
_FEW = 2000  # max points for which threads wait longer than they work


def neighbours_for(perplexity: float, n_points: int) -> int:
    """Return the number of neighbours for `tsne`, the point itself included: three times the perplexity plus one.

    Raises
    ------
    ValueError
        If the perplexity is not above 0, or too large for so few points.
    """
    if not (math.isfinite(perplexity) and perplexity > 0):
        message = f"the perplexity is a number above 0, not {perplexity}"
        raise ValueError(message)
    if 3 * perplexity > n_points - 1:
        largest = max(0, n_points - 1) / 3
        message = f"a perplexity of {perplexity:g} is too large for {n_points} cells: at most {largest:.4g} is possible"
        raise ValueError(message)
    return max(2, int(3 * perplexity) + 1)


def tsne(
    neighbours: Neighbours,
    *,
    perplexity: float = 30,
    learning_rate: float | None = 200,
    points: NDArray[np.floating] | None = None,
    n_iterations: int = 1000,
    seed: int = 1,
    threads: int = 1,
    on_progress: OnProgress | None = None,
) -> NDArray[np.float32]:
    """Lay out cells in the plane.

    The schedule is that of van der Maaten's own program and of Rtsne: attraction exaggerated 12 times and momentum 0.5
    for 250 iterations, then momentum 0.8, with gains. No move is longer than 5 units, so large learning rates stay
    stable. Repulsion is interpolated on a grid (Linderman et al., Nature Methods 16:243, 2019); for few cells it is
    summed pair by pair.

    Parameters
    ----------
    neighbours
        The k nearest of each cell, with k from `neighbours_for`; the cell itself among them is ignored. Rows may have
        fewer neighbours (-1), and cells may coincide.
    perplexity
        Effective number of neighbours, above 0, up to (n - 1) / 3.
    learning_rate
        Length of the steps, 0 or more. 0 and None choose it by the number of cells: n over the exaggeration (Belkina et
        al., Nature Communications 10:5415, 2019), that is n / 12 and later n, but at least 200. 200 is too small for
        many tens of thousands of cells.
    points
        ``(n, n_dims >= 1)``, finite: the cells start at the first two columns, which should be principal components. By
        default they start at random places.
    n_iterations
        Steps of the descent.
    seed
        Seed of the start: all of it without `points`; with `points` a hundredth, which separates coinciding cells.
    threads
        Threads to use; the result does not depend on it.
    on_progress
        Called with the fraction done; may raise to stop.

    Returns
    -------
    numpy.ndarray
        float32 ``(n, 2)``, centred.

    Raises
    ------
    ValueError
        If shapes do not fit, a parameter is out of range, or a number is not finite.
    MemoryError
        If memory runs out.
    """
    cells, distances = neighbours.cells, neighbours.distances
    n, k = cells.shape
    if distances.shape != cells.shape or (points is not None and (points.ndim != 2 or len(points) != n)):
        raise ValueError("neighbours, distances and points are not of the same number of cells")
    rate = 0.0 if learning_rate is None else learning_rate
    if not (math.isfinite(rate) and rate >= 0) or n_iterations < 0:
        message = f"the learning rate ({rate}) and the number of iterations ({n_iterations}) are numbers from 0"
        raise ValueError(message)
    rates = (rate, rate) if learning_rate else (max(_MIN_RATE, n / _EXAGGERATION), max(_MIN_RATE, n))
    start = _start(n, points, seed)
    if n < 2:
        return np.zeros((n, 2), np.float32)
    if k < neighbours_for(perplexity, n):
        message = f"a perplexity of {perplexity:g} needs {neighbours_for(perplexity, n)} neighbours, not {k}"
        raise ValueError(message)
    if cells.max() >= n or not np.isfinite(distances[cells >= 0]).all():
        raise ValueError("neighbours must be cells at finite distances")
    report = on_progress or (lambda fraction: None)  # noqa: ARG005
    n_threads = 1 if n < _FEW else max(1, threads)
    weights = _affinities(
        np.ascontiguousarray(cells, np.int32),
        np.ascontiguousarray(distances, np.float32),
        perplexity,
        n_threads,
        report,
    )
    with _layout(start, n_threads) as layout:
        _link(layout, np.ascontiguousarray(cells, np.int32), weights, report)
        del weights
        # Where neighbourhoods are a large share of all cells, exaggeration only contracts the layout.
        exaggeration = min(_EXAGGERATION, max(1.0, n / (3 * perplexity)))
        early, late = (min(rate, _HIGHEST_RATE) for rate in rates)
        out = _descend(
            layout,
            start,
            n_iterations,
            rates=(early, late),
            exaggeration=exaggeration,
            n_threads=n_threads,
            report=report,
        )
    return _centred(out).astype(np.float32)


def _affinities(
    cells: NDArray[np.int32], distances: NDArray[np.float32], perplexity: float, threads: int, report: OnProgress
) -> NDArray[np.float32]:
    """Weights ``(n, k)`` of the neighbours, with sum 1 for each cell."""
    affinities = kernel("cw_tsne_affinities")
    n, k = cells.shape
    out = np.empty((n, k), np.float32)
    rows = max(1, _BLOCK // (4 * k))

    def block(start: int) -> None:
        some = slice(start, start + rows)
        if affinities(
            address(cells[some], np.int32), address(distances[some], np.float32), start, len(cells[some]), k,
            perplexity, address(out[some], np.float32, writable=True),
        ):  # fmt: skip
            raise MemoryError("no memory for the affinities")

    with ThreadPoolExecutor(threads) as pool:
        starts = range(0, n, rows)
        for first in range(0, len(starts), threads):  # in rounds, so that a stopped computation ends
            report(_AFFINITIES * first / len(starts))
            list(pool.map(block, starts[first : first + threads]))
    return out


@contextmanager
def _layout(start: NDArray[np.float32], n_threads: int) -> Iterator[int]:
    new = kernel("cw_tsne_new")
    layout = new(address(start, np.float32), len(start), n_threads)
    if not layout:
        raise MemoryError("no memory for the layout")
    try:
        yield layout
    finally:
        kernel("cw_tsne_free")(layout)


def _link(layout: int, cells: NDArray[np.int32], weights: NDArray[np.float32], report: OnProgress) -> None:
    """Make the graph: the weight of a link is the mean of its two directions."""
    link = kernel("cw_tsne_link")
    n, k = cells.shape
    rows = max(1, 4 * _BLOCK // k)
    for step in range(4):
        for start in range(0, n, rows):
            report(_AFFINITIES + (_LINKS - _AFFINITIES) * (step + start / n) / 4)
            if link(
                layout, address(cells, np.int32), address(weights, np.float32), k, step, start, min(n, start + rows)
            ):
                raise MemoryError("no memory for the graph of neighbours")


def _descend(
    layout: int,
    start: NDArray[np.float32],
    n_iterations: int,
    *,
    rates: tuple[float, float],
    exaggeration: float,
    n_threads: int,
    report: OnProgress,
) -> NDArray[np.float32]:
    descend = kernel("cw_tsne_descend")
    sort = kernel("cw_tsne_sort")
    done, at_once = 0, 1
    with ThreadPoolExecutor(n_threads) as pool:
        while done < n_iterations:
            report(_LINKS + (1 - _LINKS) * done / n_iterations)
            if 0 < done <= _EXAGGERATED and done in _STOPS and np.ptp(_places(layout, start), axis=0).min() < _SPREAD:
                # The graph has no parts that exaggeration could separate: it draws all cells to one place.
                exaggeration = 1.0
                kernel("cw_tsne_place")(layout, address(start, np.float32))
            early = done < _EXAGGERATED
            phase = (rates[0], 0.5, exaggeration) if early else (rates[1], 0.8, 1.0)
            stop = min(stop for stop in (*_STOPS, n_iterations) if stop > done)
            steps = min(at_once, stop - done)
            began = time.monotonic()
            with _worker_threads(layout, n_threads, pool):
                failed = (done in _STOPS and sort(layout)) or descend(layout, steps, *phase)
            if failed:
                raise MemoryError("no memory for the layout")
            done += steps
            at_once = max(1, min(2 * steps, int(steps * _PAUSE / max(1e-6, time.monotonic() - began))))
    report(1.0)
    return _places(layout, start)


@contextmanager
def _worker_threads(layout: int, n_threads: int, pool: ThreadPoolExecutor) -> Iterator[None]:
    """Let threads of the pool run pieces of the work inside the block."""
    kernel("cw_tsne_open_pool")(layout)
    work = kernel("cw_tsne_work")
    workers: list[Future[None]] = []
    try:
        workers += [pool.submit(work, layout, thread) for thread in range(1, n_threads)]
        yield
    finally:
        kernel("cw_tsne_close_pool")(layout)
        wait(workers)


def _places(layout: int, like: NDArray[np.float32]) -> NDArray[np.float32]:
    out = np.empty_like(like)
    kernel("cw_tsne_layout")(layout, address(out, np.float32, writable=True))
    return out


def _start(n: int, points: NDArray[np.floating] | None, seed: int) -> NDArray[np.float32]:
    """Return the cells' start: close together, so that attraction can order them."""
    noise = _normal(2 * n, seed).reshape(n, 2)
    if points is None:
        return (_SPREAD * noise).astype(np.float32)
    first = np.zeros((n, 2))
    first[:, : points.shape[1]] = points[:, :2]
    if not np.isfinite(first).all():
        raise ValueError("coordinates must be finite numbers")
    largest = np.abs(first).max(initial=0)
    if largest > 0:
        first = _centred(first / largest)
    spread = math.sqrt(max(math.fsum(column * column) for column in first.T) / max(1, n))
    if spread > 0:
        first /= spread
    return (_SPREAD * (first + _NOISE * noise)).astype(np.float32)


def _centred(values: NDArray[np.floating]) -> NDArray[np.float64]:
    # Exact sums, which do not depend on a processor's order.
    means = [math.fsum(column) / max(1, len(column)) for column in values.T]
    return np.asarray(values - np.array(means), np.float64)


def _normal(n: int, seed: int) -> NDArray[np.float64]:
    """Return approximately normal numbers: sums of twelve uniform ones, by Steele, Lea and Flood's SplitMix."""
    total = np.zeros(n, np.int64)
    for draw in range(12):
        x = np.arange(draw * n + 1, (draw + 1) * n + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        x += np.uint64(seed % (1 << 64))
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        # Integers until the last step: their sum does not depend on the order.
        total += ((x ^ (x >> np.uint64(31))) >> np.uint64(40)).astype(np.int64)
    return total / float(1 << 24) - 6
