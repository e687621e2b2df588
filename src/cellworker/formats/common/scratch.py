"""Space for arrays made while reading: in memory when small, mapped from a spool file when not."""

import mmap
import os
import tempfile
import weakref
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.store.blocks import StoreFile
from cellworker.experiment.store.spent_pages import give_back as give_back_pages
from cellworker.formats.common.free_space import Figures
from cellworker.formats.common.write_limit import WriteLimit

__all__ = ["Scratch", "fill", "give_back", "is_spooled", "spooled"]

_IN_MEMORY = 8 << 20

_TEMPORARY: "weakref.WeakSet[Any]" = weakref.WeakSet()
"""Maps of temporary files, which only the arrays in them use."""
_DESCRIPTORS: "weakref.WeakKeyDictionary[Any, int]" = weakref.WeakKeyDictionary()
"""The open files under some of these maps, as long as they exist."""


class Scratch:
    """Makes arrays; large ones lie in `folder` (whose owner removes it), so that memory stays bounded.

    `limit` counts the bytes written there.
    """

    def __init__(self, folder: Path | None = None, limit: WriteLimit | None = None) -> None:
        self.folder = folder
        self._limit = limit

    def claim(self, n_bytes: int) -> None:
        """Count bytes that are about to be written to the folder.

        Raises
        ------
        WorkerError
            ``EXPERIMENT_UNREADABLE`` when the file may not ask for that many, ``DISK_FULL`` when they are not free.
        """
        if self._limit is not None:
            self._limit.claim(n_bytes)

    def require(self, figures: Figures) -> None:
        """Refuse a file before its matrices are read, where disk or memory do not suffice for them.

        Raises
        ------
        WorkerError
            ``DISK_FULL`` or ``OUT_OF_MEMORY``, with the figures.
        """
        if self._limit is not None:
            self._limit.require(figures)

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """Return an uninitialised (in a spool file: zero) array."""
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        if self.folder is None or size <= _IN_MEMORY:
            return np.empty(shape, dtype)
        self.claim(size)
        with tempfile.NamedTemporaryFile(dir=self.folder, prefix="scratch-", delete=False) as file:
            try:
                _reserve(file.fileno(), size)
            except OSError as error:
                message = (
                    f"there is no room for {size / 1e6:,.0f} MB beside the store: free some space, or set STORE_DIR"
                )
                raise WorkerError(ErrorCode.DISK_FULL, message) from error
            made = np.memmap(file, dtype=dtype, mode="r+", shape=shape)
            pages, descriptor = _map_of(made), os.dup(file.fileno())
            _DESCRIPTORS[pages] = descriptor
            weakref.finalize(pages, os.close, descriptor)
        # The file's space is freed with the array's last reference.
        Path(file.name).unlink()
        return spooled(made)


def spooled(array: "np.memmap[Any, Any]") -> "np.memmap[Any, Any]":
    """Note that an array lies in a temporary file of its own, whose pages `give_back` may free; returns it."""
    _TEMPORARY.add(_map_of(array))
    return array


def fill(array: NDArray[Any], start: int, piece: NDArray[Any]) -> None:
    """Write a piece of a one-dimensional array of `Scratch`.

    Through the file where it lies in one: before the first write to a page of a map the system clears the page, which
    takes longer than the write.

    Parameters
    ----------
    start
        The place of the piece's first element.
    """
    pages = _map_of(array)
    descriptor = _DESCRIPTORS.get(pages) if pages is not None else None
    if pages is None or descriptor is None or array[start : start + len(piece)].shape != piece.shape:
        array[start : start + len(piece)] = piece
        return
    at = _place_in(pages, array) + start * array.itemsize
    StoreFile(descriptor).put(at, np.ascontiguousarray(piece, array.dtype))


def give_back(part: NDArray[Any]) -> None:
    """Free the disk under a part of an array that lies in a temporary file; of other arrays it does nothing.

    Parameters
    ----------
    part
        A contiguous piece, which nobody reads any more: it holds zeros afterwards.
    """
    pages = _map_of(part)
    if pages is None or pages not in _TEMPORARY or not part.size:
        return
    start = _place_in(pages, part)
    give_back_pages(pages, start, start + part.nbytes)


def is_spooled(array: NDArray[Any]) -> bool:
    """Whether an array lies in a temporary file, whose pages `give_back` frees."""
    pages = _map_of(array)
    return pages is not None and pages in _TEMPORARY


def _map_of(array: NDArray[Any]) -> mmap.mmap | None:
    """Return the map that holds an array's values, None where they lie in memory."""
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    return base if isinstance(base, mmap.mmap) else None


def _place_in(pages: mmap.mmap, array: NDArray[Any]) -> int:
    """Return the byte of a map at which an array begins."""
    return int(array.ctypes.data - np.frombuffer(pages, np.uint8).ctypes.data)


def _reserve(descriptor: int, size: int) -> None:
    # A map of a file with holes would end the process when the disk is full; reserved space cannot run out.
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
    else:
        os.truncate(descriptor, size)
