"""Retries of calls to failing services: pauses that grow, until the retry budget is spent."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from cellworker.errors import WorkerError

__all__ = ["Backoff", "RetryBudgets", "retry"]

_FIRST_PAUSE_S = 0.05

_T = TypeVar("_T")


class Backoff:
    """Pauses between tries: longer each time, until the retry budget is spent.

    Parameters
    ----------
    retry_budget_s
        Max seconds of all attempts together.
    last_pause_s
        The longest pause.
    first_pause_s
        The first one.
    """

    def __init__(self, retry_budget_s: float, last_pause_s: float = 2.0, first_pause_s: float = _FIRST_PAUSE_S) -> None:
        self._retry_budget_s = retry_budget_s
        self._last_pause_s = last_pause_s
        self._first_pause_s = first_pause_s
        self.restart()

    def restart(self) -> None:
        """Begin anew, since something went well in between."""
        self._end = asyncio.get_running_loop().time() + self._retry_budget_s
        self._pause_s = self._first_pause_s

    async def pause(self, min_s: float = 0.0) -> bool:
        """Pause; False, at once, when the budget is spent. Jittered, so that not all clients come back together."""
        left = self._end - asyncio.get_running_loop().time()
        if left <= 0:
            return False
        pause_s = max(min_s, self._pause_s * random.uniform(0.7, 1.3))  # noqa: S311 - no secret
        self._pause_s = min(2 * self._pause_s, self._last_pause_s)
        await asyncio.sleep(min(pause_s, left))
        return True


@dataclass(frozen=True, slots=True)
class RetryBudgets:
    """Retry budgets for failing services, in seconds.

    Attributes
    ----------
    store_s
        Storing one result.
    notify_min_s, notify_max_s
        Sending a result's event: until the request times out, clamped to this range.
    first_pause_s, last_pause_s
        Between two attempts; each pause is up to twice the one before.
    """

    store_s: float = 60.0
    notify_min_s: float = 30.0
    notify_max_s: float = 1800.0
    first_pause_s: float = 0.2
    last_pause_s: float = 10.0


async def retry(step: Callable[[], Awaitable[_T]], allowed_s: float, budgets: RetryBudgets) -> _T:
    """Do a step until it succeeds, with growing pauses; after `allowed_s` seconds its error is the caller's."""
    backoff = Backoff(allowed_s, budgets.last_pause_s, budgets.first_pause_s)
    while True:
        try:
            return await step()
        except WorkerError:
            raise
        except Exception:
            if not await backoff.pause():
                raise
