"""Marks in our own files that show that a matrix is unchanged.

A mark is the number of the stored values, and a check sum of some from all over.
"""

import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["mark", "mark_of", "samples"]

_SAMPLE = 1 << 18


def mark_of(values: NDArray[Any]) -> str:
    """Return the mark of a matrix's stored values."""
    return mark(len(values), [np.asarray(values[start:stop]) for start, stop in samples(len(values))])


def samples(length: int) -> list[tuple[int, int]]:
    """Return where the values lie that are summed up, as beginnings and ends."""
    starts = [0] if length <= _SAMPLE else [0, (length - _SAMPLE) // 2, length - _SAMPLE]
    return [(start, min(start + _SAMPLE, length)) for start in starts]


def mark(length: int, parts: list[NDArray[Any]]) -> str:
    """Return the mark of so many values, of which `parts` are the `samples`."""
    check = 0
    for part in parts:
        # As doubles: counts are written as wider numbers than they are held.
        check = zlib.crc32(np.ascontiguousarray(part, "<f8").tobytes(), check)
    return f"{length} {check:08x}"
