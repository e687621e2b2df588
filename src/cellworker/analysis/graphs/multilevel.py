"""Louvain clusters of a plain graph: move nodes, make each cluster a node, repeat (Blondel and others 2008)."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from cellworker.analysis.graphs.neighbour_links import merged
from cellworker.analysis.graphs.snn import Links
from cellworker.native import address, kernel

__all__ = ["Shuffle", "multilevel"]

Shuffle = Callable[[int], NDArray[np.int32]]
"""Returns 0 to n - 1 in random order."""

_LINKS_AT_A_TIME = 4_000_000


def multilevel(
    links: Links,
    shuffle: Shuffle,
    *,
    resolution: float = 1.0,
    thorough: bool = False,
    on_progress: Callable[[float], None] | None = None,
) -> tuple[NDArray[np.int32], float]:
    """Find communities of large modularity (doi:10.1088/1742-5468/2008/10/P10008), visiting nodes in random order.

    Parameters
    ----------
    links
        The graph.
    shuffle
        Called once per level for the order of the nodes.
    resolution
        Weight of the expected links, from 0.
    thorough
        Visit every node in every pass, as igraph does. Otherwise visit only the neighbours of moved nodes, which is
        several times faster.
    on_progress
        Called with a fraction that grows towards 1; may raise to stop. Called several times a second.

    Returns
    -------
    clusters
        int32 ``(n_cells,)``, numbered from 0 in the order of their first cells.
    quality
        Their modularity.

    Raises
    ------
    MemoryError
        If memory runs out.
    """
    report = on_progress or (lambda fraction: None)  # noqa: ARG005
    n = len(links)
    whole = float(links.weights.sum())
    clusters = np.arange(n, dtype=np.int32)
    if not whole:
        return clusters, 0.0
    rows = np.repeat(np.arange(n, dtype=np.int32), np.diff(links.indptr))
    level: Links = links
    strength: NDArray[np.float64] = np.bincount(rows, links.weights, minlength=n).astype(np.float64)
    del rows
    quality = -float(np.square(strength).sum()) * resolution / whole
    depth = 0
    while True:
        labels, gain = _moved(
            level, strength, resolution / whole, shuffle(len(level)), report, depth=depth, thorough=thorough
        )
        found, first, places = np.unique(labels, return_index=True, return_inverse=True)
        rank = np.empty(len(found), np.int32)
        rank[np.argsort(first)] = np.arange(len(found), dtype=np.int32)
        labels = rank[places]
        clusters = labels[clusters]
        quality += 2 * gain
        if len(found) == len(level):
            return clusters, quality / whole
        network = merged(level, labels, strength)
        level, strength, depth = network, network.strength, depth + 1


def _moved(
    links: Links,
    strength: NDArray[np.float64],
    resolution: float,
    order: NDArray[np.int32],
    report: Callable[[float], None],
    *,
    depth: int,
    thorough: bool,
) -> tuple[NDArray[np.int32], float]:
    """Move single nodes until none gains; return the labels and the weight gained."""
    move = kernel("cw_louvain_move")  # fmt: skip
    n = len(links)
    labels, total = np.arange(n, dtype=np.int32), strength.copy()
    link, met, gain = np.zeros(n), np.empty(n, np.int32), np.zeros(1)
    stale = None if thorough else np.ones(n, np.uint8)
    step = max(1, n * _LINKS_AT_A_TIME // max(1, len(links.cells)))
    passes = 0
    while True:
        before, moved = float(gain[0]), 0
        for start in range(0, n, step):
            report(1 - 0.5**depth * (0.5 + 0.5 * 0.7 ** (passes + start / n)))
            some = order[start : start + step]
            moved += move(
                address(links.indptr, np.int64), address(links.cells, np.int32), address(links.weights, np.float64),
                address(strength, np.float64), resolution, address(some, np.int32), len(some),
                address(labels, np.int32, writable=True), address(total, np.float64, writable=True),
                address(link, np.float64, writable=True), address(met, np.int32, writable=True),
                None if stale is None else address(stale, np.uint8, writable=True),
                address(gain, np.float64, writable=True),
            )  # fmt: skip
        passes += 1
        # Rounding must not move nodes back and forth forever.
        if not moved or gain[0] - before <= 1e-12 * total.sum():
            return labels, float(gain[0])
