"""The start of UMAP's layouts: each connected part of the graph by its smoothest functions."""

import math
from collections.abc import Callable
from concurrent.futures import Executor

import numpy as np
from numpy.typing import NDArray

from cellworker.analysis.maps.smooth import VECTORS, smooth_functions
from cellworker.analysis.maps.umap_graph import WeightedGraph, parts_of
from cellworker.native import address, kernel

__all__ = ["along_a_curve", "beginning", "noise", "placed"]

_SIDE = 10.0
_SMALL = 16  # min points of a part with a shape
_JITTER = 1e-3
_TURN = (-0.7373688780783197, 0.6754902942615238)  # cosine and sine of the golden angle


def noise(shape: tuple[int, int], seed: int) -> NDArray[np.float32]:
    """Return float32 numbers from -1 to 1, the same on every machine."""
    out = np.empty(shape, np.float32)
    fill = kernel("cw_umap_noise")
    fill(address(out, np.float32, writable=True), out.size, seed)
    return out


def placed(start: NDArray[np.floating], seed: int) -> NDArray[np.float32]:
    """Return a given start in the size of the others, float32 ``(n, 2)``; noise separates points at one place."""
    low, high = start.min(axis=0), start.max(axis=0)
    side = np.max(high - low) or 1.0
    out: NDArray[np.float32] = ((start - (low + high) / 2) * (_SIDE / side)).astype(np.float32)
    return out + np.float32(_JITTER) * noise((len(start), 2), seed)


def beginning(
    graph: WeightedGraph, points: NDArray[np.float32] | None, seed: int, run: Executor, report: Callable[[float], None]
) -> NDArray[np.float32]:
    """Return a first layout, float32 ``(n, 2)``, the same for any number of threads.

    A connected part fills a square whose area is proportional to its number of points. A part is at its points' mean in
    the first two dimensions of `points`; without `points`, parts lie on a spiral, the largest innermost.
    """
    n = len(graph)
    n_parts, part = parts_of(graph)
    jitter = noise((n, VECTORS), seed)
    start = jitter.copy()
    if points is not None:
        # Coordinates of the data are already smooth on the graph; the first vector is not used.
        dims = min(points.shape[1], VECTORS - 1)
        start[:, 1 : 1 + dims] = points[:, :dims]
    # Put the rows of a part side by side, so that each part is a graph of its own.
    order = np.argsort(part, kind="stable")
    sizes = np.bincount(part, minlength=n_parts)
    ends = np.cumsum(sizes).tolist()
    ordered = graph if n_parts == 1 else graph.rearranged(order, run)
    centres = _centres(part, sizes, points)
    out = np.empty((n, 2), np.float32)
    for i, (begin, end) in enumerate(zip([0, *ends], ends, strict=False)):
        rows, side = order[begin:end], _SIDE * math.sqrt((end - begin) / n)
        if end - begin < _SMALL:
            shape = jitter[rows, :2] * np.float32(0.5)
        else:

            def told(part_done: float, begin: int = begin, size: int = end - begin) -> None:
                report((begin + part_done * size) / n)

            found = smooth_functions(
                ordered.first, ordered.to, ordered.weight, ordered.strength, range(begin, end), start=start[rows],
                run=run, report=told,
            )  # fmt: skip
            low, high = found.min(axis=0), found.max(axis=0)
            width = np.where(high > low, high - low, 1)
            shape = (found - low) / width - np.float32(0.5) + np.float32(_JITTER) * jitter[rows, :2]
        out[rows] = np.float32(side) * shape + centres[i]
    return out


def _centres(
    part: NDArray[np.int32], sizes: NDArray[np.int64], points: NDArray[np.float32] | None
) -> NDArray[np.float32]:
    n_parts = len(sizes)
    if n_parts == 1:
        return np.zeros((1, 2), np.float32)
    if points is not None:
        # bincount adds in order, on every machine
        dims = [points[:, d] for d in range(min(2, points.shape[1]))]
        means = [np.bincount(part, weights=values, minlength=n_parts) / sizes for values in dims]
        widest = max(float(np.ptp(mean)) for mean in means)
        if widest > 0:
            scale = 2 * _SIDE / widest
            columns = [(mean - (mean.max() + mean.min()) / 2) * scale for mean in means]
            return np.column_stack([*columns, np.zeros((n_parts, 2 - len(columns)))]).astype(np.float32)
    out = np.zeros((n_parts, 2), np.float32)
    total, covered, x, y = int(sizes.sum()), 0, 1.0, 0.0
    for i in np.argsort(-sizes, kind="stable").tolist():
        radius = 2 * _SIDE * math.sqrt(covered / total)
        out[i] = radius * x, radius * y
        covered += int(sizes[i])
        x, y = _TURN[0] * x - _TURN[1] * y, _TURN[1] * x + _TURN[0] * y
    return out


def along_a_curve(layout: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the points in their order along Morton's space-filling curve."""
    low = layout.min(axis=0)
    width = max(float((layout.max(axis=0) - low).max()), 1e-30)
    cells = ((layout - low) * np.float32(1023 / width)).astype(np.int64).clip(0, 1023)
    code = np.zeros(len(layout), np.int64)
    for bit in range(10):
        for d in range(2):
            code |= ((cells[:, d] >> bit) & 1) << (2 * bit + d)
    return np.argsort(code, kind="stable")
