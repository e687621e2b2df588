"""The engine inside this process: the runner's answers, as the gateway's port wants them."""

from collections.abc import Awaitable, Callable
from typing import Protocol

import orjson

from cellworker.engine.workers.runner import TaskRunner
from cellworker.tasks.task import Task

__all__ = ["RunnerEngine"]


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
        runner = await self._served.ready()
        answer = await runner.run(self._find_task(task), request, on_progress)
        return orjson.dumps(str(answer.file)) if answer.file is not None else answer.data
