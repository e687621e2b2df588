"""Values that counts stand for: for each cell, a short list of its counts and their log-normalised values.

A cell's values are a function of its counts as long as the normalisation depends only on the cell. The list holds any
such function to the bit: nothing is computed again. `find_levels` detects a matrix that has no such function.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cellworker.native import address, kernel

__all__ = ["Levels", "ToldValues", "find_levels"]

_KINDS: Final = tuple(map(np.dtype, (np.uint8, np.uint16, np.uint32)))
MAX_LEVELS: Final = 2048
"""Max levels of one cell. Most cells have some dozens; with more than this, the lists do not pay."""


@dataclass(frozen=True, slots=True)
class Levels:
    """The values that the counts of each row stand for.

    Attributes
    ----------
    first
        int64 ``(n_rows + 1,)``: where each row's levels are.
    counts
        uint8, uint16 or uint32 ``(n_levels,)``: the row's distinct counts, ascending.
    values
        float32 ``(n_levels,)``: the value that each stands for.
    """

    first: NDArray[np.int64]
    counts: NDArray[Any]
    values: NDArray[np.float32]


def find_levels(
    bounds: NDArray[np.int64], counts: NDArray[np.uint32], values: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.uint32], NDArray[np.float32]] | None:
    """List the values that the counts of some rows stand for.

    Parameters
    ----------
    bounds
        int64 ``(n_rows + 1,)``, from 0 to the number of entries.
    counts, values
        Count and value of each entry: uint32 and float32 ``(nnz,)``.

    Returns
    -------
    The number of levels of each row, int64 ``(n_rows,)``, and all levels' counts and values as in `Levels`; None
    where a row has two values for one count, a count of 0, or more than `MAX_LEVELS` levels.

    Raises
    ------
    ValueError
        If the bounds do not divide the entries.
    """
    size = len(counts)
    if len(values) != size or len(bounds) < 1 or bounds[0] != 0 or bounds[-1] != size or np.any(np.diff(bounds) < 0):
        raise ValueError("the bounds do not divide the entries")
    lengths = np.empty(len(bounds) - 1, np.int64)
    found_counts, found_values = np.empty(size, np.uint32), np.empty(size, np.float32)
    found = kernel("cw_find_levels")(
        address(bounds, np.int64),
        len(lengths),
        address(counts, np.uint32),
        address(values, np.float32),
        MAX_LEVELS,
        address(lengths, np.int64, writable=True),
        address(found_counts, np.uint32, writable=True),
        address(found_values, np.float32, writable=True),
    )
    return None if found < 0 else (lengths, found_counts[:found], found_values[:found])


class ToldValues:
    """The stored values of a matrix, looked up a part at a time. NumPy can slice it and convert it to an array.

    Parameters
    ----------
    indptr
        int64 ``(n_rows + 1,)``: the bounds of the rows.
    counts
        uint8, uint16 or uint32 ``(nnz,)``: the counts that stand for the values.
    levels
        The values of the counts; its counts have the same type.

    Raises
    ------
    ValueError
        If the arrays do not match.
    """

    dtype: Final = np.dtype(np.float32)
    ndim: Final = 1

    def __init__(self, indptr: NDArray[np.int64], counts: NDArray[Any], levels: Levels) -> None:
        fits = len(levels.first) == len(indptr) and len(levels.counts) == len(levels.values)
        if not fits or levels.counts.dtype != counts.dtype or counts.dtype not in _KINDS:
            raise ValueError("the levels are not those of the counts")
        self.counts, self.levels = counts, levels
        self._indptr = indptr

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def size(self) -> int:
        """Number of values."""
        return len(self.counts)

    @property
    def shape(self) -> tuple[int]:
        """``(nnz,)``."""
        return (len(self.counts),)

    def __getitem__(self, part: slice | NDArray[np.integer[Any]]) -> NDArray[np.float32]:
        """Look up a slice of step 1, or the values at some places.

        Raises
        ------
        IndexError
            For places outside the array.
        ValueError
            If a count has no level: the arrays are damaged.
        """
        if isinstance(part, slice):
            start, stop, step = part.indices(len(self))
            if step != 1:
                return self[np.arange(start, stop, step)]
            return self._look_up(None, start, max(0, stop - start))
        places = np.ascontiguousarray(part, np.int64)
        if places.ndim != 1 or (len(places) and (places.min() < 0 or places.max() >= len(self))):
            raise IndexError("places outside the matrix")
        return self._look_up(places, 0, len(places))

    def _look_up(self, places: NDArray[np.int64] | None, start: int, n: int) -> NDArray[np.float32]:
        out = np.empty(n, np.float32)
        levels = self.levels
        wrong = kernel("cw_level_values")(
            address(self._indptr, np.int64),
            len(self._indptr) - 1,
            address(self.counts, self.counts.dtype),
            self.counts.dtype.itemsize,
            address(levels.first, np.int64),
            address(levels.counts, self.counts.dtype),
            address(levels.values, np.float32),
            len(levels.values),
            None if places is None else address(places, np.int64),
            start,
            n,
            address(out, np.float32, writable=True),
        )
        if wrong >= 0:
            entry = start + wrong if places is None else places[wrong]
            message = f"entry {entry} has a count that its row does not list: the store is damaged"
            raise ValueError(message)
        return out

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:  # noqa: ANN401, FBT001 - as NumPy says
        if copy is False:
            raise ValueError("values that counts tell cannot be had without a copy")
        values = self[:]
        return values if dtype is None else values.astype(dtype, copy=False)
