"""The smoothest functions on a graph, the start of UMAP's layouts."""

import math
from collections.abc import Callable
from concurrent.futures import Executor

import numpy as np
from numpy.typing import NDArray

from cellworker.native import address, kernel

__all__ = ["VECTORS", "smooth_functions"]

VECTORS = 8  # vectors in a block, as in smooth.c
_ROWS = 8192
_DEGREE = 12
_ROUNDS = 4
_SETTLED = 0.01


def smooth_functions(
    first: NDArray[np.int64],
    to: NDArray[np.int32],
    weight: NDArray[np.float32],
    strength: NDArray[np.float32],
    rows: range,
    *,
    start: NDArray[np.float32],
    run: Executor,
    report: Callable[[float], None],
) -> NDArray[np.float32]:
    """Return the two functions on a connected part of a graph that vary least along its links.

    Approximations of the first eigenvectors, except the constant one, of the random walk's Laplacian (Belkin and
    Niyogi, 2003), by subspace iteration with a filter of Chebyshev polynomials (Zhou and Saad, 2007). They are rough:
    they only start a layout.

    Parameters
    ----------
    first, to, weight
        The graph in compressed rows; all links of a part stay in the part.
    strength
        Sums of the graph's rows, above 0.
    rows
        The part.
    start
        float32 ``(len(rows), 8)``: any vectors; 7 of them count.
    run
        The pool of threads; the result does not depend on their number.
    report
        Called with the fraction done; may raise to stop.

    Returns
    -------
    float32 ``(len(rows), 2)``.
    """
    apply = kernel("cw_smooth_apply")
    multiply = kernel("cw_smooth_products")
    combine = kernel("cw_smooth_combine")
    ritz = kernel("cw_smooth_ritz")
    n = len(rows)
    root = np.zeros(len(strength), np.float32)
    root[rows.start : rows.stop] = 1 / np.sqrt(strength[rows.start : rows.stop])
    graph = (address(first, np.int64), address(to, np.int32), address(weight, np.float32), address(root, np.float32))
    blocks = [(begin, min(begin + _ROWS, n)) for begin in range(0, n, _ROWS)]

    def step(scale: float, centre: float, back: float, x: NDArray[np.float32], before: NDArray[np.float32]) -> None:
        """Set ``before = scale * (P - centre) x - back * before``."""
        at, into = address(x, np.float32), address(before, np.float32, writable=True)
        list(run.map(lambda b: apply(*graph, rows.start, *b, scale, centre, back, at, into, into), blocks))

    def products(x: NDArray[np.float32], y: NDArray[np.float32]) -> NDArray[np.float64]:
        parts = np.zeros((len(blocks), VECTORS, VECTORS))

        def some(i: int) -> None:
            multiply(address(x, np.float32), address(y, np.float32), *blocks[i], parts[i].ctypes.data)

        list(run.map(some, range(len(blocks))))
        total = np.zeros((VECTORS, VECTORS))
        for part in parts:  # in block order, whichever thread computes them
            total += part
        return total

    x = np.ascontiguousarray(start, np.float32)
    x[:, 0] = np.sqrt(strength[rows.start : rows.stop])
    y = np.zeros_like(x)
    values, matrix = np.empty(VECTORS), np.empty((VECTORS, VECTORS))
    last = math.inf
    for round_ in range(_ROUNDS):
        if round_:
            top = min(float(values[-1]), 0.999)
            centre, half = (top - 1) / 2, (top + 1) / 2
            y[:] = 0
            step(1 / half, centre, 0, x, y)
            for _ in range(1, _DEGREE):
                x, y = y, x
                step(2 / half, centre, 1, x, y)
            x, y = y, x
        report(round_ / _ROUNDS)
        y[:] = 0
        step(1, 0, 0, x, y)
        inner, image = products(x, x), products(x, y)
        ritz(inner.ctypes.data, image.ctypes.data, matrix.ctypes.data, values.ctypes.data)
        into = address(x, np.float32, writable=True)
        list(run.map(lambda b: combine(into, matrix.ctypes.data, *b, into), blocks))  # noqa: B023
        gap = 2 - float(values[1]) - float(values[2])
        if abs(last - gap) < _SETTLED * gap:
            break
        last = gap
    return x[:, 1:3] * root[rows.start : rows.stop, None]
