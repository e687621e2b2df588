"""Work on large arrays in blocks: threads that share it, a file that they all write to, and a meter of progress."""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from cellworker.progress import outcome_of

__all__ = ["Meter", "StoreFile", "cut", "in_threads"]

B = TypeVar("B")
R = TypeVar("R")


class Meter:
    """Counts work done by several threads and reports it as a fraction."""

    def __init__(self, report: Callable[[str, float], None] | None, total: int) -> None:
        self._report = report
        self._total = max(1, total)
        self._done = 0
        self._lock = threading.Lock()

    def add(self, stage: str, amount: int) -> None:
        """Report more work; raises the listener's errors."""
        with self._lock:
            self._done += amount
            if self._report is not None:
                self._report(stage, min(1.0, self._done / self._total))

    def until(self, stage: str, done: Future[None]) -> None:
        """Wait for work whose amount is not known, and report that it goes on; raises its errors."""
        outcome_of(done, partial(self.add, stage, 0))


class StoreFile:
    """A file that several threads write to, each at its own places."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        # The kernel lets one writer at a time into a file, and the others spin.
        self._lock = threading.Lock()

    def put(self, offset: int, array: NDArray[Any]) -> None:
        """Write a contiguous array at a place."""
        left = array.data.cast("B") if array.size else memoryview(b"")
        while left:
            with self._lock:
                written = os.pwrite(self.descriptor, left[: 1 << 30], offset)
            left, offset = left[written:], offset + written


def cut(bounds: NDArray[np.int64], size: int) -> list[tuple[int, int]]:
    """Split rows into runs of at most `size` entries; a larger row is a run of its own."""
    last = len(bounds) - 1
    out = []
    start = 0
    while start < last:
        stop = int(np.searchsorted(bounds, bounds[start] + size, "right")) - 1
        stop = min(last, max(stop, start + 1))
        out.append((start, stop))
        start = stop
    return out


def in_threads(blocks: Sequence[B], threads: int, worker: Callable[[], Callable[[B], R]]) -> list[R]:
    """Process all blocks; each thread has a worker of its own.

    The results come in the order of the blocks; the first error ends all.
    """
    results: dict[int, R] = {}
    todo: Iterator[tuple[int, B]] = iter(enumerate(blocks))
    lock = threading.Lock()
    stop = threading.Event()

    def run() -> None:
        work = worker()
        try:
            while not stop.is_set():
                with lock:
                    item = next(todo, None)
                if item is None:
                    return
                results[item[0]] = work(item[1])
        except BaseException:
            stop.set()
            raise

    if threads < 2 or len(blocks) < 2:
        run()
    else:
        with ThreadPoolExecutor(threads) as pool:
            futures = [pool.submit(run) for _ in range(threads)]
            try:
                for future in futures:
                    future.result()
            except BaseException:
                stop.set()
                raise
    return [results[i] for i in range(len(blocks))]
