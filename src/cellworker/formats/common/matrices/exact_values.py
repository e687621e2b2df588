"""Numbers of a file as float32, or wider where float32 would change a count: above 2^24 it skips whole numbers."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellworker.formats.common.matrices.sparse import blocks
from cellworker.formats.common.scratch import Scratch, fill

__all__ = ["ExactValues", "exact_dtype", "kept_as", "loses_digits", "single"]

_EXACT_IN_FLOAT32 = 2**24


def exact_dtype(values: NDArray[Any]) -> np.dtype[Any]:
    """Return the type that keeps the whole numbers among some values: float32 nearly always, else float64 or int64.

    Decimals and values beyond float32 do not count: they are measured to fewer digits than float32 has.
    """
    if values.dtype.kind not in "iuf" or values.dtype.itemsize < 4 or values.dtype == np.float32 or not len(values):
        return np.dtype(np.float32)
    if values.dtype.kind == "f":
        with np.errstate(invalid="ignore", over="ignore"):
            large = values[np.abs(values) > _EXACT_IN_FLOAT32]
            large = large[np.isfinite(large) & (large == np.floor(large)) & (np.abs(large) < np.finfo(np.float32).max)]
            lost = bool(np.any(large.astype(np.float32).astype(np.float64) != large))
        return np.dtype(np.float64 if lost else np.float32)
    if max(int(values.max()), -int(values.min())) <= _EXACT_IN_FLOAT32:
        return np.dtype(np.float32)
    # Whole numbers below 2^63 are whole in float64, which shows what float32 made of them, except for those above 2^53.
    large = values[(values > _EXACT_IN_FLOAT32) | (values < -_EXACT_IN_FLOAT32 if values.dtype.kind == "i" else False)]
    if int(large.max(initial=0)) > np.iinfo(np.int64).max:
        return np.dtype(np.float64)
    whole = large.astype(np.int64)
    rounded = whole.astype(np.float32).astype(np.float64)
    same = (rounded < 2.0**63) & (np.where(rounded < 2.0**63, rounded, 0).astype(np.int64) == whole)
    return np.dtype(np.float32 if same.all() else np.int64)


def single(values: NDArray[Any]) -> NDArray[np.float32]:
    """Return values as float32; a double beyond it becomes infinite, as anywhere."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(values, np.float32)


class ExactValues:
    """An array that is filled piece by piece and is as wide as its pieces need.

    Attributes
    ----------
    values
        float32, float64 or int64 ``(length,)``.
    """

    def __init__(self, length: int, scratch: Scratch) -> None:
        self._scratch = scratch
        self.values: NDArray[Any] = scratch.empty((length,), np.float32)

    def put(self, where: slice | NDArray[np.int64], piece: NDArray[Any]) -> None:
        """Write a piece to its place."""
        if self.values.dtype == np.float32:
            wanted = exact_dtype(piece)
            if wanted != np.float32:
                self._widen(wanted)
        kept = single(piece) if self.values.dtype == np.float32 else piece
        if isinstance(where, slice) and where.step is None and where.start is not None:
            fill(self.values, where.start, kept)
        else:
            self.values[where] = kept

    def _widen(self, dtype: np.dtype[Any]) -> None:
        wide = self._scratch.empty(self.values.shape, dtype)
        with np.errstate(invalid="ignore"):  # places that are not filled yet
            for start, end in blocks(len(wide)):
                fill(wide, start, self.values[start:end])
        self.values = wide


def loses_digits(pieces: Iterable[NDArray[Any]], held: np.dtype[Any]) -> bool:
    """Whether the type in which an experiment keeps values does not hold those of some piece exactly."""
    with np.errstate(over="ignore", invalid="ignore"):
        return any(
            not np.array_equal(piece.astype(held).astype(piece.dtype), piece, equal_nan=piece.dtype.kind == "f")
            for piece in pieces
        )


def kept_as(held: np.dtype[Any]) -> str:
    """Return the name in reports of the type in which an experiment keeps values."""
    if held.kind != "f":
        return "whole numbers"
    return "float32" if held.itemsize == 4 else "doubles"
