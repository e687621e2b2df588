"""Answers of our own door with typed columns (`protocol.columns`): computed from the store at once, past the queue."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

import msgspec

from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.cell_sets import CellSets
from cellworker.gateway.core.cell_set_reading import CellSetsReader
from cellworker.gateway.core.ports import CellSetsSource
from cellworker.gateway.core.question import Question
from cellworker.identifiers import ExperimentId
from cellworker.local.notifications import SocketNotifications
from cellworker.protocol.events import heartbeat_event, progress_heartbeat
from cellworker.tasks.task import PrepareInput, Task

__all__ = ["ColumnAnswers"]

_PROGRESS_INTERVAL_S = 0.3

OnProgress = Callable[[str, float | None], Awaitable[None]]


class _Compute(Protocol):
    def __call__(self, task: Task, request: bytes, on_progress: OnProgress | None = None, /) -> Awaitable[bytes]:
        """Return typed columns."""
        ...


class ColumnAnswers:
    """Prepares a request and has it computed; who hangs up cancels it.

    Parameters
    ----------
    experiment_id
        Under which clients listen for progress.
    compute
        Computes typed columns from the engine's request.
    cell_sets
        Where keys are looked up.
    notifications
        Called with the progress of long computations.
    """

    def __init__(
        self,
        experiment_id: ExperimentId,
        compute: _Compute,
        cell_sets: CellSetsSource,
        notifications: SocketNotifications,
    ) -> None:
        self._experiment_id = experiment_id
        self._compute = compute
        self._cell_sets = cell_sets
        self._notifications = notifications
        self._reader = CellSetsReader()

    async def answer(
        self,
        question: Question,
        pagination: Mapping[str, Any] | None,
        has_gone: Callable[[], bool] = lambda: False,
    ) -> bytes:
        """Return the columns of a task that has them.

        Parameters
        ----------
        question
            What is asked, understood.
        pagination
            The request's.
        has_gone
            Tells whether the client has hung up, which cancels the computation.

        Raises
        ------
        WorkerError
            The task's own error, or ``INVALID_INPUT`` naming the field.
        """
        task = question.task
        cell_sets = CellSets.empty()
        if question.reads_cell_sets:
            cell_sets = await self._reader.read(await self._cell_sets.read(self._experiment_id))
        given = PrepareInput(question.body, pagination, cell_sets)
        request = await asyncio.to_thread(lambda: msgspec.json.encode(task.prepare(given)))
        tell = _Heartbeats(self._experiment_id, task, self._notifications).tell
        computing = asyncio.ensure_future(self._compute(task, request, tell))
        try:
            while not (await asyncio.wait({computing}, timeout=_PROGRESS_INTERVAL_S))[0]:
                if has_gone():
                    raise WorkerError(ErrorCode.REQUEST_CANCELLED, "The request was cancelled.")
            return computing.result()
        finally:
            computing.cancel()


class _Heartbeats:
    def __init__(self, experiment_id: ExperimentId, task: Task, notifications: SocketNotifications) -> None:
        self._experiment_id, self._task, self._notifications = experiment_id, task, notifications
        self._not_before = asyncio.get_running_loop().time() + _PROGRESS_INTERVAL_S

    async def tell(self, stage: str, fraction: float | None) -> None:
        now = asyncio.get_running_loop().time()
        if now < self._not_before:
            return
        self._not_before = now + _PROGRESS_INTERVAL_S
        payload = progress_heartbeat(self._task.name, stage, fraction)
        self._notifications.post(heartbeat_event(self._experiment_id), payload, lambda _: None)
