"""The values that the counts of each cell stand for: found before a store's size is known, and then written to it."""

import os
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, cast

import numpy as np
from numpy.typing import NDArray

from cellworker.analysis.matrices.levels import Levels, ToldValues, find_levels
from cellworker.experiment.store.blocks import Meter, StoreFile, cut, in_threads
from cellworker.experiment.store.index import ArrayPlace
from cellworker.experiment.store.rows import ScannedRows, narrow

__all__ = ["FoundLevels", "by_cell", "by_cell_name"]

_VALUE_BYTES: Final = 4
_BLOCK: Final = 1 << 18  # entries whose levels are found at a time: their arrays stay in the caches


def by_cell_name(places: Mapping[str, ArrayPlace]) -> str:
    """Return the name of the arrays that hold the cell-major side of a store."""
    return "counts" if "levels/values" in places else "by_cell"


def by_cell(
    places: Mapping[str, ArrayPlace], array: Callable[[str], NDArray[Any]]
) -> tuple[NDArray[np.int64], NDArray[np.int32] | NDArray[np.uint16], NDArray[np.float32]]:
    """Return the cell-major side of a store: plain values, or the values that the counts of each cell stand for.

    Parameters
    ----------
    places
        The places of the store's arrays.
    array
        Returns an array by its name.
    """
    name = by_cell_name(places)
    indptr, genes, values = (array(f"{name}/{part}") for part in ("indptr", "indices", "data"))
    if name == "counts":
        levels = Levels(*(array(f"levels/{part}") for part in ("first", "counts", "values")))
        values = cast("NDArray[np.float32]", ToldValues(indptr, values, levels))
    return indptr, genes, values


class FoundLevels:
    """The levels of all cells, in a temporary file: a cell has some dozens, too many for memory with many cells.

    Parameters
    ----------
    data, counts
        The normalised values and the counts, with non-zeros at the same places.
    dtype
        Type of the counts in the store: uint8, uint16 or uint32.
    folder
        Folder for the temporary file.

    Attributes
    ----------
    complete
        Whether every value follows from its count, and the levels take less space than the values.
    size
        Number of levels.
    """

    def __init__(
        self,
        data: ScannedRows,
        counts: ScannedRows,
        dtype: np.dtype[Any],
        *,
        folder: Path,
        threads: int,
        meter: Meter,
    ) -> None:
        self.dtype = dtype
        self._lengths = np.zeros(len(data.bounds) - 1, np.int32)
        self._spool = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed where this is left
        try:
            self._pieces = self._find(data, counts, threads, meter)
        except BaseException:
            self._spool.close()
            raise
        self.size = int(self._lengths.sum())
        worth = self.size * (_VALUE_BYTES + dtype.itemsize) < data.nnz * _VALUE_BYTES
        self.complete = None not in self._pieces and (worth or not data.nnz)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._spool.close()

    def _find(self, data: ScannedRows, counts: ScannedRows, threads: int, meter: Meter) -> list[tuple[int, int] | None]:
        """Return the place and number of each block's levels in the temporary file.

        None where counts do not determine the values.
        """
        spool, lock, end = StoreFile(self._spool.fileno()), threading.Lock(), 0
        untold = threading.Event()

        def worker() -> Callable[[tuple[int, int]], tuple[int, int] | None]:
            read_values, read_counts = data.reader(), counts.reader()

            def work(block: tuple[int, int]) -> tuple[int, int] | None:
                nonlocal end
                if untold.is_set():
                    return None
                start, stop = block
                bounds = data.bounds[start : stop + 1] - data.bounds[start]
                values, told = narrow(read_values(*block)[1]), read_counts(*block)[1].astype(np.uint32)
                found = find_levels(bounds, told, values)
                if found is None:
                    untold.set()
                    return None
                lengths, level_counts, level_values = found
                self._lengths[start:stop] = lengths
                size = len(level_values)
                with lock:
                    place, end = end, end + size * (_VALUE_BYTES + self.dtype.itemsize)
                spool.put(place, level_values)
                spool.put(place + size * _VALUE_BYTES, level_counts.astype(self.dtype))
                meter.add("writing", len(values))
                return place, size

            return work

        return in_threads(cut(data.draft.indptr, _BLOCK), threads, worker)

    def write(self, file: StoreFile, places: dict[str, ArrayPlace]) -> None:
        """Write the levels, cell by cell, to their places in a file."""
        first = np.zeros(len(self._lengths) + 1, np.int64)
        np.cumsum(self._lengths, out=first[1:])
        file.put(places["levels/first"].offset, first)
        at_values, at_counts = places["levels/values"].offset, places["levels/counts"].offset
        for piece in self._pieces:
            assert piece is not None
            place, size = piece
            at_values += self._copy(file, at_values, place, np.dtype(np.float32), size)
            at_counts += self._copy(file, at_counts, place + size * _VALUE_BYTES, self.dtype, size)

    def _copy(self, file: StoreFile, to: int, place: int, dtype: np.dtype[Any], size: int) -> int:
        content: NDArray[Any] = np.empty(size, dtype)
        view = content.data.cast("B") if size else memoryview(b"")
        while view:
            read = os.preadv(self._spool.fileno(), [view], place)
            if not read:
                raise EOFError
            view, place = view[read:], place + read
        file.put(to, content)
        return content.nbytes
