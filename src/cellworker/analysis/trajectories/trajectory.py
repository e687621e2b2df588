"""Learns the graph along which cells develop, as monocle3 does (algorithms.md, 11)."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from cellworker.analysis.graphs.leiden import potts_leiden
from cellworker.analysis.graphs.multilevel import multilevel
from cellworker.analysis.graphs.neighbour_links import neighbour_links
from cellworker.analysis.graphs.neighbours import Metric, Neighbours
from cellworker.analysis.graphs.partitions import partitions
from cellworker.analysis.graphs.snn import Links
from cellworker.analysis.trajectories.graph_projection import Places, project
from cellworker.analysis.trajectories.igraph_random import igraph_shuffle
from cellworker.analysis.trajectories.plane_kmeans import plane_kmeans
from cellworker.analysis.trajectories.plane_order import plane_order
from cellworker.analysis.trajectories.principal_graph import nearest_nodes, principal_tree
from cellworker.analysis.trajectories.principal_loops import RootedTree, loop_links, pruned
from cellworker.progress import Progress, part_of, reporting, silent

__all__ = ["Method", "Search", "Trajectory", "learn_trajectory"]

Method = Literal["louvain", "leiden"]

_K = 25
_MIN = 2
_RESOLUTION = 1e-4  # of Leiden clusters
_SEED = 42
_STARTS = 2  # of Louvain clusters
_NODES_PER_CLUSTER = 15

_FOUND, _LINKED, _CLUSTERED, _LEARNED = 0.15, 0.23, 0.5, 0.98
"""The fractions of the time after which neighbours are found and linked, cells clustered, and the graphs learned."""
_CHOOSING, _FINDING, _GROWING, _CLOSING, _PLACING = (
    "Choosing centres",
    "Finding neighbours",
    "Growing the tree",
    "Closing loops",
    "Placing cells",
)
_STAGES = {
    _CHOOSING: (0.0, 0.2),
    _FINDING: (0.2, 0.45),
    _GROWING: (0.45, 0.8),
    _CLOSING: (0.8, 0.9),
    _PLACING: (0.9, 1.0),
}
"""Where each stage of a partition's graph begins and ends, of the time of all of them."""


class Search(Protocol):
    """Finds nearest neighbours; each point is its own first."""

    def __call__(
        self, points: NDArray[np.float64], k: int, metric: Metric, *, on_progress: Callable[[float], None] | None
    ) -> Neighbours:
        """Find the `k` nearest of `points` ``(n, 2)`` to each of them."""
        ...


@dataclass(frozen=True, slots=True)
class Trajectory:
    """A graph in the plane, a tree with or without loops for each partition, and the cells' places on it.

    Attributes
    ----------
    nodes
        float64 ``(n_nodes, 2)``, partition by partition.
    links
        int32 ``(n_links, 2)``: the ends of each link, the smaller number first; sorted.
    places
        Where each cell is on the links.
    partition
        int32 ``(n_cells,)``: partitions from 0.
    anchors
        int32 ``(n_nodes,)``: the cell nearest to each node.
    """

    nodes: NDArray[np.float64]
    links: NDArray[np.int32]
    places: Places
    partition: NDArray[np.int32]
    anchors: NDArray[np.int32]


def learn_trajectory(
    points: NDArray[np.float64],
    method: Method,
    metric: Metric,
    search: Search,
    *,
    like_original: bool = False,
    progress: Progress = silent,
) -> Trajectory:
    """Learn the graph.

    It clusters cells by their neighbours, joins connected clusters into partitions, and fits a principal graph to each
    partition (Cao and others 2019, doi:10.1038/s41586-019-0969-x).

    Parameters
    ----------
    points
        float64 ``(n_cells, 2)``, finite; n_cells from 1.
    method
        The clustering method.
    metric
        The method of finding neighbours.
    search
        Finds the neighbours.
    like_original
        Visit the cells in the original's random order when clustering by Louvain's method.
    progress
        Called with the stages.

    Raises
    ------
    MemoryError
        If memory runs out.
    """
    n = len(points)
    near: Neighbours | None = None
    clusters = np.zeros(n, np.int32)
    partition = np.zeros(n, np.int32)
    if n > _MIN:
        order = np.arange(n) if like_original else plane_order(points)
        found = _others(
            search(points[order], min(_K, n - 1) + 1, metric, on_progress=_part_of(progress, _FINDING, 0, _FOUND))
        )
        links = reporting(partial(neighbour_links, found.cells), partial(progress, "Linking neighbours", _FOUND))
        if metric == "euclidean":
            near = found if like_original else _reordered(found, order)
        del found
        ordered = _clusters(links, method, part_of(progress, _LINKED, _CLUSTERED), like_original=like_original)
        parts = partial(partitions, links, ordered)
        partition[order] = reporting(parts, partial(progress, "Finding partitions", _CLUSTERED))
        del parts
        clusters[order] = ordered
        del links

    nodes, ends, node, start, done = [], [], np.empty(n, np.int32), 0, 0
    for number in range(int(partition.max()) + 1):
        rows = np.flatnonzero(partition == number)
        mine = points[rows] if len(rows) < n else points
        begun = _CLUSTERED + (_LEARNED - _CLUSTERED) * done / n
        share = (_LEARNED - _CLUSTERED) * len(rows) / n
        stage = partial(_stage, progress, begun=begun, share=share)
        graph = _principal_graph(
            mine,
            len(np.unique(clusters[rows])),
            near if len(rows) == n else None,
            search,
            stage,
        )
        node[rows] = start + nearest_nodes(mine, graph[0], stage(_PLACING))
        nodes.append(graph[0])
        ends.append(graph[1] + start)
        start, done = start + len(graph[0]), done + len(rows)
    joined = np.concatenate(nodes)
    both = np.concatenate(ends).astype(np.int32)
    places = project(points, node, joined, both, _part_of(progress, _PLACING, _LEARNED, 0.01))
    anchors = nearest_nodes(joined, points, _part_of(progress, "Placing nodes", _LEARNED + 0.01, 0.01))
    return Trajectory(joined, both, places, partition, anchors)


def _stage(progress: Progress, stage: str, *, begun: float, share: float) -> Callable[[float], None]:
    """Return the progress of a stage of one partition's graph; `begun` and `share` are the partition's."""
    begin, end = _STAGES[stage]
    return _part_of(progress, stage, begun + share * begin, share * (end - begin))


def _part_of(progress: Progress, stage: str, begun: float = 0.0, share: float = 1.0) -> Callable[[float], None]:
    return partial(part_of(progress, begun, begun + share), stage)


def _others(found: Neighbours) -> Neighbours:
    """Remove each cell from its own list; where it is not in the list, remove the last neighbour."""
    own = found.cells == np.arange(len(found.cells), dtype=np.int32)[:, None]
    if own[:, 0].all():
        return Neighbours(np.ascontiguousarray(found.cells[:, 1:]), np.ascontiguousarray(found.distances[:, 1:]))
    own[:, -1] |= ~own.any(axis=1)
    shape = (len(own), own.shape[1] - 1)
    return Neighbours(found.cells[~own].reshape(shape), found.distances[~own].reshape(shape))


def _reordered(found: Neighbours, order: NDArray[np.int64]) -> Neighbours:
    """Convert the neighbours of reordered points to the original order of the points."""
    out = Neighbours(np.empty_like(found.cells), np.empty_like(found.distances))
    out.cells[order] = order.astype(np.int32)[found.cells]
    out.distances[order] = found.distances
    return out


def _clusters(links: Links, method: Method, progress: Progress, *, like_original: bool) -> NDArray[np.int32]:
    stage = "Clustering cells"
    if method == "leiden":
        return potts_leiden(links, _RESOLUTION, on_progress=_part_of(progress, stage))
    words = np.random.MT19937(_SEED)
    shuffle = igraph_shuffle(1) if like_original else lambda n: np.argsort(words.random_raw(n)).astype(np.int32)
    runs = [
        multilevel(
            links,
            shuffle,
            thorough=like_original,
            on_progress=_part_of(progress, stage, start / _STARTS, 1 / _STARTS),
        )
        for start in range(_STARTS)
    ]
    return max(runs, key=lambda run: run[1])[0]


def _principal_graph(
    points: NDArray[np.float64],
    n_clusters: int,
    near: Neighbours | None,
    search: Search,
    stage: Callable[[str], Callable[[float], None]],
) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Return nodes and links of one partition."""
    n = len(points)
    n_nodes = max(1, min(round(n_clusters * _NODES_PER_CLUSTER * math.log10(n)), n - 1))
    rows = (1 + np.arange(n_nodes) * ((n - 1) / max(1, n_nodes - 1))).astype(np.int64) - 1
    rows[1:][-1:] = n - 1
    groups = plane_kmeans(points, points[rows], on_progress=stage(_CHOOSING))
    groups = np.unique(groups, return_inverse=True)[1].astype(np.int32)
    if near is None and n > 1:
        near = _others(search(points, min(_K, n - 1) + 1, "euclidean", on_progress=stage(_FINDING)))
    tree = principal_tree(points, points[_densest(groups, near)], on_progress=stage(_GROWING))
    if near is None:
        return tree.nodes, tree.links
    stage(_CLOSING)(0)
    rooted = RootedTree.of(len(tree.nodes), tree.links)
    loops = loop_links(tree.nodes, rooted, neighbour_links(near.cells), groups)
    kept, loops = pruned(rooted, loops)
    ends = np.sort(np.concatenate([tree.links, loops]), axis=1)
    ends = ends[kept[ends].all(axis=1)]
    number = np.cumsum(kept, dtype=np.int32) - 1
    ends = number[ends[np.lexsort((ends[:, 1], ends[:, 0]))]]
    return np.ascontiguousarray(tree.nodes[kept]), ends


def _densest(groups: NDArray[np.int32], near: Neighbours | None) -> NDArray[np.int64]:
    """Return the cell of each group whose neighbours are nearest on average; of equals, the first."""
    mean = np.zeros(len(groups))
    if near is not None:
        mean = near.distances[:, : max(1, min(_K, len(groups) - 1) - 1)].mean(axis=1, dtype=np.float64)
    order = np.lexsort((mean, groups))
    return order[np.flatnonzero(np.diff(groups[order], prepend=-1))]
