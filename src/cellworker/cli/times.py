"""Times of a command's steps, for ``-v``."""

import contextlib
import sys
import time
from collections.abc import Iterator

from cellworker.plain_text import say

__all__ = ["Times"]


class Times:
    """Prints the time of each step on standard error.

    Parameters
    ----------
    shown
        Whether to.
    """

    def __init__(self, *, shown: bool) -> None:
        self._shown = shown

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time a step: wall clock, and CPU time of this process with its threads."""
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        if self._shown:
            took = f"{time.perf_counter() - wall:.2f} s, {time.process_time() - cpu:.2f} s of CPU"
            say(f"{name}: {took}", file=sys.stderr)
