"""The engine inside this process: the runner's answers, as the gateway's port wants them."""

import contextlib
from collections.abc import Awaitable, Callable
from typing import Protocol

import orjson

from cellworker.engine.workers.runner import Answer, StoreLostError, TaskRunner
from cellworker.tasks.task import Task

__all__ = ["RunnerEngine"]


_STORE_LOSSES = 3
"""Max lost stores for one request: with more the disk may be broken."""


class _Ready(Protocol):
    async def ready(self) -> TaskRunner:
        """Wait for the runner."""
        ...


class RunnerEngine:
    """Computes with the runner of a served experiment.

    Parameters
    ----------
    served
        Has the runner, once the experiment is open.
    find_task
        Looks a task up by its name.
    """

    def __init__(self, served: _Ready, find_task: Callable[[str], Task]) -> None:
        self._served = served
        self._find_task = find_task

    async def compute(
        self,
        task: str,
        request: bytes,
        on_progress: Callable[[str, float | None], Awaitable[None]] | None = None,
    ) -> bytes:
        """Return the JSON text of the task's value; for a file result, of the file's path."""
        answer = await self._run(self._find_task(task), request, on_progress)
        return orjson.dumps(str(answer.file)) if answer.file is not None else answer.data

    async def columns(
        self, task: Task, request: bytes, on_progress: Callable[[str, float | None], Awaitable[None]] | None = None
    ) -> bytes:
        """Return the task's value as typed columns (`protocol.columns`); only for tasks that have them."""
        return (await self._run(task, request, on_progress, columns=True)).data

    async def _run(
        self,
        task: Task,
        request: bytes,
        on_progress: Callable[[str, float | None], Awaitable[None]] | None,
        *,
        columns: bool = False,
    ) -> Answer:
        for _ in range(_STORE_LOSSES):
            runner = await self._served.ready()
            with contextlib.suppress(StoreLostError):
                return await runner.run(task, request, on_progress, columns=columns)
        raise StoreLostError
