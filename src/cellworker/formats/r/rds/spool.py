"""Long vectors on their way from the file to the store: swapped piece by piece into files of their own, then mapped."""

import errno
import weakref
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellworker.errors import ErrorCode, WorkerError
from cellworker.formats.common.matrices.sparse import blocks
from cellworker.formats.common.scratch import spooled
from cellworker.formats.common.write_limit import WriteLimit
from cellworker.formats.r.rds.inflate import CHUNK_BYTES
from cellworker.native import address, kernel

__all__ = ["Spool", "SpoolLayout", "convert"]

_swap32 = kernel("cw_rds_swap32")
_swap64 = kernel("cw_rds_swap64")
_doubles_to_floats = kernel("cw_rds_doubles_to_floats")


@dataclass(frozen=True, slots=True)
class SpoolLayout:
    """How elements are in the file (`stored`) and in memory (`kept`, in native byte order)."""

    stored: np.dtype[Any]
    kept: np.dtype[Any]

    @classmethod
    def of(cls, stored: str, kept: str) -> "SpoolLayout":
        """Name the two dtypes."""
        return cls(np.dtype(stored), np.dtype(kept))


def convert(content: bytes | memoryview, layout: SpoolLayout) -> NDArray[Any]:
    """Return the elements of a short run of bytes in native order."""
    elements = np.frombuffer(content, layout.stored)
    if layout.kept.itemsize == layout.stored.itemsize:
        return elements.astype(layout.kept)
    with np.errstate(over="ignore", invalid="ignore"):  # a double beyond float32 becomes infinite, as it would anywhere
        return elements.astype(layout.kept)


class Spool:
    """Files in one folder, whose names begin with `prefix`; deleting the folder is its owner's business.

    `limit` counts every vector before it is written.
    """

    def __init__(self, folder: Path, prefix: str = "vector", limit: WriteLimit | None = None) -> None:
        self._folder = folder
        self._prefix = prefix
        self._limit = limit
        self._count = 0
        self._whole_numbers: list[weakref.ref[NDArray[Any]]] = []
        self._scratch = np.empty(2 * CHUNK_BYTES, np.uint8)

    def keep(self, pieces: Iterable[memoryview], count: int, layout: SpoolLayout) -> NDArray[Any]:
        """Convert `count` elements out of `pieces` (whole elements each) and return them as a read-only map."""
        swapped = (
            self._swapped(piece[start : start + CHUNK_BYTES], layout)
            for piece in pieces
            for start in range(0, len(piece), CHUNK_BYTES)
        )
        return self.keep_arrays(swapped, count, layout.kept)

    def keep_arrays(self, arrays: Iterable[NDArray[Any]], count: int, kept: np.dtype[Any]) -> NDArray[Any]:
        """Write `count` elements that come as arrays, and return them as a read-only map.

        Whole numbers that an earlier vector holds too, as the places of one matrix's values are those of another's, are
        not written again: that vector is returned.
        """
        arrays = iter(arrays)
        same, done, first = self._as_long(count, kept), 0, None
        while same:
            first = next(arrays, None)
            if first is None:
                return same[0]
            stop = done + len(first)
            still = [other for other in same if np.array_equal(other[done:stop], first)]
            if not still:
                break
            same, done, first = still, stop, None
        path = self._next_path(count * kept.itemsize)
        before = (same[0][start:end] for start, end in blocks(done)) if same else ()
        try:
            with path.open("wb", buffering=0) as file:
                for array in chain(before, () if first is None else (first,), arrays):
                    _write(file, array.astype(kept, copy=False))
        except OSError as problem:
            raise _failed(problem) from None
        made = _mapped(path, kept, count)
        if kept.kind == "i":
            self._whole_numbers.append(weakref.ref(made))
        return made

    def _as_long(self, count: int, kept: np.dtype[Any]) -> list[NDArray[Any]]:
        """Return the vectors of whole numbers of this length that are still in use."""
        found = [reference() for reference in self._whole_numbers] if kept.kind == "i" else []
        return [other for other in found if other is not None and len(other) == count and other.dtype == kept]

    def _next_path(self, n_bytes: int) -> Path:
        if self._limit is not None:
            self._limit.claim(n_bytes)
        self._count += 1
        return self._folder / f"{self._prefix}-{self._count:06d}.bin"

    def _swapped(self, piece: memoryview, layout: SpoolLayout) -> NDArray[Any]:
        source = np.frombuffer(piece, np.uint8)
        stored, kept = layout.stored.itemsize, layout.kept.itemsize
        count = len(piece) // stored
        out = self._scratch[: count * kept].view(layout.kept)
        if layout.stored.newbyteorder("=") == layout.stored:  # the machine's own byte order
            return source.view(layout.stored).astype(layout.kept, copy=False)
        if layout.stored.kind == "f" and kept == 4:
            _doubles_to_floats(address(source, np.uint8), count, address(out, np.float32, writable=True))
        elif stored == 4:
            _swap32(address(source, np.uint8), count, address(out, layout.kept, writable=True))
        elif stored in (8, 16):
            _swap64(address(source, np.uint8), len(piece) // 8, address(out, layout.kept, writable=True))
        else:
            return source
        return out


def _mapped(path: Path, kept: np.dtype[Any], count: int) -> NDArray[Any]:
    """Map a file for reading; its pages may be given back, for which the system asks for a map that may be written."""
    found = np.memmap(path, kept, "r+", shape=(count,))
    found.flags.writeable = False
    return spooled(found)


def _write(file: Any, array: NDArray[Any]) -> None:  # noqa: ANN401
    view = array.data.cast("B")
    while view:
        view = view[file.write(view) :]


def _failed(problem: OSError) -> WorkerError:
    if problem.errno in (errno.ENOSPC, errno.EDQUOT):
        return WorkerError(
            ErrorCode.DISK_FULL,
            "The disk has no room to unpack the experiment: free some space, or let TMPDIR name a larger one.",
        )
    return WorkerError(
        ErrorCode.EXPERIMENT_UNREADABLE,
        f"The experiment could not be unpacked to the temporary folder: {problem.strerror}.",
    )
