"""Louvain clusters as Seurat's ``FindClusters`` makes them (algorithms.md, section 6.4)."""

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from cellworker.analysis.graphs.snn import Links
from cellworker.analysis.statistics.r_random import RRandom
from cellworker.native import address, kernel
from cellworker.progress import reporting

__all__ = ["by_falling_size", "join_singletons", "louvain"]

_SCRAMBLE = 0x5DEECE66D  # Java's generator mixes this into a seed


def louvain(
    links: Links,
    resolution: float,
    *,
    seed: int = 42,
    n_starts: int = 10,
    n_passes: int = 10,
    on_progress: Callable[[float], None] | None = None,
) -> NDArray[np.int32]:
    """Find communities of large modularity: Waltman and van Eck's optimiser, the best of some starts.

    Parameters
    ----------
    links
        The graph.
    resolution
        Weight of the expected links, from 0; larger means more clusters.
    seed
        Seed of the generator that all starts share.
    n_starts, n_passes
        Number of starts from single cells, and max passes of each.
    on_progress
        Called with the fraction done; may raise to stop.

    Returns
    -------
    numpy.ndarray
        int32 ``(n_cells,)``: clusters numbered from 0 by falling size; among equals, the first found comes first.

    Raises
    ------
    MemoryError
        If memory runs out.
    """
    n = len(links)
    if not len(links.cells):
        return np.arange(n, dtype=np.int32)
    state = np.array([(seed ^ _SCRAMBLE) & ((1 << 48) - 1)], np.uint64)
    best, highest = np.arange(n, dtype=np.int32), -np.inf
    labels, quality = np.empty(n, np.int32), np.empty(1)
    for i in range(n_starts):
        run = partial(
            kernel("cw_louvain_start"), address(links.indptr, np.int64), address(links.cells, np.int32),
            address(links.weights, np.float64), n, resolution, n_passes, address(state, np.uint64, writable=True),
            address(labels, np.int32, writable=True), address(quality, np.float64, writable=True),
        )  # fmt: skip
        if reporting(run, partial(on_progress, i / n_starts) if on_progress else None) < 0:
            raise MemoryError("no memory for the clustering")
        if quality[0] > highest:
            best, highest = labels.copy(), float(quality[0])
    return by_falling_size(best)


def by_falling_size(labels: NDArray[np.integer]) -> NDArray[np.int32]:
    """Renumber labels ``(n,)`` from 0 by falling size, ties by label."""
    _, places, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    rank = np.empty(len(sizes), np.int32)
    rank[np.argsort(-sizes, kind="stable")] = np.arange(len(sizes), dtype=np.int32)
    return rank[places]


def join_singletons(labels: NDArray[np.int32], links: Links) -> NDArray[np.int32]:
    """Join each cluster of one cell to the cluster whose cells it is most strongly linked to, on average.

    Parameters
    ----------
    labels
        int32 ``(n_cells,)``, numbered from 0 by falling size.
    links
        The graph.

    Returns
    -------
    numpy.ndarray
        int32 ``(n_cells,)``: the same labels without those of single cells. Where several clusters are equally good (as
        for a cell without links), the original's draw decides. Unchanged where every cluster is a single cell.
    """
    sizes = np.bincount(labels)
    single, others = np.flatnonzero(sizes == 1), int(np.count_nonzero(sizes > 1))
    if not len(single) or not others:
        return labels
    _, first = np.unique(labels, return_index=True)
    shown = labels[np.sort(first)]
    shown = shown[shown < others]  # larger clusters have smaller numbers; in order of their first cells
    out = labels.copy()
    for cell in np.flatnonzero(labels >= others):
        own = slice(int(links.indptr[cell]), int(links.indptr[cell + 1]))
        theirs = labels[links.cells[own]]
        kept = theirs < others
        sums = np.bincount(theirs[kept], links.weights[own][kept], minlength=others)
        means = (sums / sizes[:others])[shown]
        equals = np.flatnonzero(means == means.max())
        out[cell] = shown[equals[RRandom(1).index(len(equals))]]
    return out
