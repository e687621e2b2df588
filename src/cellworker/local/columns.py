"""Answers with typed columns (`protocol.columns`), computed from the store at once without the queue."""

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
from cellworker.tasks.common.sent_cells import written
from cellworker.tasks.task import PrepareInput, Task

__all__ = ["ColumnAnswers"]

_PROGRESS_INTERVAL_S = 0.3

OnProgress = Callable[[str, float | None], Awaitable[None]]
_Key = tuple[str, bytes, str]
"""Names a computation: its task, the engine's request, and the experiment's content."""


class _Compute(Protocol):
    def __call__(self, task: Task, request: bytes, on_progress: OnProgress | None = None, /) -> Awaitable[bytes]:
        """Return typed columns."""
        ...


class _Shared:
    """One computation, and how many wait for it."""

    def __init__(self, computing: asyncio.Future[bytes]) -> None:
        self.computing = computing
        self.waiters = 0
        self.ending: asyncio.TimerHandle | None = None


class ColumnAnswers:
    """Prepares a request and has it computed, once for all who ask the same at the same time.

    Who cancels, or hangs up, leaves; when the last has left, the computation is cancelled. A page that is loaded again
    hangs up and asks again: a computation without waiters goes on for `grace_s` seconds. Who asks the same after the
    experiment has changed does not join a computation from before.

    Parameters
    ----------
    experiment_id
        The id under which clients listen for progress.
    compute
        Computes typed columns from the engine's request.
    cell_sets
        Where keys are looked up.
    notifications
        Called with the progress of long computations.
    grace_s
        As above.
    """

    def __init__(
        self,
        experiment_id: ExperimentId,
        compute: _Compute,
        cell_sets: CellSetsSource,
        notifications: SocketNotifications,
        *,
        grace_s: float = 15.0,
    ) -> None:
        self._experiment_id = experiment_id
        self._compute = compute
        self._cell_sets = cell_sets
        self._notifications = notifications
        self._reader = CellSetsReader()
        self._grace_s = grace_s
        self._running: dict[_Key, _Shared] = {}
        self._waiting: dict[str, asyncio.Event] = {}

    def cancel(self, name: str) -> bool:
        """Have the waiter of a name leave at once; whether there was one."""
        leaving = self._waiting.get(name)
        if leaving is not None:
            leaving.set()
        return leaving is not None

    def close(self) -> None:
        """Cancel what is under way."""
        for shared in self._running.values():
            if shared.ending is not None:
                shared.ending.cancel()
            shared.computing.cancel()

    async def answer(
        self,
        question: Question,
        pagination: Mapping[str, Any] | None,
        has_gone: Callable[[], bool] = lambda: False,
        name: str = "",
        experiment_key: str = "",
    ) -> bytes:
        """Return the columns of a task that has them.

        Parameters
        ----------
        question
            What is asked.
        pagination
            The request's.
        has_gone
            Tells whether the client has hung up.
        name
            What the client calls the request, to cancel it.
        experiment_key
            Names the content of the experiment that is served.

        Raises
        ------
        WorkerError
            The task's own error, or ``INVALID_INPUT`` naming the field.
        """
        leaving = asyncio.Event()
        if name:  # from the first moment, so that it can be cancelled while its cell sets are read
            self._waiting[name] = leaving
        try:
            request = await self._prepared(question, pagination)
            if leaving.is_set():
                raise _cancelled()
            key = (question.task.name, request, experiment_key)
            return await self._computed(key, question.task, leaving, has_gone)
        finally:
            if self._waiting.get(name) is leaving:
                del self._waiting[name]

    async def _prepared(self, question: Question, pagination: Mapping[str, Any] | None) -> bytes:
        cell_sets = CellSets.empty()
        if question.reads_cell_sets:
            cell_sets = await self._reader.read(await self._cell_sets.read(self._experiment_id))
        given = PrepareInput(question.body, pagination, cell_sets)
        return await asyncio.to_thread(lambda: msgspec.json.encode(question.task.prepare(given), enc_hook=written))

    async def _computed(self, key: _Key, task: Task, leaving: asyncio.Event, has_gone: Callable[[], bool]) -> bytes:
        shared = self._join(key, task)
        try:
            while not (await asyncio.wait({shared.computing}, timeout=_PROGRESS_INTERVAL_S))[0]:
                if leaving.is_set() or has_gone():
                    raise _cancelled()
            return shared.computing.result()
        finally:
            self._leave(key, shared, 0.0 if leaving.is_set() else self._grace_s)

    def _join(self, key: _Key, task: Task) -> _Shared:
        shared = self._running.get(key)
        if shared is None:
            tell = _Heartbeats(self._experiment_id, task, self._notifications).tell
            shared = _Shared(asyncio.ensure_future(self._compute(task, key[1], tell)))
            self._running[key] = shared
        if shared.ending is not None:
            shared.ending.cancel()
        shared.waiters += 1
        return shared

    def _leave(self, key: _Key, shared: _Shared, grace_s: float) -> None:
        shared.waiters -= 1
        if shared.waiters:
            return
        taken = shared.computing.done()

        def end() -> None:
            del self._running[key]
            shared.computing.cancel()
            shared.computing.add_done_callback(_looked_at)

        if taken or not grace_s:
            end()
        else:
            shared.ending = asyncio.get_running_loop().call_later(grace_s, end)


def _cancelled() -> WorkerError:
    return WorkerError(ErrorCode.REQUEST_CANCELLED, "The request was cancelled.")


def _looked_at(computing: asyncio.Future[bytes]) -> None:
    """Take note of an error that nobody waits for."""
    if not computing.cancelled():
        computing.exception()


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
