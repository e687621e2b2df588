"""Transfers labels of a sketch to all cells, as Seurat's ``ProjectData`` does (algorithms.md, section 6.7)."""

import numpy as np
from numpy.typing import NDArray

from cellworker.analysis.graphs.neighbours import Neighbours

__all__ = ["carry_over"]

_BLOCK = 16_384  # cells


def carry_over(neighbours: Neighbours, labels: list[str]) -> NDArray[np.object_]:
    """Give each cell the label with the largest weight among its nearest labelled cells.

    A neighbour at distance d weighs ``1 - exp(-(1 - d / D) / 4)``, where D is the distance of the farthest. Where all
    are equally far, so that all these weights are 0, all weigh the same.

    Parameters
    ----------
    neighbours
        For each cell its nearest cells of the sketch, ``(n_cells, k)``.
    labels
        Of the sketch's cells.

    Returns
    -------
    numpy.ndarray
        Text ``(n_cells,)``; of labels with equal weights, the first in text order. Where the sketch has only one label,
        all cells get "all", as in the original.
    """
    names = sorted(set(labels))
    n = len(neighbours.cells)
    if len(names) == 1:
        return np.full(n, "all", object)
    place = {name: i for i, name in enumerate(names)}
    codes = np.array([place[label] for label in labels], np.int64)
    best = np.empty(n, np.int64)
    for start in range(0, n, _BLOCK):
        rows = slice(start, start + _BLOCK)
        distances = neighbours.distances[rows].astype(np.float64)
        farthest = distances[:, -1:]
        nearness = 1 - np.divide(distances, farthest, out=np.ones_like(distances), where=farthest > 0)
        weights = 1 - np.exp(-nearness / 4)
        weights[weights.sum(axis=1) == 0] = 1.0
        weights /= weights.sum(axis=1, keepdims=True)
        at = np.arange(len(weights))[:, None] * len(names) + codes[neighbours.cells[rows]]
        sums = np.bincount(at.ravel(), weights.ravel(), len(weights) * len(names)).reshape(len(weights), -1)
        best[rows] = sums.argmax(axis=1)
    return np.array(names, object)[best]
