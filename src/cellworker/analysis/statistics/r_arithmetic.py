"""Arithmetic to R's last bit: the C library's logarithms and exponentials over whole arrays, sums and means.

On some processors NumPy has its own logarithms, which differ in the last bit. Where ties or orders depend on that bit,
we use the C library's, as R does. Sums are in extended precision where the machine has it, in the order of the values.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cellworker.native import address, kernel

__all__ = ["library_function", "mean", "row_means", "total"]

Floats = NDArray[np.float64]

Name = Literal["log2", "log", "exp", "log10", "exp10"]

_WHICH: dict[Name, int] = {"log2": 0, "log": 1, "exp": 2, "log10": 3, "exp10": 4}


def library_function(name: Name, x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Apply a function to every element.

    Parameters
    ----------
    name
        Name of the function; ``exp10`` is ten to the power of x.
    x
        float64, any shape.

    Returns
    -------
    numpy.ndarray
        float64, the shape of `x`; -inf for the logarithm of 0, NaN for one below 0.
    """
    x = np.ascontiguousarray(x, np.float64)
    out = np.empty_like(x)
    kernel("cw_libm")(_WHICH[name], address(x, np.float64), x.size, address(out, np.float64, writable=True))
    return out


def total(x: Floats) -> float:
    """Sum of a vector; 0 for an empty one."""
    return float(np.cumsum(x.astype(np.longdouble))[-1]) if len(x) else 0.0


def mean(x: Floats) -> float:
    """Mean of a vector of at least one value. Like R, it adds the mean of the residuals to the first mean."""
    wide = x.astype(np.longdouble)
    first = np.cumsum(wide)[-1] / len(x)
    return float(first + np.cumsum(wide - first)[-1] / len(x))


def row_means(x: Floats) -> Floats:
    """Means of the rows of a matrix with at least one column, float64 ``(n_rows,)``."""
    return np.asarray(np.cumsum(x.astype(np.longdouble), axis=1)[:, -1] / x.shape[1], np.float64)
