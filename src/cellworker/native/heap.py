"""The memory that this process has freed and the C library keeps."""

import ctypes
import sys

__all__ = ["return_free_memory"]


def return_free_memory() -> None:
    """Give freed memory back to the system, where the C library has a function for that (glibc).

    It keeps freed arrays of up to some tens of megabytes for later ones. Where the next step needs larger ones, both
    would count.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
        if trim is not None:
            trim(0)
