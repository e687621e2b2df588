"""Turns access to a mapped store that is cut short, or whose disk fails, into an error instead of a SIGBUS.

The kernel library puts zeros where pages are lost and marks the map (``native/page_faults.c``). Results computed
meanwhile are invalid: a `PagesLostError` stops Python code of the main thread at once, and code in other threads checks
the mark afterwards. Worker processes do not use this: SIGBUS ends them, and nothing is answered.
"""

import ctypes
import mmap
import os
import signal
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Final
from weakref import finalize

import numpy as np

from cellworker.errors import ErrorCode, WorkerError
from cellworker.native import address, kernel

__all__ = ["PagesLostError", "watch_pages"]

_PACKAGE: Final = str(Path(__file__).resolve().parents[2]) + "/"


class PagesLostError(WorkerError):
    """Part of a store was lost while it was used."""

    def __init__(self) -> None:
        message = "The experiment's store was cut short while it was used. It is made again: please ask once more."
        super().__init__(ErrorCode.EXPERIMENT_OUT_OF_DATE, message)


def watch_pages(pages: mmap.mmap, descriptor: int, bounds: Sequence[tuple[int, int]]) -> Callable[[], bool]:
    """Make access to lost pages of a map mark the map instead of ending this process.

    Parameters
    ----------
    pages
        The map; the registration ends when it is freed.
    descriptor
        Of the mapped file.
    bounds
        Byte offset and length of each int64 array in it whose values never descend. Since kernels trust these, lost
        values become the last one that remains.

    Returns
    -------
    Returns whether pages are lost so far.
    """
    _catch()
    offsets, counts = np.array([place for place, _ in bounds], np.int64), np.array([n for _, n in bounds], np.int64)
    start = np.frombuffer(pages, np.uint8)
    own = os.dup(descriptor)  # lives as long as the map, which arrays keep alive
    place = kernel("cw_watch_pages")(
        address(start, np.uint8), len(start), own, address(offsets, np.int64), address(counts, np.int64), len(bounds)
    )
    if place < 0:  # too many maps or arrays of bounds: SIGBUS then ends the process, as elsewhere
        os.close(own)
        return lambda: False
    finalize(pages, _forget, place, own)
    lost = kernel("cw_lost_pages")
    return lambda: bool(lost(place))


def _forget(place: int, descriptor: int) -> None:
    kernel("cw_forget_pages")(place)
    os.close(descriptor)


def _catch() -> None:
    """Install the handler; in the main thread, one that also stops Python code.

    An earlier handler of SIGBUS, such as `faulthandler`, still gets the faults outside of the maps.
    """
    catch = kernel("cw_catch_page_faults")
    ours = signal.getsignal(signal.SIGBUS) is _stop
    if not ours and signal.getsignal(signal.SIGBUS) in (signal.SIG_DFL, None):
        catch(None, 0)
        with suppress(ValueError):  # not the main thread
            signal.signal(signal.SIGBUS, _stop)
            ours = True
    catch(ctypes.cast(ctypes.pythonapi.PyErr_SetInterruptEx, ctypes.c_void_p) if ours else None, int(ours))


def _stop(_number: int, frame: FrameType | None) -> None:
    """Stop the main thread if it accessed a lost page, or waits for a thread of ours that did."""
    if kernel("cw_thread_of_last_fault")() == threading.main_thread().ident or _is_ours(frame):
        raise PagesLostError


def _is_ours(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith(_PACKAGE):
            return True
        frame = frame.f_back
    return False
