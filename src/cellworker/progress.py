"""The progress callback of long computations: one type for all packages, what keeps it from silence, and bars."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from functools import cache
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["REPORT_S", "Progress", "RepeatedProgress", "of_threads", "outcome_of", "part_of", "reporting", "silent"]

T = TypeVar("T")

REPORT_S: Final = 0.25
"""Seconds between two reports of a step that tells nothing by itself. A person takes more than a second for a stop."""


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


def outcome_of(running: Future[T], report: Callable[[], None]) -> T:
    """Wait for what another thread does, call `report` several times a second meanwhile, and return the outcome."""
    while not wait([running], REPORT_S).done:
        report()
    return running.result()


def reporting(
    work: Callable[[], T],
    report: Callable[[], None] | None,
    stop: "NDArray[np.int32] | None" = None,
    *,
    at_once: bool = True,
) -> T:
    """Return the outcome of `work`, and call `report` several times a second meanwhile.

    The work has a thread of its own, which ends before this returns; reports come from the caller's thread.

    Parameters
    ----------
    work
        A kernel or a step of files that takes long and reports nothing itself.
    report
        None calls only `work`. An exception of it is raised when the work has ended, since a kernel uses its arrays.
    stop
        Its first element becomes 1 on such an exception, which ends a work that looks at it.
    at_once
        Whether to report before the work too.
    """
    if report is None:
        return work()
    if at_once:
        report()
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - only what takes long needs it

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(work)
        try:
            return outcome_of(running, report)
        except BaseException:
            if stop is not None:
                stop[0] = 1
            raise


class RepeatedProgress:
    """Progress whose last word is told again while a step is silent: the same stage and fraction, nothing further.

    It has no thread and no clock. Whoever waits for the step calls `again`, so nothing is told after its end, and an
    exception of the listener ends the waiting.

    Parameters
    ----------
    report
        The listener; None tells nobody.
    stage
        What is told again before the first word.
    """

    def __init__(self, report: Progress | None, stage: str) -> None:
        self._report = report
        self._last: tuple[str, float | None] = (stage, None)

    def __call__(self, stage: str, fraction: float | None = None, /) -> None:
        """Report, and keep what is reported."""
        self._last = (stage, fraction)
        if self._report is not None:
            self._report(stage, fraction)

    def again(self) -> None:
        """Report the last stage and fraction once more."""
        self(*self._last)

    def during(self, work: Callable[[], T], stop: "NDArray[np.int32] | None" = None) -> T:
        """Return the outcome of a silent step; see `reporting`. A short one is not heard of."""
        return reporting(work, None if self._report is None else self.again, stop, at_once=False)


@cache
def of_threads(bar: Any) -> Any:  # noqa: ANN401
    """Return a class of tqdm with a lock of its own, for the threads of this process.

    tqdm's lock is for other processes too, and from Python 3.14 on such a lock starts one: the resource tracker.
    """
    return type(bar.__name__, (bar,), {"_lock": threading.RLock()})
