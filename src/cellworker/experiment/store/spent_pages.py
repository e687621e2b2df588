"""Giving back what a temporary file takes on the disk, piece by piece, while the rest of it is still read.

A store is nearly as large as the temporary files that it is made of. Each piece of them is given back as soon as it has
been written to the store, so that both together never take much more than the store alone.
"""

import mmap
import tempfile
from contextlib import suppress
from pathlib import Path

__all__ = ["can_give_back", "give_back"]

_PROBE_BYTES = 1 << 18


def give_back(pages: mmap.mmap, start: int, stop: int) -> None:
    """Free the disk under the whole pages between two bytes of a file; they read as zeros then.

    Where the system or the file system cannot, they stay until the file goes.

    Parameters
    ----------
    pages
        A shared map of the file that may be written.
    """
    first, last = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE, stop // mmap.PAGESIZE * mmap.PAGESIZE
    if first < last and hasattr(mmap, "MADV_REMOVE"):
        with suppress(OSError):
            pages.madvise(mmap.MADV_REMOVE, first, last - first)


def can_give_back(folder: Path) -> bool:
    """Whether the file system of a folder gives pieces of a file back; found by trying."""
    if not hasattr(mmap, "MADV_REMOVE"):
        return False
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"\1" * _PROBE_BYTES)
            file.flush()
            with mmap.mmap(file.fileno(), _PROBE_BYTES) as pages:
                pages.madvise(mmap.MADV_REMOVE, 0, _PROBE_BYTES)
    except OSError:  # also of a full disk, which who asks refuses in words
        return False
    return True
