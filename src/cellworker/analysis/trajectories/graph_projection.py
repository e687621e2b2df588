"""Projects cells onto a graph in the plane."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cellworker.native import address, kernel

__all__ = ["Places", "project"]

_POINTS_AT_A_TIME = 100_000


@dataclass(frozen=True, slots=True)
class Places:
    """A place on a link of the graph for each cell.

    Attributes
    ----------
    node
        int32 ``(n_cells,)``: the node nearest to the cell, one end of the link.
    other
        int32 ``(n_cells,)``: the other end; -1 where the node has no links, and the place is the node itself.
    part
        float64 ``(n_cells,)``: position of the place between `node` (0) and `other` (1).
    """

    node: NDArray[np.int32]
    other: NDArray[np.int32]
    part: NDArray[np.float64]


def project(
    points: NDArray[np.float64],
    node: NDArray[np.int32],
    nodes: NDArray[np.float64],
    links: NDArray[np.integer],
    on_progress: Callable[[float], None] | None = None,
) -> Places:
    """Find for each cell the nearest place on the links of its node.

    Parameters
    ----------
    points
        float64 ``(n_cells, 2)``, finite.
    node
        int32 ``(n_cells,)``: a node of each cell.
    nodes
        float64 ``(n_nodes, 2)``.
    links
        ``(n_links, 2)``: the ends of each link.
    on_progress
        Called with the fraction done; may raise to stop.
    """
    run = kernel("cw_nodes_project")
    ends = np.concatenate([links, links[:, ::-1]]).astype(np.int32)
    ends = ends[np.lexsort((ends[:, 1], ends[:, 0]))]
    first = np.concatenate([[0], np.cumsum(np.bincount(ends[:, 0], minlength=len(nodes)))]).astype(np.int64)
    to = np.ascontiguousarray(ends[:, 1])
    found = Places(node, np.empty(len(points), np.int32), np.empty(len(points)))
    for start in range(0, len(points), _POINTS_AT_A_TIME):
        if on_progress:
            on_progress(start / len(points))
        rows = slice(start, start + _POINTS_AT_A_TIME)
        some, mine, other, part = points[rows], node[rows], found.other[rows], found.part[rows]
        run(
            address(nodes, np.float64), address(first, np.int64), address(to, np.int32), address(some, np.float64),
            address(mine, np.int32), len(some), address(other, np.int32, writable=True),
            address(part, np.float64, writable=True),
        )  # fmt: skip
    return found
