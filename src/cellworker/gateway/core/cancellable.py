"""Work that a client may cancel."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from cellworker.errors import ErrorCode, WorkerError
from cellworker.gateway.core.cancel_tasks import end

__all__ = ["CancellableWork"]

_CANCELLED = "The request was cancelled."

_T = TypeVar("_T")


class CancellableWork:
    """Runs the work on each ETag in a task of its own: cancelling it is an answer, and does not cancel its caller."""

    def __init__(self) -> None:
        self._running: dict[str, tuple[str, asyncio.Task[Any]]] = {}

    def cancel(self, etag: str) -> bool:
        """Cancel the work on an ETag; its waiters get REQUEST_CANCELLED. Return whether there was any."""
        _, work = self._running.get(etag, ("", None))
        return work is not None and work.cancel()

    def running(self) -> dict[str, str]:
        """Return the ETags that are worked on, each with the name of its work."""
        return {etag: name for etag, (name, _) in self._running.items()}

    async def run(self, etag: str, name: str, work: Coroutine[Any, Any, _T]) -> _T:
        """Return what the work returns.

        Raises
        ------
        WorkerError
            ``REQUEST_CANCELLED`` after `cancel`.
        """
        task = asyncio.create_task(work)
        self._running[etag] = name, task
        try:
            await asyncio.wait({task})
            if task.cancelled():
                raise WorkerError(ErrorCode.REQUEST_CANCELLED, _CANCELLED)
            return task.result()
        finally:
            del self._running[etag]
            await end(task)
