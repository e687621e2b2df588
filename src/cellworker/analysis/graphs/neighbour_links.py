"""The graph that links every cell to its nearest neighbours, and the same graph with clusters as nodes."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cellworker.analysis.graphs.snn import Links, neighbour_lists
from cellworker.native import address, kernel

__all__ = ["Network", "merged", "neighbour_links"]


@dataclass(frozen=True, slots=True)
class Network(Links):
    """Links between clusters, with each cluster's strength.

    Attributes
    ----------
    strength
        float64 ``(n_clusters,)``: the sum over the cluster's members.
    """

    strength: NDArray[np.float64]


def neighbour_links(neighbours: NDArray[np.int32]) -> Links:
    """Link each cell to its neighbours: weight 1, or 2 where two cells are neighbours of each other.

    Parameters
    ----------
    neighbours
        int32 ``(n_cells, k)``: rows without repetition and without the cell itself; a negative number is no neighbour.

    Raises
    ------
    IndexError
        If a neighbour's number is not that of a cell.
    MemoryError
        If memory runs out.
    """
    lists = neighbour_lists(neighbours)
    n, k = lists.shape
    count = kernel("cw_links_count")
    fill = kernel("cw_links_fill")
    first = np.empty(n + 1, np.int64)
    count(address(lists, np.int32), n, k, address(first, np.int64, writable=True))
    cells, weights = np.empty(first[-1], np.int32), np.empty(first[-1])
    if fill(
        address(lists, np.int32), n, k, address(first, np.int64, writable=True),
        address(cells, np.int32, writable=True), address(weights, np.float64, writable=True),
    ):  # fmt: skip
        raise MemoryError("no memory for the neighbour graph")
    return Links(first, cells[: first[-1]], weights[: first[-1]])


def merged(links: Links, clusters: NDArray[np.int32], strength: NDArray[np.float64] | None = None) -> Network:
    """Make each cluster one node; weights add up, and links inside a cluster are left out.

    Parameters
    ----------
    links
        The graph.
    clusters
        int32 ``(n_cells,)``, numbered from 0.
    strength
        float64 ``(n_cells,)``; by default 1 each, so that a cluster's strength is its size.

    Raises
    ------
    MemoryError
        If memory runs out.
    """
    strength = np.ones(len(links)) if strength is None else strength
    count = int(clusters.max(initial=-1)) + 1
    merge = kernel("cw_network_merge")
    count_links, take = kernel("cw_network_links"), kernel("cw_network_take")
    network = merge(
        address(links.indptr, np.int64), address(links.cells, np.int32), address(links.weights, np.float64),
        address(strength, np.float64), len(links), address(clusters, np.int32), count,
    )  # fmt: skip
    if not network:
        raise MemoryError("no memory for the graph of clusters")
    n_links = count_links(network)
    out = Network(np.empty(count + 1, np.int64), np.empty(n_links, np.int32), np.empty(n_links), np.empty(count))
    take(
        network, address(out.indptr, np.int64, writable=True), address(out.cells, np.int32, writable=True),
        address(out.weights, np.float64, writable=True), address(out.strength, np.float64, writable=True),
    )  # fmt: skip
    return out
