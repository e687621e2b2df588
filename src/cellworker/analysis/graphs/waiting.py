"""Kernels that take long, called so that progress is not silent."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["reporting"]

T = TypeVar("T")

_REPORT_S = 0.25


def reporting(work: Callable[[], T], report: Callable[[], None] | None, stop: NDArray[np.int32] | None = None) -> T:
    """Return the outcome of `work`, and call `report` before it and several times a second meanwhile.

    An exception of `report` is raised when the work has ended, since a kernel uses its arrays; it sets `stop[0]` to 1,
    which ends a kernel that has such a flag.
    """
    if report is None:
        return work()
    report()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(work)
        try:
            while not wait([running], _REPORT_S).done:
                report()
        except BaseException:
            if stop is not None:
                stop[0] = 1
            raise
        return running.result()
