"""How a file of ours tells later that a matrix is still the one that was written, and so what its values are.

Values alone do not always say it: an object may hold normalised values below 0 (an integrated assay), or none at all.
Changing the matrix changes its mark, and then the values decide, as in any file.
"""

import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellworker.formats.anndata.containers.tree import TreeGroup
from cellworker.formats.anndata.elements import is_array, is_group

__all__ = ["is_marked", "mark_of"]

_SAMPLE = 1 << 18


def mark_of(values: NDArray[Any]) -> str:
    """Return the mark of a matrix's stored values: their number, and a check sum of some from all over."""
    return _mark(len(values), [np.asarray(values[start:stop]) for start, stop in _samples(len(values))])


def _samples(length: int) -> list[tuple[int, int]]:
    starts = [0] if length <= _SAMPLE else [0, (length - _SAMPLE) // 2, length - _SAMPLE]
    return [(start, min(start + _SAMPLE, length)) for start in starts]


def _mark(length: int, parts: list[NDArray[Any]]) -> str:
    check = 0
    for part in parts:
        # As doubles: counts are written as wider numbers than they are held.
        check = zlib.crc32(np.ascontiguousarray(part, "<f8").tobytes(), check)
    return f"{length} {check:08x}"


def is_marked(root: TreeGroup, what: str, path: str) -> bool:
    """Return whether the matrix at a path is the one that cellworker wrote there as `what`: data or counts."""
    marks, matrix = root.get("uns/cellworker/matrices"), root.get(path)
    mark = marks.get(what) if is_group(marks) else None
    values = matrix.get("data") if is_group(matrix) else None
    if not is_array(mark) or mark.dtype is not None or not is_array(values) or len(values.shape) != 1:
        return False
    if values.dtype is None or values.dtype.kind not in "iuf":
        return False
    found = [values.read(start, stop) for start, stop in _samples(values.shape[0])]
    return mark.texts() == [_mark(values.shape[0], found)]
