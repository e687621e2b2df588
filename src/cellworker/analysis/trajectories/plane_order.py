"""An order of points in the plane that keeps neighbours near each other, so that they share the cache."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["plane_order"]

_LEVELS = 15
_SPREAD = ((8, 0x00FF00FF), (4, 0x0F0F0F0F), (2, 0x33333333), (1, 0x55555555))


def plane_order(points: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the order, int64 ``(n,)``, of points ``(n, 2)``, finite, along Morton's curve; equals stay in order."""
    low, high = points.min(axis=0), points.max(axis=0)
    side = max(float((high - low).max()), np.finfo(np.float64).tiny)
    code = np.zeros(len(points), np.int64)
    for axis in range(2):
        step = ((points[:, axis] - low[axis]) / side * (2**_LEVELS - 1)).astype(np.int64)
        for shift, mask in _SPREAD:
            step = (step | (step << shift)) & mask
        code |= step << axis
    return np.argsort(code, kind="stable")
