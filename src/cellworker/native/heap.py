"""What the C library and the system do with this process's memory."""

import ctypes
import mmap
import sys
from functools import cache
from io import BytesIO
from typing import Any

import numpy as np

__all__ = ["large_buffer", "return_free_memory"]

_MIN_HUGE_BYTES = 1 << 22
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
    advise = _madvise()
    if advise is not None and capacity >= _MIN_HUGE_BYTES:
        with out.getbuffer() as view:
            start = int(np.frombuffer(view, np.uint8).ctypes.data)
            first = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE
            advise(first, (start + capacity) // mmap.PAGESIZE * mmap.PAGESIZE - first, mmap.MADV_HUGEPAGE)
    return out


@cache
def _madvise() -> Any:  # noqa: ANN401
    if sys.platform != "linux" or not hasattr(mmap, "MADV_HUGEPAGE"):
        return None
    advise = ctypes.CDLL(None).madvise
    advise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return advise


def return_free_memory() -> None:
    """Give freed memory back to the system, where the C library has a function for that (glibc).

    It keeps freed arrays of up to some tens of megabytes for later ones. Where the next step needs larger ones, both
    would count.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
        if trim is not None:
            trim(0)
