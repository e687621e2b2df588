"""Progress heartbeats to a waiting client."""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from cellworker.gateway.core.cancel_tasks import end
from cellworker.protocol.events import progress_heartbeat

__all__ = ["Ticker"]


class Ticker:
    """Sends a progress heartbeat when there is news; none for a computation that ends before the first is due.

    A heartbeat without news would say only that the gateway lives, and nothing of the computation.

    Parameters
    ----------
    post
        Sends one heartbeat.
    task
        Name of the task.
    every
        Min seconds between two heartbeats, and before the first.
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
        """Note the progress of the computation; the next heartbeat sends it."""
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
