"""How faithful a map of cells is to the space that it was made from: exact figures, block by block."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

__all__ = ["coordinates", "preservation", "trustworthiness"]

_BLOCK = 512  # rows


def trustworthiness(space: NDArray[np.floating], layout: NDArray[np.floating], k: int = 15) -> float:
    """Return how little of each cell's neighbourhood in the layout was far away in the space (Venna and Kaski, 2001).

    ``1 - 2 / (n k (2 n - 3 k - 1)) * sum of (rank in the space - k)`` over the `k` nearest cells in the layout that are
    not among the `k` nearest in the space; 1 is best. Euclidean: divide rows by their lengths for cosine.

    Parameters
    ----------
    space
        ``(n, n_dims)``.
    layout
        ``(n, 2)``.
    k
        Below ``n / 2``.
    """
    n = len(space)
    assert 0 < k < n / 2
    far = 0
    for rows, there, here in _distances(space, layout):
        near = np.argpartition(here, k - 1, axis=1)[:, :k]
        asked = np.take_along_axis(there, near, axis=1)
        there.sort(axis=1)
        for i in range(len(rows)):
            rank = np.searchsorted(there[i], asked[i]) + 1
            far += int(np.maximum(rank - k, 0).sum())
    return 1 - 2 * far / (n * k * (2 * n - 3 * k - 1))


def preservation(space: NDArray[np.floating], layout: NDArray[np.floating], k: int = 30) -> float:
    """Return the mean share of the `k` nearest cells in the space that are among the `k` nearest in the layout."""
    n = len(space)
    assert 0 < k < n
    kept = 0
    for _, there, here in _distances(space, layout):
        both = np.zeros(there.shape, np.int8)
        for distances in (there, here):
            near = np.argpartition(distances, k - 1, axis=1)[:, :k]
            np.put_along_axis(both, near, np.take_along_axis(both, near, axis=1) + 1, axis=1)
        kept += int(np.count_nonzero(both == 2))
    return kept / (n * k)


def _distances(
    *spaces: NDArray[np.floating],
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]]:
    """Yield blocks of rows with their squared distances to all rows in both spaces, infinite to themselves."""
    both = [np.asarray(space, np.float64) for space in spaces]
    both = [space - space.mean(axis=0) for space in both]
    squares = [np.einsum("ij,ij->i", space, space) for space in both]
    for start in range(0, len(both[0]), _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, len(both[0])))
        found = []
        for space, square in zip(both, squares, strict=True):
            distances = square[rows, None] + square - 2 * (space[rows] @ space.T)
            distances[np.arange(len(rows)), rows] = np.inf
            found.append(distances)
        yield rows, found[0], found[1]


def coordinates(response: list[list[float] | None]) -> NDArray[np.float64]:
    """Return the places in an answer of GetEmbedding, ``(n_cells, 2)``, cells in the order of their ids."""
    return np.array([place for place in response if place], float)
