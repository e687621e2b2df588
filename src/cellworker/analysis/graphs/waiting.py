"""Kernels that take long, called so that progress is not silent."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

__all__ = ["reporting"]

T = TypeVar("T")

_REPORT_S = 0.25


def reporting(work: Callable[[], T], report: Callable[[], None] | None) -> T:
    """Return the outcome of `work`, and call `report` before it and several times a second meanwhile.

    An exception of `report` is raised when the work has ended: a kernel that has no flag to stop it uses its arrays.
    """
    if report is None:
        return work()
    report()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(work)
        while not wait([running], _REPORT_S).done:
            report()
        return running.result()
