"""The tree along which cells develop: reversed graph embedding in the plane (Mao and others 2015)."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cellworker.analysis.trajectories.plane_kmeans import bounding_box
from cellworker.native import address, kernel

__all__ = ["PrincipalTree", "nearest_nodes", "principal_tree", "shortest_tree"]

_POINTS_AT_A_TIME = 100_000
_PAIRS_AT_A_TIME = 100_000_000
_LN2 = 0.6931471805599453

OnProgress = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class PrincipalTree:
    """A tree in the plane.

    Attributes
    ----------
    nodes
        float64 ``(n_nodes, 2)``.
    links
        int32 ``(n_nodes - 1, 2)``: the ends of each link.
    objectives
        The objective after each round.
    """

    nodes: NDArray[np.float64]
    links: NDArray[np.int32]
    objectives: tuple[float, ...]


def principal_tree(
    points: NDArray[np.float64],
    start: NDArray[np.float64],
    *,
    gamma: float = 0.5,
    sigma: float = 0.01,
    rounds: int = 10,
    tolerance: float = 1e-5,
    on_progress: OnProgress | None = None,
) -> PrincipalTree:
    """Fit a short tree to points, so that each point is near some of its nodes.

    Minimises the sum over links, both directions, of their squared lengths, plus ``-gamma sigma`` times the sum over
    points of the logarithm of the sum over nodes of ``exp(-d^2 / sigma)``: it computes in turn the shortest tree, the
    points' shares in the nodes, and the nodes' coordinates (SimplePPT; doi:10.1145/2783258.2783309, as monocle3 runs
    it). Sums run in the order of the points, so the result depends neither on threads nor on the machine.

    Parameters
    ----------
    points
        float64 ``(n, 2)``, finite.
    start
        float64 ``(n_nodes, 2)``: the nodes' initial coordinates, among the points.
    gamma, sigma
        Weight of the points, and squared range of a point's shares, in the points' units.
    rounds, tolerance
        Max rounds, and relative change of the objective below which the search ends.
    on_progress
        Called with the fraction done; may raise to stop.

    Raises
    ------
    MemoryError
        If memory runs out.
    """
    report = on_progress or (lambda fraction: None)  # noqa: ARG005
    box = bounding_box(points)
    nodes = np.ascontiguousarray(start, np.float64).copy()
    n = len(nodes)
    solve = kernel("cw_tree_solve")
    objectives: list[float] = []
    order, parent = np.zeros(1, np.int32), np.full(1, -1, np.int32)
    for round_ in range(rounds):

        def step(fraction: float, done: int = round_) -> None:
            report((done + fraction) / rounds)

        order, parent, length = _tree(nodes, step)
        weight, sums, misfit = _shares(points, nodes, box, sigma, step)
        objectives.append(2 * length + gamma * misfit)
        if len(objectives) > 1 and abs(objectives[-2] - objectives[-1]) <= tolerance * abs(objectives[-2]):
            break
        weight, nodes = weight * gamma, sums * gamma
        solve(
            address(order, np.int32), address(parent, np.int32), n, address(weight, np.float64, writable=True),
            address(nodes, np.float64, writable=True),
        )  # fmt: skip
    kept = order[1:]
    return PrincipalTree(nodes, np.column_stack([parent[kept], kept]).astype(np.int32), tuple(objectives))


def shortest_tree(nodes: NDArray[np.float64]) -> NDArray[np.int32]:
    """Return the links, int32 ``(n - 1, 2)``, of the shortest tree that joins points ``(n, 2)``."""
    order, parent, _ = _tree(np.ascontiguousarray(nodes, np.float64), lambda fraction: None)  # noqa: ARG005
    return np.column_stack([parent[order[1:]], order[1:]]).astype(np.int32)


def nearest_nodes(
    points: NDArray[np.float64], nodes: NDArray[np.float64], on_progress: OnProgress | None = None
) -> NDArray[np.int32]:
    """Return the row, int32 ``(n,)``, of the node in `nodes` ``(m, 2)`` nearest to each point ``(n, 2)``.

    Of equals, the first. Both arrays are finite, and m is at least 1.
    """
    box = bounding_box(np.concatenate([points, nodes]))
    nearest = kernel("cw_nodes_nearest")
    out = np.empty(len(points), np.int32)
    with _grid(nodes, box) as grid:
        for start in range(0, len(points), _POINTS_AT_A_TIME):
            if on_progress:
                on_progress(start / len(points))
            some, best = points[start : start + _POINTS_AT_A_TIME], out[start : start + _POINTS_AT_A_TIME]
            nearest(grid, address(some, np.float64), len(some), address(best, np.int32, writable=True))
    return out


@contextmanager
def _grid(nodes: NDArray[np.float64], box: NDArray[np.float64]) -> Iterator[int]:
    new = kernel("cw_nodes_new")
    free = kernel("cw_nodes_free")
    grid = new(address(nodes, np.float64), len(nodes), address(box, np.float64))
    if not grid:
        raise MemoryError("no memory for the nodes of the graph")
    try:
        yield grid
    finally:
        free(grid)


def _tree(nodes: NDArray[np.float64], report: OnProgress) -> tuple[NDArray[np.int32], NDArray[np.int32], float]:
    """Return the nodes in an order with parents before children, the parents, and the sum of the squared lengths."""
    grow = kernel("cw_tree_grow")
    n = len(nodes)
    order, parent = np.arange(n, dtype=np.int32), np.full(n, -1, np.int32)
    reach = np.full(n, np.inf)
    reach[0] = 0
    held = 0
    while held < n:
        report(0.3 * held / n)
        held = grow(
            address(nodes, np.float64), n, held, max(1, _PAIRS_AT_A_TIME // n), address(order, np.int32, writable=True),
            address(parent, np.int32, writable=True), address(reach, np.float64, writable=True),
        )  # fmt: skip
    return order, parent, math.fsum(reach.tolist())


def _shares(
    points: NDArray[np.float64],
    nodes: NDArray[np.float64],
    box: NDArray[np.float64],
    sigma: float,
    report: OnProgress,
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Return the sums of the points' shares per node, of the points times shares, and their part of the objective."""
    weight, sums = np.zeros(len(nodes)), np.zeros((len(nodes), 2))
    share = kernel("cw_nodes_share")
    figures = np.array([1.0, 0, 0])
    spare = np.empty(len(nodes) + 1, np.int32)
    step = max(1000, min(_POINTS_AT_A_TIME, 20 * _PAIRS_AT_A_TIME // max(1, 100 * len(nodes))))
    with _grid(nodes, box) as grid:
        for start in range(0, len(points), step):
            report(0.3 + 0.7 * start / len(points))
            some = points[start : start + step]
            share(
                grid, address(some, np.float64), len(some), sigma, address(weight, np.float64, writable=True),
                address(sums, np.float64, writable=True), address(figures, np.float64, writable=True),
                address(spare, np.int32, writable=True),
            )  # fmt: skip
    mantissa, exponent, min_d2 = figures.tolist()
    return weight, sums, float(min_d2 - sigma * (math.log(mantissa) + exponent * _LN2))
