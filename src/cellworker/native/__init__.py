"""The compiled kernels: one shared library, loaded once, called through ctypes.

The header ``include/cellworker.h`` declares every exported function, and calls take their signatures from it: what is
not declared there cannot be called, and a library that was compiled with another version of the header is refused.
ctypes releases the interpreter lock during a call, so kernels run in parallel on plain threads. Every kernel checks
nothing: its Python binding checks shapes, dtypes and bounds first, since a wrong pointer here is a crash.
"""

import ctypes
import hashlib
import re
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

__all__ = ["HEADER", "Signature", "address", "constant", "kernel", "signatures"]

HEADER = Path(__file__).with_name("include") / "cellworker.h"
"""The interface of the library; `hatch_build.py` compiles its SHA-256 into the library."""

_LIBRARY = Path(__file__).with_name("_kernels.so")

_TYPES = {
    "void": None,
    "char": ctypes.c_char,
    "float": ctypes.c_float,
    "double": ctypes.c_double,
    **{f"{sign}int{bits}_t": getattr(ctypes, f"c_{sign}int{bits}") for sign in ("", "u") for bits in (8, 16, 32, 64)},
}
_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
_PROTOTYPE = re.compile(r"EXPORT\s+([^;()]+?)\s*\b(cw_\w+)\s*\(([^)]*)\)\s*;")
_PARAMETER = re.compile(r"(?P<type>.*?)(?P<name>\w+)", re.DOTALL)
_ADVICE = "reinstall cellworker, or run 'make setup' in a checkout"


class Signature(NamedTuple):
    """The types of one kernel, as ctypes wants them; every pointer is a ``c_void_p``."""

    result: Any
    arguments: tuple[Any, ...]


def signatures(header: str) -> dict[str, Signature]:
    """Read the prototypes of a header.

    Parameters
    ----------
    header
        Text in the style of ``cellworker.h``: ``EXPORT type name(type name, ...);``, fixed-width types, pointers.

    Returns
    -------
    dict
        Signatures by the functions' names.

    Raises
    ------
    ValueError
        For a type that has no fixed width.
    """
    found = {}
    for result, name, parameters in _PROTOTYPE.findall(_COMMENT.sub(" ", header)):
        listed = [] if parameters.strip() in ("", "void") else parameters.split(",")
        types = tuple(_ctype(cast("re.Match[str]", _PARAMETER.fullmatch(item.strip()))["type"]) for item in listed)
        found[name] = Signature(_ctype(result), types)
    return found


def _ctype(declared: str) -> Any:  # noqa: ANN401
    if "*" in declared:
        return ctypes.c_void_p
    words = [word for word in declared.split() if word not in {"const", "extern", "volatile"}]
    if len(words) != 1 or words[0] not in _TYPES:
        message = f"{HEADER.name}: {declared.strip()!r} has no fixed width"
        raise ValueError(message)
    return _TYPES[words[0]]


@cache
def _library() -> tuple[ctypes.CDLL, dict[str, Signature]]:
    if not _LIBRARY.exists():
        message = f"the compiled kernels are missing ({_LIBRARY.name}): {_ADVICE}"
        raise ImportError(message)
    content = HEADER.read_bytes()
    return _checked(ctypes.CDLL(str(_LIBRARY)), content), signatures(content.decode())


def _checked(library: ctypes.CDLL, header: bytes) -> ctypes.CDLL:
    """Refuse a library of another interface: its functions would read arguments that are not passed."""
    try:
        version = library.cw_interface
    except AttributeError:
        version = None
    if version is not None:
        version.restype, version.argtypes = ctypes.c_char_p, []
    if version is None or version() != hashlib.sha256(header).hexdigest().encode():
        message = f"the compiled kernels are of another version than this Python code: {_ADVICE}"
        raise ImportError(message)
    return library


@cache
def kernel(name: str) -> Any:  # noqa: ANN401
    """Return one kernel, ready to be called with numbers and addresses.

    Parameters
    ----------
    name
        The C function's name, as ``cellworker.h`` declares it.

    Raises
    ------
    ImportError
        Where the library is missing or has another interface.
    KeyError
        For a name that the header does not declare.
    """
    library, known = _library()
    signature = known[name]
    function = cast("Any", getattr(library, name))
    function.restype = signature.result
    function.argtypes = list(signature.arguments)
    return function


def constant(name: str, dtype: Any, count: int) -> NDArray[Any]:  # noqa: ANN401
    """Return a copy of a table of the library, `count` numbers of one type."""
    size = np.dtype(dtype).itemsize * count
    return np.frombuffer(bytes((ctypes.c_char * size).in_dll(_library()[0], name)), dtype).copy()


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
