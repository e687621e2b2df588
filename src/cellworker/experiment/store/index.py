"""The index of a store: a few kilobytes after the end of the HDF5 file with the place of each array.

HDF5 readers ignore bytes after their data. cellworker needs only the index: it opens a store by reading the last bytes
of the file and mapping it, without parsing HDF5 or importing its library.
"""

import errno
import json
import math
import mmap
import os
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.store.checksums import BLOCK_BYTES, block_checksums

__all__ = ["VERSION", "ArrayPlace", "StoreIndex", "append_index", "read_index", "unreadable"]

VERSION = 5
"""Increased when older stores can no longer be served; they are then made again from their sources."""

_MAGIC = b"cellworker store"
_FOOTER = struct.Struct("<16sIIQQ24x")
_HDF5 = b"\x89HDF\r\n\x1a\n"
_MAX_INDEX = 1 << 28
_KINDS = frozenset("iufbS")


@dataclass(frozen=True, slots=True)
class ArrayPlace:
    """The place of an array in the file: byte offset, dtype, shape (C order)."""

    offset: int
    dtype: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def n_bytes(self) -> int:
        """Length in bytes."""
        return self.size * np.dtype(self.dtype).itemsize

    def view(self, pages: mmap.mmap) -> NDArray[Any]:
        """Return the array as a view of the mapped file; a small unaligned array as a copy.

        Only large arrays have addresses that kernels accept, see `cellworker.experiment.store.layout`.
        """
        if not self.size:
            return np.zeros(self.shape, self.dtype)
        found = np.frombuffer(pages, self.dtype, self.size, self.offset).reshape(self.shape)
        if found.flags.aligned:
            return found
        found = found.copy()
        found.flags.writeable = False
        return found


@dataclass(frozen=True, slots=True)
class StoreIndex:
    """The facts about a store that need no access to its arrays.

    Attributes
    ----------
    arrays
        Place of each array by name.
    contents
        Plain values (JSON): key, sizes, names of parts, the small slots.
    data_bytes
        Length of the data before the index.
    checksums
        uint32, one for each block of the data, from `block_checksums`.
    n_bytes
        Length of the file.
    """

    arrays: dict[str, ArrayPlace]
    contents: dict[str, Any]
    data_bytes: int
    checksums: NDArray[np.uint32]
    n_bytes: int


def append_index(
    descriptor: int,
    arrays: dict[str, ArrayPlace],
    contents: dict[str, Any],
    threads: int = 1,
    on_block: Callable[[int], None] | None = None,
) -> None:
    """Append the index, with the checksums of all bytes before it, and the footer to a file."""
    end = os.fstat(descriptor).st_size
    document = {
        "arrays": {name: [place.offset, place.dtype, list(place.shape)] for name, place in arrays.items()},
        "contents": contents,
        "checksums": block_checksums(descriptor, end, threads, on_block).astype("<u4").tobytes().hex(),
    }
    payload = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
    payload += _FOOTER.pack(_MAGIC, VERSION, zlib.crc32(payload), end, len(payload))
    if os.pwrite(descriptor, payload, end) != len(payload):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def read_index(descriptor: int, path: Path) -> StoreIndex:
    """Read the index of an open store, and check that every array is inside the file.

    Raises
    ------
    WorkerError
        ``EXPERIMENT_UNREADABLE`` when the file is no store, has another version, is cut short or damaged.
    """
    end = os.fstat(descriptor).st_size
    footer = os.pread(descriptor, _FOOTER.size, max(0, end - _FOOTER.size))
    if len(footer) < _FOOTER.size or os.pread(descriptor, len(_HDF5), 0) != _HDF5:
        raise unreadable(path, "it is not a store, or it was cut short")
    magic, version, checksum, start, length = _FOOTER.unpack(footer)
    if magic != _MAGIC:
        raise unreadable(path, "it is not a store, or it was cut short")
    if version != VERSION:
        raise unreadable(path, f"it has format {version}, this version reads {VERSION}")
    if length > _MAX_INDEX or start + length + _FOOTER.size != end:
        raise unreadable(path, "its index is not where it should be")
    payload = os.pread(descriptor, length, start)
    if len(payload) != length or zlib.crc32(payload) != checksum:
        raise unreadable(path, "its index is damaged")
    try:
        raw = json.loads(payload)
        arrays = {
            name: ArrayPlace(int(a), str(b), tuple(int(n) for n in c)) for name, (a, b, c) in raw["arrays"].items()
        }
        contents = dict(raw["contents"])
        checksums = np.frombuffer(bytes.fromhex(raw["checksums"]), "<u4")
        if len(checksums) != -(-start // BLOCK_BYTES):
            raise unreadable(path, "its checksums are not those of its blocks")
        for name, place in arrays.items():
            if (
                np.dtype(place.dtype).kind not in _KINDS
                or min(place.offset, *place.shape) < 0
                or place.offset + place.n_bytes > start
            ):
                raise unreadable(path, f"the array {name} lies outside the file")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise unreadable(path, "its index makes no sense") from error
    return StoreIndex(arrays, contents, start, checksums, end)


def unreadable(path: Path, reason: str) -> WorkerError:
    """Return the error of a store that must be made again."""
    message = f"the store {path.name} cannot be used: {reason}; remove it and open the experiment again"
    return WorkerError(ErrorCode.EXPERIMENT_UNREADABLE, message)
