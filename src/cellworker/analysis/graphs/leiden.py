"""Leiden clusters of largest modularity, seeded and repeatable (algorithms.md, section 6.5)."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from cellworker.analysis.graphs.louvain import by_falling_size
from cellworker.analysis.graphs.snn import Links
from cellworker.native import address, kernel

__all__ = ["leiden", "modularity", "potts_leiden"]

_RANDOMNESS = 0.01
_REPORT_S = 0.1
_LEFT = 0.6  # of what an iteration can still gain, the next one leaves about this; for progress alone
_MAX_ITERATIONS = 20
_MAX_LINKS_OVER_ALL_STARTS = 20_000_000
"""Max links that all starts together visit: a larger graph gets fewer starts."""
_MAX_STARTS, _MIN_STARTS = 50, 1


def leiden(
    links: Links,
    resolution: float,
    *,
    seed: int = 42,
    loops: float = 1.0,
    max_links: int = _MAX_LINKS_OVER_ALL_STARTS,
    on_progress: Callable[[float], None] | None = None,
) -> NDArray[np.int32]:
    """Find communities of large modularity: the best of some starts, each repeated until modularity stops growing.

    Small graphs get more starts: they miss the best optimum more easily, and a start costs little.

    Parameters
    ----------
    links
        The graph.
    resolution
        Weight of the expected links, from 0; larger means more clusters.
    seed
        Of the generator that all starts share.
    loops
        Weight of each cell's link to itself, which counts twice in its strength: 1 as in Seurat's graph, 0 for none.
    max_links
        Max links that all starts together visit; a start counts as ten visits of each link. There is always one start.
    on_progress
        Called with the fraction done; may raise to stop.

    Returns
    -------
    numpy.ndarray
        int32 ``(n_cells,)``: clusters numbered from 0 by falling size.

    Raises
    ------
    MemoryError
        If memory runs out.
    """
    n = len(links)
    if not n:
        return np.empty(0, np.int32)
    strength = _strength(links, loops)
    if not strength.any():
        return np.arange(n, dtype=np.int32)
    state = np.array([seed], np.uint64)
    report = on_progress or (lambda fraction: None)  # noqa: ARG005
    best, highest = np.zeros(n, np.int32), -np.inf
    starts = int(np.clip(max_links // (10 * max(1, len(links.cells))), _MIN_STARTS, _MAX_STARTS))
    quality = np.empty(1)
    for start in range(starts):
        labels, reached = np.arange(n, dtype=np.int32), -np.inf
        for iteration in range(_MAX_ITERATIONS):
            search = _Search(state, labels, quality)
            _iterate(
                links,
                strength,
                resolution / strength.sum(),
                search,
                partial(report, (start + 1 - _LEFT**iteration) / starts),
            )
            gain, reached = float(quality[0]) - reached, float(quality[0])
            if gain <= 1e-9 * strength.sum():
                break
        if reached > highest:
            best, highest = labels, reached
    return by_falling_size(best)


def potts_leiden(
    links: Links,
    resolution: float,
    *,
    iterations: int = 2,
    seed: int = 42,
    on_progress: Callable[[float], None] | None = None,
) -> NDArray[np.int32]:
    """Find communities whose average link weight between cells is at least `resolution`.

    The quality is the constant Potts model (Traag and others 2011, doi:10.1103/PhysRevE.84.016114): the weight inside a
    community minus `resolution` times the number of its pairs.

    Parameters
    ----------
    links
        The graph.
    resolution
        Min density, from 0; larger means more clusters.
    iterations
        Number of repetitions of the method.
    seed
        Of the generator.
    on_progress
        Called with the fraction done; may raise to stop.

    Returns
    -------
    numpy.ndarray
        int32 ``(n_cells,)``: clusters numbered from 0 by falling size.

    Raises
    ------
    MemoryError
        If memory runs out.
    """
    n = len(links)
    report = on_progress or (lambda fraction: None)  # noqa: ARG005
    search = _Search(np.array([seed], np.uint64), np.arange(n, dtype=np.int32), np.empty(1))
    sizes = np.ones(n)
    for i in range(iterations if n else 0):
        _iterate(links, sizes, resolution, search, partial(report, i / iterations))
    return by_falling_size(search.labels)


def modularity(links: Links, labels: NDArray[np.integer], resolution: float, *, loops: float = 1.0) -> float:
    """Return the quality of clusters, labels ``(n_cells,)``: the share of weight inside them minus the expected."""
    strength = _strength(links, loops)
    rows = np.repeat(np.arange(len(links)), np.diff(links.indptr))
    inside = links.weights[labels[rows] == labels[links.cells]].sum() + 2 * loops * len(links)
    total = np.bincount(labels, strength)
    whole = strength.sum()
    return float((inside - resolution * (total**2).sum() / whole) / whole)


@dataclass(frozen=True, slots=True)
class _Search:
    """State of a search for communities: the generator, the labels, and their quality."""

    state: NDArray[np.uint64]
    labels: NDArray[np.int32]
    quality: NDArray[np.float64]


def _iterate(
    links: Links, strength: NDArray[np.float64], resolution: float, search: _Search, report: Callable[[], None]
) -> None:
    """Improve the labels once. `report` is called several times a second; an exception from it stops the work."""
    iterate = kernel("cw_leiden_iteration")  # fmt: skip
    stop = np.zeros(1, np.int32)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(
            iterate,
            address(links.indptr, np.int64), address(links.cells, np.int32), address(links.weights, np.float64),
            address(strength, np.float64), len(links), resolution, _RANDOMNESS,
            address(search.state, np.uint64, writable=True), address(search.labels, np.int32, writable=True),
            address(search.quality, np.float64, writable=True), address(stop, np.int32),
        )  # fmt: skip
        try:
            report()
            while not wait([running], _REPORT_S).done:
                report()
        except BaseException:
            stop[0] = 1
            raise
        if running.result() < 0:
            raise MemoryError("no memory for the clustering")


def _strength(links: Links, loops: float) -> NDArray[np.float64]:
    rows = np.repeat(np.arange(len(links)), np.diff(links.indptr))
    return np.asarray(np.bincount(rows, links.weights, minlength=len(links)) + 2.0 * loops, np.float64)
