"""Leiden clusters of largest modularity, seeded and repeatable (algorithms.md, section 6.5)."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from cellworker.analysis.graphs.louvain import by_falling_size
from cellworker.analysis.graphs.neighbour_links import Network, merged
from cellworker.analysis.graphs.snn import Links
from cellworker.native import address, kernel
from cellworker.progress import reporting

__all__ = ["leiden", "modularity", "potts_leiden"]

_RANDOMNESS = 0.01
_LEFT = 0.6  # of what an iteration can still gain, the next one leaves about this; for progress alone
_MAX_ITERATIONS = 20
_NO_GAIN, _MUCH_GAIN = 1e-9, 1.5e-3
"""In modularity. Clusters that are carried back gain some 0.001 by an iteration. Where they gain much more, the
communities are too weak to be found in a smaller graph, as in a random one."""
_MAX_LINKS_OVER_ALL_STARTS = 20_000_000
"""Max links that all starts together visit, or all ways: a larger graph gets fewer."""
_START_VISITS, _WAY_VISITS = 10, 7  # of each link
_MAX_STARTS, _MAX_WAYS = 50, 3
_SMALL, _SMALL_STARTS = 3_000, 8
"""Max nodes of a graph that is searched as it is, and the number of starts where it stands for a larger one."""
_WAYS = 2  # in which a graph that stands for a larger one is made smaller: to a third or less, so the work stays small
_HARDLY_SMALLER = 0.8
_MAX_SHORT = 200_000  # links: a call of a few milliseconds needs no thread beside it
_COARSENED, _SOLVED = 0.3, 0.6
"""The fractions of a way's time after which a graph has been made smaller, and the smaller one is clustered."""
_SEARCHED, _COMBINED = 0.8, 0.98
"""The fractions of the time after which smaller graphs have been searched, and all searches are combined."""

Report = Callable[[float], None]


def leiden(
    links: Links,
    resolution: float,
    *,
    seed: int = 42,
    loops: float = 1.0,
    max_links: int = _MAX_LINKS_OVER_ALL_STARTS,
    on_progress: Report | None = None,
) -> NDArray[np.int32]:
    """Find communities of large modularity.

    A small graph is searched from single nodes, several times, and the searches are combined: nodes that all of them
    put together become one node, and this smaller graph is searched too. A larger graph is made smaller first, level
    by level, by joining strongly linked nodes. The clusters of the small graph are carried back, and each level
    improves them by an iteration of Leiden's method, the last on the graph itself. Where there is time for it, a level
    goes two or three such ways and combines them. Where the iteration gains much, the graph itself is searched from
    single nodes as well.

    Parameters
    ----------
    links
        The graph.
    resolution
        Weight of the expected links, from 0; larger means more clusters.
    seed
        Of the generator that all searches share.
    loops
        Weight of each cell's link to itself, which counts twice in its strength: 1 as in Seurat's graph, 0 for none.
    max_links
        Max links that all starts together visit, or all ways through smaller graphs: a start counts as ten visits of
        each link, a way as seven. There is always one.
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
    whole = math.fsum(strength)  # exact: NumPy's sums differ in their last bit from processor to processor
    if not whole:
        return np.arange(n, dtype=np.int32)
    search = _Search(np.array([seed], np.uint64), resolution / whole, whole)
    network = Network(links.indptr, links.cells, links.weights, strength)
    labels = _solve(
        network,
        search,
        on_progress or (lambda fraction: None),  # noqa: ARG005
        starts=_affordable(links, max_links, _START_VISITS, _MAX_STARTS),
        ways=_affordable(links, max_links, _WAY_VISITS, _MAX_WAYS),
    )
    return by_falling_size(labels)


def potts_leiden(
    links: Links,
    resolution: float,
    *,
    iterations: int = 2,
    seed: int = 42,
    on_progress: Report | None = None,
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
    search = _Search(np.array([seed], np.uint64), resolution, float(n))
    labels = np.arange(n, dtype=np.int32)
    network = Network(links.indptr, links.cells, links.weights, np.ones(n))
    for i in range(iterations if n else 0):
        _iterate(network, search, labels, partial(report, i / iterations))
    return by_falling_size(labels)


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
    """The generator's state, the weight of expected links by strengths, and the sum of the strengths."""

    state: NDArray[np.uint64]
    resolution: float
    whole: float


def _affordable(links: Links, max_links: int, visits: int, most: int) -> int:
    return int(np.clip(max_links // (visits * max(1, len(links.cells))), 1, most))


def _unless_short(network: Network, report: Report, fraction: float) -> Callable[[], None] | None:
    return partial(report, fraction) if len(network.cells) > _MAX_SHORT else None


def _part(report: Report, begin: float, end: float) -> Report:
    return lambda fraction: report(begin + (end - begin) * fraction)


def _solve(network: Network, search: _Search, report: Report, *, starts: int, ways: int) -> NDArray[np.int32]:
    """Find clusters by way of smaller graphs, or from single nodes where the graph is small or this is not enough."""
    found: list[tuple[float, NDArray[np.int32]]] = []
    least_gain = np.inf
    for way in range(ways if len(network) > _SMALL else 0):
        mine = _part(report, _SEARCHED * way / ways, _SEARCHED * (way + 1) / ways)
        ends = _joined(network, search, partial(mine, 0))
        fewer = reporting(partial(merged, network, ends, network.strength), _unless_short(network, mine, _COARSENED))
        if len(fewer) > _HARDLY_SMALLER * len(network):
            break
        small, sparse = len(fewer) <= _SMALL, 2 * len(fewer.cells) <= len(network.cells)
        labels = _solve(
            fewer,
            search,
            _part(mine, _COARSENED, _SOLVED),
            starts=_affordable(fewer, _MAX_LINKS_OVER_ALL_STARTS, _START_VISITS, _SMALL_STARTS) if small else 0,
            ways=_WAYS if sparse else 1,
        )[ends]
        quality, gain = _iterate(network, search, labels, partial(mine, _SOLVED))
        found.append((quality, labels))
        least_gain = min(least_gain, gain)
    if least_gain > _MUCH_GAIN * search.whole:
        begin = _SEARCHED if found else 0
        starts = starts if found else max(1, starts)
        for start in range(starts):
            labels = np.arange(len(network), dtype=np.int32)
            mine = _part(_part(report, begin, _COMBINED), start / starts, (start + 1) / starts)
            found.append((_repeat(network, search, labels, mine), labels))
    if len(found) == 1:
        return found[0][1]
    labels = _combined(network, search, found)
    _iterate(network, search, labels, partial(report, _COMBINED))
    return labels


def _combined(network: Network, search: _Search, found: Sequence[tuple[float, NDArray[np.int32]]]) -> NDArray[np.int32]:
    """Search from the best of some clusterings, and from scratch, with those nodes as one that are together in all."""
    best = max(found, key=lambda one: one[0])[1]
    cores, count = best, 0
    for _, labels in found:
        pairs, cores = np.unique(cores * np.int64(len(network)) + labels, return_inverse=True)
        cores, count = cores.astype(np.int32), len(pairs)
    if count == int(best.max()) + 1:
        return best  # as all are
    fewer = merged(network, cores, network.strength)
    held = np.empty(count, np.int32)
    held[cores] = best
    tried = []
    for start in range(_affordable(fewer, len(network.cells), _START_VISITS, _SMALL_STARTS)):
        labels = np.arange(count, dtype=np.int32) if start else held
        tried.append((_repeat(fewer, search, labels, lambda fraction: None), labels))  # noqa: ARG005
    return max(tried, key=lambda one: one[0])[1][cores]


def _repeat(network: Network, search: _Search, labels: NDArray[np.int32], report: Report) -> float:
    """Improve the labels until the quality stops growing; return it."""
    for iteration in range(_MAX_ITERATIONS):
        quality, gain = _iterate(network, search, labels, partial(report, 1 - _LEFT**iteration))
        if gain <= _NO_GAIN * search.whole:
            break
    return quality


def _iterate(
    network: Network, search: _Search, labels: NDArray[np.int32], report: Callable[[], None]
) -> tuple[float, float]:
    """Improve the labels once; return their quality, and how much of it is gained."""
    quality = np.empty(2)
    _run("cw_leiden_iteration", network, search, labels, report, quality=quality)
    return float(quality[0]), float(quality[1])


def _joined(network: Network, search: _Search, report: Callable[[], None]) -> NDArray[np.int32]:
    """Join strongly linked nodes to parts; return each node's part, numbered from 0."""
    parts = np.empty(len(network), np.int32)
    _run("cw_leiden_parts", network, search, parts, report)
    return parts


def _run(
    name: str,
    network: Network,
    search: _Search,
    labels: NDArray[np.int32],
    report: Callable[[], None],
    *,
    quality: NDArray[np.float64] | None = None,
) -> None:
    """Call a kernel. `report` is called several times a second; an exception from it stops the work."""
    stop = np.zeros(1, np.int32)
    more = () if quality is None else (address(quality, np.float64, writable=True),)
    work = partial(
        kernel(name),
        address(network.indptr, np.int64), address(network.cells, np.int32), address(network.weights, np.float64),
        address(network.strength, np.float64), len(network), search.resolution, _RANDOMNESS,
        address(search.state, np.uint64, writable=True), address(labels, np.int32, writable=True), *more,
        address(stop, np.int32),
    )  # fmt: skip
    if len(network.cells) <= _MAX_SHORT:
        report()
        done = work()
    else:
        done = reporting(work, report, stop)
    if done < 0:
        raise MemoryError("no memory for the clustering")


def _strength(links: Links, loops: float) -> NDArray[np.float64]:
    rows = np.repeat(np.arange(len(links)), np.diff(links.indptr))
    return np.asarray(np.bincount(rows, links.weights, minlength=len(links)) + 2.0 * loops, np.float64)
