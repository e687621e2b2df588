"""Refines a principal tree: closes loops where cells are connected, and cuts short branches."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cellworker.analysis.graphs.partitions import link_tests
from cellworker.analysis.graphs.snn import Links
from cellworker.analysis.trajectories.principal_graph import shortest_tree

__all__ = ["RootedTree", "loop_links", "pruned"]

_LEVEL = 0.05


@dataclass(frozen=True, slots=True)
class RootedTree:
    """A tree with one of its ends as root.

    Attributes
    ----------
    order
        The nodes in depth-first order; neighbours are visited by ascending number.
    parent
        Each node's neighbour towards the root, -1 for the root.
    children
        Each node's other neighbours, in depth-first order.
    depth
        Number of links to the root.
    """

    order: list[int]
    parent: list[int]
    children: list[list[int]]
    depth: list[int]

    @classmethod
    def of(cls, n: int, links: NDArray[np.integer]) -> "RootedTree":
        """Build from the `links` ``(n - 1, 2)`` of a tree of `n` nodes, at least 1; its first end is the root."""
        around: list[list[int]] = [[] for _ in range(n)]
        for a, b in links.tolist():
            around[a].append(b)
            around[b].append(a)
        for near in around:
            near.sort()
        root = next((i for i, near in enumerate(around) if len(near) <= 1), 0)
        parent, depth = [-1] * n, [0] * n
        order, waiting = [], [root]
        children: list[list[int]] = [[] for _ in range(n)]
        while waiting:
            i = waiting.pop()
            order.append(i)
            children[i] = [other for other in around[i] if other != parent[i]]
            for other in reversed(children[i]):
                parent[other] = i
                depth[other] = depth[i] + 1
                waiting.append(other)
        return cls(order, parent, children, depth)

    @property
    def tips(self) -> NDArray[np.bool_]:
        """Nodes with only one neighbour."""
        near = np.array([len(c) for c in self.children]) + (np.array(self.parent) >= 0)
        return np.asarray(near == 1)

    def way(self, a: int, b: int) -> list[int]:
        """Return the nodes between two nodes, both included."""
        up, down = [a], [b]
        while up[-1] != down[-1]:
            side = up if self.depth[up[-1]] >= self.depth[down[-1]] else down
            side.append(self.parent[side[-1]])
        return up + down[-2::-1]

    def longest(self) -> list[int]:
        """Return for each node the number of nodes of the longest path from it away from the root."""
        deep, longest = [1] * len(self.order), [1] * len(self.order)
        for i in reversed(self.order):
            depths = sorted((deep[c] for c in self.children[i]), reverse=True)[:2]
            deep[i] = 1 + (depths[0] if depths else 0)
            longest[i] = max([1 + sum(depths), *(longest[c] for c in self.children[i])])
        return longest


def loop_links(
    nodes: NDArray[np.float64],
    tree: RootedTree,
    links: Links,
    groups: NDArray[np.int32],
    *,
    geodesic_ratio: float = 1 / 3,
    euclidean_ratio: float = 1.0,
) -> NDArray[np.int32]:
    """Find ends of branches that belong together although their path in the tree is long.

    Two ends are linked if the cells at both are neighbours far more often than by chance, the tree's path between them
    has at least `geodesic_ratio` times as many links as its longest, and their distance is below `euclidean_ratio`
    times the longest link of the shortest tree of the nodes. As in monocle3, the search runs only where some groups are
    linked with p = 0.

    Parameters
    ----------
    nodes
        float64 ``(n_nodes, 2)``.
    tree
        The tree of the nodes.
    links
        The cells' neighbour graph.
    groups
        int32 ``(n_cells,)``: the node of each cell's group.

    Returns
    -------
    numpy.ndarray
        int32 ``(n_loops, 2)``, the smaller number first.
    """
    none = np.empty((0, 2), np.int32)
    n = len(nodes)
    if n < 3:
        return none
    tested = link_tests(links, groups)
    if not (tested.isolated.any() or (tested.adjusted <= 0).any()):
        return none
    span = shortest_tree(nodes)
    nearer_than = euclidean_ratio * float(np.sqrt(np.square(nodes[span[:, 0]] - nodes[span[:, 1]]).sum(axis=1).max()))
    tips = tree.tips
    known = tips[tested.a] & tips[tested.b] & (tested.adjusted < _LEVEL) & (tested.a < tested.b)
    pairs = [np.column_stack([tested.a[known], tested.b[known]])]
    for i in np.flatnonzero(tested.isolated & tips):  # counts as linked to all others: see `link_tests`
        near = np.flatnonzero(tips & (np.square(nodes - nodes[i]).sum(axis=1) < nearer_than**2))
        pairs.append(np.column_stack([np.minimum(near, i), np.maximum(near, i)])[near != i])
    candidates = np.unique(np.concatenate(pairs), axis=0)
    apart = np.sqrt(np.square(nodes[candidates[:, 0]] - nodes[candidates[:, 1]]).sum(axis=1))
    candidates = candidates[apart < nearer_than]
    min_length = geodesic_ratio * (tree.longest()[tree.order[0]] - 1)
    found = [pair for pair in candidates.tolist() if len(tree.way(*pair)) - 1 >= min_length]
    return np.array(found, np.int32).reshape(-1, 2)


def pruned(
    tree: RootedTree, loops: NDArray[np.int32], min_length: int = 10
) -> tuple[NDArray[np.bool_], NDArray[np.int32]]:
    """Cut branches whose longest path has fewer than `min_length` nodes, unless they are part of a loop.

    As in monocle3, only a node's first two branches in depth-first order are examined.

    Parameters
    ----------
    tree
        The tree.
    loops
        int32 ``(n_loops, 2)``: links that are not the tree's.
    min_length
        Trees of fewer nodes stay as they are, and so do loops of `min_length` links or more.

    Returns
    -------
    kept
        bool ``(n_nodes,)``.
    loops
        Those that stay.
    """
    n = len(tree.order)
    if n < min_length:
        return np.ones(n, np.bool_), loops
    guarded = np.zeros(n, np.bool_)
    valid = []
    for a, b in loops.tolist():
        way = tree.way(a, b)
        if len(way) - 1 >= min_length:
            guarded[way] = True
            valid.append((a, b))
    longest = tree.longest()
    cut = np.zeros(n, np.bool_)
    for i in tree.order:
        up = tree.parent[i]
        if up >= 0:
            branches = tree.children[up]
            forks = len(branches) + (tree.parent[up] >= 0) > 2
            cut[i] = cut[up] or (forks and longest[i] < min_length and i in branches[:2])
    # Nodes of a loop on a cut branch stay, with their path to the rest of the loop.
    return ~cut | guarded, np.array(valid, np.int32).reshape(-1, 2)
