"""The C library's logarithms and exponentials over whole arrays.

NumPy brings its own on some processors, which differ in the last bit. Where ties or orders hang on that bit, both R and
we take the C library's.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cellworker.native import address, kernel

__all__ = ["library_function"]

Name = Literal["log2", "log", "exp", "log10", "exp10"]

_WHICH: dict[Name, int] = {"log2": 0, "log": 1, "exp": 2, "log10": 3, "exp10": 4}


def library_function(name: Name, x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Apply a function to every element.

    Parameters
    ----------
    name
        Which; ``exp10`` is ten to the power of.
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
