"""The compiled kernels: one shared library, loaded once, called through ctypes.

ctypes releases the interpreter lock during a call, so kernels run in parallel on plain threads. Every kernel checks
nothing: its Python binding checks shapes, dtypes and bounds first, since a wrong pointer here is a crash.
"""

import ctypes
from functools import cache
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

__all__ = ["address", "kernel"]

_LIBRARY = Path(__file__).with_name("_kernels.so")


@cache
def _library() -> ctypes.CDLL:
    if not _LIBRARY.exists():
        advice = "reinstall cellworker, or run 'python hatch_build.py' in a checkout"
        message = f"the compiled kernels are missing ({_LIBRARY.name}): {advice}"
        raise ImportError(message)
    return ctypes.CDLL(str(_LIBRARY))


def kernel(name: str, result: Any, *arguments: Any) -> Any:  # noqa: ANN401
    """Bind one kernel.

    Parameters
    ----------
    name
        The C function's name.
    result, arguments
        ctypes types; None for void; arrays are passed as ``ctypes.c_void_p``.
    """
    function = cast("Any", getattr(_library(), name))
    function.restype = result
    function.argtypes = list(arguments)
    return function


def address(array: NDArray[Any], dtype: Any, *, writable: bool = False) -> int:  # noqa: ANN401
    """Return the address of an array's first element after checking that a kernel may use it.

    Raises
    ------
    TypeError
        If the dtype differs, or the array is not C-contiguous, aligned and (where asked) writable.
    """
    flags = array.flags
    usable = flags.c_contiguous and flags.aligned and (flags.writeable or not writable)
    if array.dtype != np.dtype(dtype) or not usable:
        message = f"kernel needs an aligned contiguous {np.dtype(dtype)} array, got {array.dtype} with {flags}"
        raise TypeError(message)
    return int(array.ctypes.data)
