"""Seurat's graph of shared nearest neighbours, the input of its clusterings (algorithms.md, section 6.3)."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellworker.native import address, kernel
from cellworker.progress import reporting

__all__ = ["Links", "links_of", "neighbour_lists", "shared_neighbours"]

_BLOCK = 8192  # cells
_ROUND = 2  # blocks of each thread between reports
_PRUNE = 1 / 15
_HELD, _COUNTED = 0.1, 0.7
"""The fractions of the time after which the holders of each neighbour are found, and the shared ones counted."""
_USUAL_K = (20, *range(5, 20), *range(21, 201))


@dataclass(frozen=True, slots=True)
class Links:
    """A symmetric graph without loops: compressed rows, cells ascending in each.

    Attributes
    ----------
    indptr
        int64 ``(n_cells + 1,)``.
    cells
        int32 ``(n_links,)``; each link is there in both directions.
    weights
        float64 ``(n_links,)``, finite, above 0.
    """

    indptr: NDArray[np.int64]
    cells: NDArray[np.int32]
    weights: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.indptr) - 1


def neighbour_lists(neighbours: NDArray[np.integer]) -> NDArray[np.int32]:
    """Return lists of neighbours ``(n_cells, k)`` as a C-contiguous int32 matrix.

    Raises
    ------
    IndexError
        If a neighbour's number is not that of a cell.
    """
    lists = np.ascontiguousarray(neighbours, np.int32)
    if lists.size and lists.max() >= len(lists):
        raise IndexError("a neighbour is not among the cells")
    return lists


def shared_neighbours(
    neighbours: NDArray[np.int32],
    *,
    prune: float = _PRUNE,
    threads: int = 1,
    on_progress: Callable[[float], None] | None = None,
) -> Links:
    """Link the cells that share neighbours.

    Two cells whose lists of k neighbours have u in common get the weight ``u / (2 k - u)``, the common share of the
    lists' union. Weights below `prune` are left out.

    Parameters
    ----------
    neighbours
        int32 ``(n_cells, k)``: rows without repetition; a negative number is no neighbour.
    prune
        Smallest weight.
    threads
        Threads to use; the result does not depend on it.
    on_progress
        Called with the fraction done, several times a second; may raise to stop.

    Raises
    ------
    IndexError
        If a neighbour's number is not that of a cell.
    MemoryError
        If memory runs out.
    """
    report = on_progress or (lambda fraction: None)  # noqa: ARG005
    lists = neighbour_lists(neighbours)
    n, k = lists.shape
    share = np.arange(k + 1) / (2 * k - np.arange(k + 1))
    min_shared = int(np.searchsorted(share, prune))
    starts, holders = np.empty(n + 1, np.int64), np.empty(lists.size, np.int32)
    find_holders = partial(
        kernel("cw_shared_holders"), address(lists, np.int32), k, n,
        address(starts, np.int64, writable=True), address(holders, np.int32, writable=True),
    )  # fmt: skip
    reporting(find_holders, partial(report, 0.0))
    held = np.append(np.diff(starts), 0)  # the last is for no neighbour
    run = kernel("cw_shared")
    counts = np.zeros(n, np.int64)

    def block(start: int) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        """Return the links of some cells to later ones; each pair is counted once."""
        end = min(n, start + _BLOCK)
        capacity = int(np.minimum(held[np.maximum(lists[start:end], -1)].sum(axis=1), n).sum())
        cells, shared = np.empty(capacity, np.int32), np.empty(capacity, np.int32)  # unwritten pages take no memory
        written = run(
            address(lists, np.int32), k, n, address(starts, np.int64), address(holders, np.int32), start, end,
            max(1, min_shared), address(counts, np.int64, writable=True), address(cells, np.int32, writable=True),
            address(shared, np.int32, writable=True),
        )  # fmt: skip
        if written < 0:
            raise MemoryError("no memory for the neighbour graph")
        return cells[:written].copy(), share[shared[:written]]

    with ThreadPoolExecutor(max(1, threads)) as pool:
        blocks: list[tuple[NDArray[np.int32], NDArray[np.float64]]] = []
        step = _BLOCK * _ROUND * max(1, threads)
        for start in range(0, n, step):
            report(_HELD + (_COUNTED - _HELD) * start / n)
            blocks += pool.map(block, range(start, min(n, start + step), _BLOCK))
    later = np.concatenate([cells for cells, _ in blocks]) if blocks else np.empty(0, np.int32)
    given = np.concatenate([weights for _, weights in blocks]) if blocks else np.empty(0)
    del blocks
    indptr, cells, weights = np.empty(n + 1, np.int64), np.empty(2 * len(later), np.int32), np.empty(2 * len(later))
    mirror = partial(
        kernel("cw_links_mirror"), n, address(counts, np.int64), address(later, np.int32), address(given, np.float64),
        address(indptr, np.int64, writable=True), address(cells, np.int32, writable=True),
        address(weights, np.float64, writable=True),
    )  # fmt: skip
    if reporting(mirror, partial(report, _COUNTED)):
        raise MemoryError("no memory for the neighbour graph")
    return Links(indptr, cells, weights)


def links_of(indptr: NDArray[np.integer[Any]], cells: NDArray[np.integer[Any]], weights: NDArray[np.floating]) -> Links:
    """Make links of a stored graph as Seurat reads it: the part below the diagonal counts, in both directions.

    Weights stored in single precision become the exact doubles where all of them are ``u / (2 k - u)`` for one k: the
    last bits decide ties between clusters.

    Parameters
    ----------
    indptr, cells, weights
        Compressed rows: ``(n_cells + 1,)``, ``(n_links,)``, ``(n_links,)``; diagonal and zeros allowed.

    Raises
    ------
    ValueError
        If a weight is negative or not finite.
    """
    from scipy.sparse import csr_array, tril  # noqa: PLC0415  (heavy)

    n = len(indptr) - 1
    if len(weights) and not (np.isfinite(weights).all() and weights.min() >= 0):
        raise ValueError("weights of a graph must be finite and not negative")
    exact = _restored(weights) if weights.dtype == np.float32 else weights.astype(np.float64)
    lower = tril(csr_array((exact, cells, indptr), shape=(n, n)), k=-1, format="csr")
    lower.eliminate_zeros()
    both = (lower + lower.T).tocsr()
    both.sort_indices()
    return Links(both.indptr.astype(np.int64), both.indices.astype(np.int32), both.data.astype(np.float64))


def _restored(weights: NDArray[np.float32]) -> NDArray[np.float64]:
    values, places = np.unique(weights, return_inverse=True)
    for k in _USUAL_K:
        shares = np.arange(k + 1) / (2 * k - np.arange(k + 1))
        rounded = shares.astype(np.float32)
        nearest = np.clip(np.searchsorted(rounded, values), 0, k)
        if np.array_equal(rounded[nearest], values):
            return np.asarray(shares[nearest][places], np.float64)
    return weights.astype(np.float64)
