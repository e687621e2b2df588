"""Checksums of a store's blocks, which detect a flipped byte or a file cut short before it is served."""

import os
import threading
import zlib
from collections.abc import Callable
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cellworker.experiment.store.blocks import in_threads

__all__ = ["BLOCK_BYTES", "block_checksums", "first_damage", "lower_priority"]

BLOCK_BYTES: Final = 4 << 20
"""Bytes that one checksum covers; the last block of a file may be shorter."""
_READ_BYTES: Final = 1 << 18
_LOWEST_PRIORITY: Final = 19


def block_checksums(
    descriptor: int, size: int, threads: int, on_block: Callable[[int], None] | None = None
) -> NDArray[np.uint32]:
    """Return the CRC-32 of each block of the first `size` bytes of a file, uint32.

    `on_block` is called with the number of bytes of each.
    """

    def worker() -> Callable[[int], int]:
        buffer = bytearray(_READ_BYTES)

        def work(start: int) -> int:
            length = min(BLOCK_BYTES, size - start)
            found = _checksum(descriptor, start, length, buffer)
            if on_block is not None:
                on_block(length)
            return found

        return work

    return np.array(in_threads(range(0, size, BLOCK_BYTES), threads, worker), np.uint32)


def first_damage(
    descriptor: int, size: int, expected: NDArray[np.uint32], stop: threading.Event | None = None
) -> str | None:
    """Compare a file with the checksums of its blocks.

    It reads the file instead of mapping it: a file cut short meanwhile gives an answer and no SIGBUS.

    Parameters
    ----------
    descriptor
        Descriptor of the open file.
    size
        Number of bytes that the checksums cover.
    expected
        As `block_checksums` gave them.
    stop
        Ends the comparison when set.

    Returns
    -------
    The fault in words; None where there is none or the comparison was stopped.
    """
    buffer = bytearray(_READ_BYTES)
    for number, start in enumerate(range(0, size, BLOCK_BYTES)):
        if stop is not None and stop.is_set():
            return None
        try:
            found = _checksum(descriptor, start, min(BLOCK_BYTES, size - start), buffer)
        except EOFError:
            return f"it was cut short: it ends before byte {start + BLOCK_BYTES:,}"
        except OSError as error:
            return f"it cannot be read at byte {start:,} ({error.strerror or error})"
        if found != expected[number]:
            return f"its bytes {start:,} to {min(size, start + BLOCK_BYTES):,} are not what was written"
    return None


def lower_priority() -> None:
    """Give this thread the lowest priority, where the system has priorities of threads."""
    if hasattr(os, "setpriority") and hasattr(os, "sched_getscheduler"):  # Linux, where a thread has a nice value
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LOWEST_PRIORITY)


def _checksum(descriptor: int, start: int, length: int, buffer: bytearray) -> int:
    crc32, checksum, done = _crc32(), 0, 0
    while done < length:
        view = memoryview(buffer)[: length - done]
        count = os.preadv(descriptor, [view], start + done)
        if not count:
            raise EOFError
        checksum = crc32(view[:count], checksum)
        done += count
    return checksum


@cache
def _crc32() -> Callable[[memoryview, int], int]:
    try:
        from isal.isal_zlib import crc32  # noqa: PLC0415 - loaded where something is checked: a tenth of zlib's time
    except ImportError:  # platforms without ISA-L
        return zlib.crc32
    return crc32
