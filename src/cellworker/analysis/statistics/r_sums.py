"""Sums and means with R's rounding: in extended precision where the machine has it, one value after the other."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["mean", "row_means", "total"]

Floats = NDArray[np.float64]


def total(x: Floats) -> float:
    """Sum of a vector; 0 for none."""
    return float(np.cumsum(x.astype(np.longdouble))[-1]) if len(x) else 0.0


def mean(x: Floats) -> float:
    """Mean of a vector of at least one value: R adds the mean of what is left around the first."""
    wide = x.astype(np.longdouble)
    first = np.cumsum(wide)[-1] / len(x)
    return float(first + np.cumsum(wide - first)[-1] / len(x))


def row_means(x: Floats) -> Floats:
    """Means of the rows of a matrix with at least one column, float64 ``(n_rows,)``."""
    return np.asarray(np.cumsum(x.astype(np.longdouble), axis=1)[:, -1] / x.shape[1], np.float64)
