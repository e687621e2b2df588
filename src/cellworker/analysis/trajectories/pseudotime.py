"""Pseudotime: the length of the shortest path along a graph from the roots to each cell."""

import heapq

import numpy as np
from numpy.typing import NDArray

from cellworker.analysis.trajectories.graph_projection import Places

__all__ = ["chained_pseudotime", "pseudotime"]


def pseudotime(
    nodes: NDArray[np.float64], links: NDArray[np.integer], places: Places, roots: NDArray[np.integer]
) -> NDArray[np.float64]:
    """Measure the path along the links, in the plane's units, from the nearest root to each cell's place.

    Parameters
    ----------
    nodes
        float64 ``(n_nodes, 2)``.
    links
        ``(n_links, 2)``: the ends of each link.
    places
        The cells' places on the links.
    roots
        Cells at whose places the paths begin, at least one.

    Returns
    -------
    numpy.ndarray
        float64 ``(n_cells,)``, 0 at the roots; infinite where no root can be reached.
    """
    ends = np.where(places.other < 0, places.node, places.other)
    length = np.sqrt(np.square(nodes[places.node] - nodes[ends]).sum(axis=1))
    before, after = places.part * length, (1 - places.part) * length
    starts: list[tuple[float, int]] = []
    for root in roots.tolist():
        starts += [(float(before[root]), int(places.node[root])), (float(after[root]), int(ends[root]))]
    reach = _reach(nodes, links, starts)
    out = np.minimum(reach[places.node] + before, reach[ends] + after)
    for root in roots.tolist():  # on the root's own link the path may pass no node
        a, b = int(places.node[root]), int(ends[root])
        same = np.flatnonzero((places.node == a) & (ends == b))
        turned = np.flatnonzero((places.node == b) & (ends == a) & (a != b))
        out[same] = np.minimum(out[same], np.abs(before[same] - before[root]))
        out[turned] = np.minimum(out[turned], np.abs(after[turned] - before[root]))
    return np.asarray(out, np.float64)


def chained_pseudotime(
    nodes: NDArray[np.float64],
    links: NDArray[np.integer],
    places: Places,
    part_of_cell: NDArray[np.integer],
    roots: NDArray[np.integer],
) -> NDArray[np.float64]:
    """Measure pseudotime as monocle3 does, whose graph of cells has two slips (algorithms.md, section 11.4).

    The cells of a link form a chain. It starts at the end of the link whose name ("Y_" and its number from 1) is first
    in text order, and does not reach the other end. The length of a step is the sum of the differences of the
    coordinates, plus the smallest such sum above 0 in the partition.

    Parameters
    ----------
    nodes, links, places, roots
        As for `pseudotime`.
    part_of_cell
        ``(n_cells,)``: the partition of each cell.

    Returns
    -------
    numpy.ndarray
        As `pseudotime`.
    """
    ends = np.where(places.other < 0, places.node, places.other)
    spots = nodes[places.node] + places.part[:, None] * (nodes[ends] - nodes[places.node])
    rank = np.empty(len(nodes), np.int64)
    rank[sorted(range(len(nodes)), key=lambda i: str(i + 1))] = np.arange(len(nodes))
    forward = rank[places.node] <= rank[ends]
    source, target = np.where(forward, places.node, ends), np.where(forward, ends, places.node)
    away = np.sqrt(np.square(spots - nodes[source]).sum(axis=1))
    order = np.lexsort((away, target, source))
    head = np.ones(len(order), np.bool_)
    head[1:] = (np.diff(source[order]) != 0) | (np.diff(target[order]) != 0)
    previous = np.empty_like(spots)
    previous[1:] = spots[order][:-1]
    previous[head] = nodes[source[order][head]]
    steps = np.abs((spots[order] - previous).sum(axis=1))
    parts = part_of_cell[order]
    min_step = np.full(int(part_of_cell.max(initial=0)) + 1, np.inf)
    np.minimum.at(min_step, parts[steps > 0], steps[steps > 0])
    steps += np.where(np.isfinite(min_step), min_step, 0)[parts]
    chain = np.cumsum(head) - 1
    along = np.empty(len(order))
    for rows in np.split(np.arange(len(order)), np.flatnonzero(head)[1:]):
        along[rows] = np.cumsum(steps[rows])
    row_of = np.empty(len(order), np.int64)
    row_of[order] = np.arange(len(order))
    starts = [(float(along[row_of[root]]), int(source[root])) for root in roots.tolist()]
    reached = _reach(nodes, links, starts)[source[order]] + along
    for row in row_of[roots].tolist():
        same = np.flatnonzero(chain == chain[row])
        reached[same] = np.minimum(reached[same], np.abs(along[same] - along[row]))
    return np.asarray(reached[row_of], np.float64)


def _reach(
    nodes: NDArray[np.float64], links: NDArray[np.integer], starts: list[tuple[float, int]]
) -> NDArray[np.float64]:
    """Return the length of the shortest path to each node, given initial lengths (Dijkstra's algorithm)."""
    around: list[list[tuple[int, float]]] = [[] for _ in range(len(nodes))]
    lengths = np.sqrt(np.square(nodes[links[:, 0]] - nodes[links[:, 1]]).sum(axis=1))
    for (a, b), length in zip(links.tolist(), lengths.tolist(), strict=True):
        around[a].append((b, length))
        around[b].append((a, length))
    reach = np.full(len(nodes), np.inf)
    waiting = list(starts)
    heapq.heapify(waiting)
    while waiting:
        way, node = heapq.heappop(waiting)
        if way >= reach[node]:
            continue
        reach[node] = way
        for other, length in around[node]:
            if way + length < reach[other]:
                heapq.heappush(waiting, (way + length, other))
    return reach
