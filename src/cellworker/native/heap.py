"""The memory that this process has freed and the C library keeps."""

import ctypes
import sys
from typing import Any, Final

__all__ = ["keep_freed_memory", "return_free_memory"]

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
_KEPT_BYTES: Final = 16 << 20


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
