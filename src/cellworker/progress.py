"""The progress callback of long computations: one type for all packages, and bars that show it."""

import threading
from functools import cache
from typing import Any, Protocol

__all__ = ["Progress", "of_threads", "part_of", "silent"]


class Progress(Protocol):
    """Receives the progress of a computation. An exception from it stops the computation, which cancels requests."""

    def __call__(self, stage: str, fraction: float | None = None, /) -> None:
        """Report a stage in words for the user and, where known, the fraction done (0 to 1)."""
        ...


def silent(stage: str, fraction: float | None = None, /) -> None:
    """Report nothing."""


def part_of(progress: Progress, begin: float, end: float) -> Progress:
    """Return the progress of a part that begins and ends at these fractions of the whole."""

    def tell(stage: str, fraction: float | None = None, /) -> None:
        progress(stage, None if fraction is None else begin + (end - begin) * fraction)

    return tell


@cache
def of_threads(bar: Any) -> Any:  # noqa: ANN401
    """Return a class of tqdm with a lock of its own, for the threads of this process.

    tqdm's lock is for other processes too, and from Python 3.14 on such a lock starts one: the resource tracker.
    """
    return type(bar.__name__, (bar,), {"_lock": threading.RLock()})
