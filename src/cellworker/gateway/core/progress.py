"""Ticks that tell a waiting client how far its computation is."""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from cellworker.gateway.core.cancel_tasks import end
from cellworker.protocol.events import progress_heartbeat

__all__ = ["Ticker"]


class Ticker:
    """Sends a progress heartbeat whenever there is news; silent for a computation that is over before the first is due.

    A heartbeat without news would only say that the gateway lives, whatever has become of the computation.

    Parameters
    ----------
    post
        Sends one heartbeat.
    task
        Name of the task.
    every
        Seconds between two heartbeats at least, and before the first.
    """

    def __init__(
        self,
        post: Callable[[dict[str, Any]], None],
        task: str,
        *,
        every: float = 1.0,
    ) -> None:
        self._post = post
        self._task = task
        self._every = every
        self._latest: tuple[str, float | None] = ("", None)
        self._starter: asyncio.TimerHandle | None = None
        self._runner: asyncio.Task[None] | None = None

    async def report(self, stage: str, fraction: float | None = None) -> None:
        """Take note of how far the computation is; the next tick tells it."""
        self._latest = (stage, fraction)

    async def __aenter__(self) -> Self:
        # Most computations are over before there is anything to tell.
        self._starter = asyncio.get_running_loop().call_later(self._every, self._start)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._starter is not None:
            self._starter.cancel()
        await end(self._runner)

    def _start(self) -> None:
        self._runner = asyncio.create_task(self._run())

    async def _run(self) -> None:
        told = progress_heartbeat(self._task)  # what the heartbeat at the beginning has said
        while True:
            news = progress_heartbeat(self._task, *self._latest)
            if news != told:
                self._post(news)
                told = news
            await asyncio.sleep(self._every)
