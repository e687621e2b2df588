"""What the C library and the system do with this process's memory."""

import ctypes
import mmap
import sys
from io import BytesIO
from typing import Any, Final

import numpy as np

__all__ = ["keep_freed_memory", "large_buffer", "return_free_memory"]

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
_KEPT_BYTES: Final = 16 << 20
_MIN_HUGE_BYTES: Final = 1 << 22
"""Smaller buffers hold too few pages of 2 MB, as numpy sees it too."""


def large_buffer(capacity: int) -> BytesIO:
    """Return a buffer to write to, whose content becomes `bytes` without a copy (``truncate``, then ``getvalue``).

    On Linux its memory is of huge pages where the system has them: the first touch of 15 MB of small pages takes
    longer than to write text of a million numbers there.

    Parameters
    ----------
    capacity
        The likely size in bytes; the buffer grows where it is too small.
    """
    out = BytesIO(bytes(capacity))
    if sys.platform == "linux" and hasattr(mmap, "MADV_HUGEPAGE") and capacity >= _MIN_HUGE_BYTES:
        with out.getbuffer() as view:
            start = int(np.frombuffer(view, np.uint8).ctypes.data)
            first = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE
            length = (start + capacity) // mmap.PAGESIZE * mmap.PAGESIZE - first
            _library().madvise(ctypes.c_void_p(first), ctypes.c_size_t(length), mmap.MADV_HUGEPAGE)
    return out


def keep_freed_memory() -> None:
    """Let the C library keep some megabytes that this process frees, where it has a setting for that (glibc).

    It gives a freed array of a megabyte back to the system, which clears each page before it hands it out again: a step
    that allocates the same arrays for every block of a large file spends most of its time on that. `return_free_memory`
    still returns all.
    """
    library = _library()
    if hasattr(library, "malloc_trim"):  # glibc: other libraries have a mallopt that does nothing
        library.mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES)
        library.mallopt(_M_TRIM_THRESHOLD, 2 * _KEPT_BYTES)


def return_free_memory() -> None:
    """Give freed memory back to the system, where the C library has a function for that (glibc).

    It keeps freed arrays of up to some tens of megabytes for later ones. Where the next step needs larger ones, both
    would count.
    """
    library = _library()
    if hasattr(library, "malloc_trim"):  # musl has none
        library.malloc_trim(0)


def _library() -> Any:  # noqa: ANN401 - functions of C
    return ctypes.CDLL(None) if sys.platform == "linux" else None
