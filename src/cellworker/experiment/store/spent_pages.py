"""Frees the disk space of a temporary file piece by piece, while the rest of it is still read.

A store is nearly as large as the temporary files behind it. Each piece of them is freed as soon as it is in the store,
so both together never take much more than the store alone.
"""

import mmap
import tempfile
from contextlib import suppress
from pathlib import Path

__all__ = ["can_give_back", "give_back"]

_PROBE_BYTES = 1 << 18


def give_back(pages: mmap.mmap, start: int, stop: int) -> None:
    """Free the disk space of the whole pages between two bytes of a file, which then read as zeros.

    Where the system or the file system cannot, the pages stay until the file is removed.

    Parameters
    ----------
    pages
        A writable shared map of the file.
    """
    first, last = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE, stop // mmap.PAGESIZE * mmap.PAGESIZE
    if first < last and hasattr(mmap, "MADV_REMOVE"):
        with suppress(OSError):
            pages.madvise(mmap.MADV_REMOVE, first, last - first)


def can_give_back(folder: Path) -> bool:
    """Return whether the file system of a folder can free pieces of a file; it tries."""
    if not hasattr(mmap, "MADV_REMOVE"):
        return False
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"\1" * _PROBE_BYTES)
            file.flush()
            with mmap.mmap(file.fileno(), _PROBE_BYTES) as pages:
                pages.madvise(mmap.MADV_REMOVE, 0, _PROBE_BYTES)
    except OSError:  # a full disk too, which the caller refuses with a message
        return False
    return True
