"""Numbers as JSON text, from arrays, on several threads: the kernels run without the interpreter lock."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from cellworker.native import address, kernel

__all__ = ["floats_json", "ints_json", "points_json"]

_floats = kernel("cw_floats_json")
_points = kernel("cw_points_json")
_ints = kernel("cw_ints_json")
# The capacity that the kernels in text.c need: bytes per value with its comma, and a constant.
_FLOAT_BYTES, _POINT_BYTES, _INT_BYTES, _SLACK = 25, 52, 12, 32
_WORTH_A_THREAD, _LARGEST_PIECE = 30_000, 1 << 20


def floats_json(values: NDArray[np.float32], threads: int = 1) -> bytes:
    """Return the text of a JSON array of numbers.

    Parameters
    ----------
    values
        float32 ``(n,)``. NaN and infinities become ``null``.
    threads
        Max threads.

    Returns
    -------
    ASCII text with brackets. Each number is the shortest decimal that reads back as the same float32; of several, the
    closest to it (method: see text.c).
    """
    return _numbers(np.ascontiguousarray(values, np.float32), _floats, _FLOAT_BYTES, threads)


def ints_json(values: NDArray[np.int32], threads: int = 1) -> bytes:
    """Return the text of a JSON array of integers, int32 ``(n,)``."""
    return _numbers(np.ascontiguousarray(values, np.int32), _ints, _INT_BYTES, threads)


def points_json(x: NDArray[np.float32], y: NDArray[np.float32], threads: int = 1) -> bytes:
    """Return the text of a JSON array of ``[x, y]`` pairs.

    Parameters
    ----------
    x, y
        float32 ``(n,)`` each; a point of which either is not finite becomes ``null``.
    threads
        Max threads.
    """
    x, y = np.ascontiguousarray(x, np.float32), np.ascontiguousarray(y, np.float32)
    if x.shape != y.shape:
        message = f"x and y must be of one length, got {x.shape} and {y.shape}"
        raise ValueError(message)

    def piece(start: int, end: int) -> bytes:
        out = np.empty((end - start) * _POINT_BYTES + _SLACK, np.uint8)
        length = _points(
            address(x[start:end], np.float32),
            address(y[start:end], np.float32),
            end - start,
            address(out, np.uint8, writable=True),
        )
        return out[:length].tobytes()

    return _array(x.size, threads, piece)


def _numbers(
    values: NDArray[np.float32] | NDArray[np.int32], write: Callable[..., int], value_bytes: int, threads: int
) -> bytes:
    def piece(start: int, end: int) -> bytes:
        part = values[start:end]
        out = np.empty(part.size * value_bytes + _SLACK, np.uint8)
        length = write(address(part, values.dtype.type), part.size, address(out, np.uint8, writable=True))
        return out[:length].tobytes()

    return _array(values.size, threads, piece)


def _array(n: int, threads: int, piece: Callable[[int, int], bytes]) -> bytes:
    threads = max(1, min(threads, n // _WORTH_A_THREAD))
    # Pieces bound the memory reserved for the longest possible text.
    pieces = max(threads, -(-n // _LARGEST_PIECE))
    bounds = [n * i // pieces for i in range(pieces + 1)]
    if threads == 1:
        return b"[" + b",".join(map(piece, bounds, bounds[1:])) + b"]"
    with ThreadPoolExecutor(threads) as pool:
        return b"[" + b",".join(pool.map(piece, bounds, bounds[1:])) + b"]"
