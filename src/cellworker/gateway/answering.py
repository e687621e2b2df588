"""The way of one request: from a validated envelope to a stored result and the events that announce it."""

import asyncio
import contextlib
import logging
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import orjson

from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.cell_sets import CellSets
from cellworker.gateway.ports import CellSetsSource, EnginePort, Notifications, Results
from cellworker.gateway.progress import Ticker
from cellworker.logs import log
from cellworker.protocol import events
from cellworker.protocol.bodies import convert
from cellworker.protocol.encoding import compress, inline
from cellworker.protocol.envelope import WorkRequest
from cellworker.protocol.events import Status
from cellworker.tasks.task import PrepareInput, Task

__all__ = ["GENERIC_MESSAGE", "Answering", "Outcome", "Ports"]

GENERIC_MESSAGE = "An unexpected error occurred while performing the work."
"""What a user is told of a bug."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ports:
    """What the gateway needs from the world, all but the queue."""

    engine: EnginePort
    results: Results
    notifications: Notifications
    cell_sets: CellSetsSource


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a request ended.

    Attributes
    ----------
    error
        None when it succeeded.
    cacheable
        Whether its result is in the store.
    content
        The result as the event carries it; None where a notice says where to fetch it.
    """

    error: WorkerError | None = None
    cacheable: bool = False
    content: str | None = None


class Answering:
    """Works on single requests over the ports.

    Parameters
    ----------
    ports
        The world.
    experiment_id
        The experiment whose cell sets are read and changed: the one that the engine serves.
    find_task
        Looks a task up by its name; raises `WorkerError` for names that there are not.
    tick_s
        Seconds between progress heartbeats.
    """

    def __init__(
        self, ports: Ports, experiment_id: str, find_task: Callable[[str], Task], *, tick_s: float = 1.0
    ) -> None:
        self._ports = ports
        self._experiment_id = experiment_id
        self._find_task = find_task
        self._tick_s = tick_s
        self._parsed: tuple[bytes, CellSets] = (b"", CellSets.empty())

    async def work(self, request: WorkRequest) -> Outcome:
        """Compute a request and store its result, with heartbeats on the way.

        Returns
        -------
        Outcome
            Also for errors of the request or of its task: a user's error as it is, a bug as the generic one, with the
            traceback in the log.

        Raises
        ------
        Exception
            When the results store fails: the request may be tried again.
        """
        await self._heartbeat(request, Status.STARTED)
        try:
            task = self._find_task(request.task)
            value = await self._compute(request, task)
            if task.file_result:
                return await self._store_file(request, Path(orjson.loads(value)))
            if not task.cacheable:
                await self._patch(request, task, value)
                return Outcome()
            await self._heartbeat(request, Status.COMPRESSING)
            content = await asyncio.to_thread(_encode, task, value)
        except WorkerError as error:
            return Outcome(error)
        except Exception:  # noqa: BLE001 - a bug in one task must not end the worker
            trace = request.scrub(traceback.format_exc())
            log(
                _logger,
                logging.ERROR,
                "task failed unexpectedly",
                etag=request.etag,
                task=request.task,
                traceback=trace,
            )
            return Outcome(WorkerError(ErrorCode.PYTHON_WORKER_ERROR, GENERIC_MESSAGE))
        return await self._store(request, content, inline(content))

    async def publish(self, request: WorkRequest, outcome: Outcome) -> None:
        """Announce how a request ended: to everyone who looks at the experiment where asked, then to whoever waits."""
        if outcome.error is not None:
            notice = events.error_notice(request, outcome.error)
        else:
            notice = events.success_notice(request, cacheable=outcome.cacheable)
        if request.broadcast:
            await self._ports.notifications.emit(events.experiment_event(request.experiment_id), notice)
        if outcome.error is None:
            await self._heartbeat(request, Status.FINISHED)
        payload: Any = notice if outcome.content is None else outcome.content
        await self._ports.notifications.emit(events.result_event(request.etag), payload)

    async def stored(self, request: WorkRequest) -> bool:
        """Whether the result lies in the store already."""
        return await self._ports.results.exists(request.etag)

    async def _compute(self, request: WorkRequest, task: Task) -> bytes:
        body = convert(request.body, task.body, "body")
        content = await self._ports.cell_sets.read(self._experiment_id) if task.reads_cell_sets(body) else None
        engine_request = await asyncio.to_thread(self._prepare, request, task, body, content)

        async def emit(payload: dict[str, Any]) -> None:
            await self._emit_heartbeat(request, payload)

        async with Ticker(emit, request.task, every=self._tick_s, at_least_every=5 * self._tick_s) as ticker:
            return await self._ports.engine.compute(task.name, engine_request, ticker.report)

    def _prepare(self, request: WorkRequest, task: Task, body: msgspec.Struct, content: bytes | None) -> bytes:
        cell_sets = CellSets.empty() if content is None else self._parse(content)
        return msgspec.json.encode(task.prepare(PrepareInput(body, request.pagination, cell_sets)))

    def _parse(self, content: bytes) -> CellSets:
        """Read cell sets; the last ones are kept, since they change seldom and may be large."""
        known, parsed = self._parsed
        if content != known:
            parsed = CellSets.parse(content)
            self._parsed = (content, parsed)
        return parsed

    async def _patch(self, request: WorkRequest, task: Task, value: bytes) -> None:
        if task.patch is None:
            return
        operations = await asyncio.to_thread(task.patch, value)
        await self._ports.cell_sets.patch(self._experiment_id, operations, request.authorization)

    async def _store_file(self, request: WorkRequest, path: Path) -> Outcome:
        try:
            return await self._store(request, path, None)
        finally:
            _remove(path)

    async def _store(self, request: WorkRequest, content: bytes | Path, text: str | None) -> Outcome:
        await self._heartbeat(request, Status.UPLOADING)
        tags = {"experimentId": request.experiment_id, "requestType": request.task}
        try:
            await self._ports.results.put(request.etag, content, tags)
        except WorkerError as error:
            return Outcome(error)
        return Outcome(cacheable=True, content=text)

    async def _heartbeat(self, request: WorkRequest, status: Status) -> None:
        await self._emit_heartbeat(request, events.heartbeat(status, request.task))

    async def _emit_heartbeat(self, request: WorkRequest, payload: dict[str, Any]) -> None:
        try:
            await self._ports.notifications.emit(events.heartbeat_event(request.experiment_id), payload)
        except Exception as error:  # noqa: BLE001 - a lost heartbeat is no reason to lose the result
            reason = request.scrub(str(error))
            log(_logger, logging.WARNING, "heartbeat could not be sent", etag=request.etag, reason=reason)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)


def _encode(task: Task, value: bytes) -> bytes:
    return compress(task.finish(value))
