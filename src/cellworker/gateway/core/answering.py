"""The way of one request: from a validated envelope to a stored result and the events that announce it."""

import asyncio
import contextlib
import logging
import os
import time
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import orjson

from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.cell_sets import CellSets
from cellworker.gateway.core.cancel_tasks import end
from cellworker.gateway.core.cell_set_patches import named_after
from cellworker.gateway.core.earlier_results import earlier_result
from cellworker.gateway.core.metrics import NoMetrics
from cellworker.gateway.core.ports import (
    CellSetsSource,
    Claim,
    EnginePort,
    ExperimentFiles,
    NotHeldError,
    Notifications,
    Results,
)
from cellworker.gateway.core.progress import Ticker
from cellworker.gateway.core.retry import Waiting
from cellworker.gateway.core.tracing import NoTracing, Tracing
from cellworker.identifiers import ETag, ExperimentId
from cellworker.logs import log
from cellworker.protocol import events
from cellworker.protocol.bodies import convert
from cellworker.protocol.encoding import compress, inline
from cellworker.protocol.envelope import WorkRequest
from cellworker.protocol.events import Status
from cellworker.tasks.task import EarlierResult, PrepareInput, Task

__all__ = ["GENERIC_MESSAGE", "Answering", "NotStoredError", "Outcome", "Patience", "Ports", "retry"]

GENERIC_MESSAGE = "An unexpected error occurred while performing the work."
"""What a user is told of a bug."""

_SMALL = 16384
"""Bytes that are encoded in less time than another thread needs to begin."""

_logger = logging.getLogger(__name__)

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Ports:
    """What the gateway needs from the world, all but the queue."""

    engine: EnginePort
    results: Results
    notifications: Notifications
    cell_sets: CellSetsSource
    files: ExperimentFiles


class NotStoredError(Exception):
    """The results store did not take a result for as long as one may wait."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long trouble of the world is waited for, in seconds.

    Attributes
    ----------
    store_s
        Storing one result.
    notify_least_s, notify_most_s
        Sending a result's event: until the request's own time-out, but at least and at most so long.
    first_pause_s, last_pause_s
        Between two attempts; each pause is up to twice the one before.
    """

    store_s: float = 60.0
    notify_least_s: float = 30.0
    notify_most_s: float = 1800.0
    first_pause_s: float = 0.2
    last_pause_s: float = 10.0


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
    patience
        How long trouble of the world is waited for.
    metrics, tracing
        Told what happens.
    now
        The clock, in UTC.
    """

    def __init__(
        self,
        ports: Ports,
        experiment_id: ExperimentId,
        find_task: Callable[[str], Task],
        *,
        tick_s: float = 1.0,
        patience: Patience | None = None,
        metrics: NoMetrics | None = None,
        tracing: Tracing | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._ports = ports
        self._experiment_id = experiment_id
        self._find_task = find_task
        self._tick_s = tick_s
        self._patience = patience or Patience()
        self._metrics = metrics or NoMetrics()
        self._trace = tracing or NoTracing()
        self._now = now
        self._parsed: tuple[bytes, CellSets] = (b"", CellSets.empty())

    async def work(self, request: WorkRequest, message_id: str = "", claim: Claim | None = None) -> Outcome:
        """Compute a request and store its result, with heartbeats on the way; what is stored is not computed again.

        Parameters
        ----------
        request
            What to do.
        message_id
            Names the message, so that what it adds to the cell sets is added once, however often it is worked on.
        claim
            The right to change cell sets for it.

        Returns
        -------
        Outcome
            Also for errors of the request or of its task: a user's error as it is, a bug as the generic one, with the
            traceback in the log.

        Raises
        ------
        NotStoredError
            When the results store fails: the request may be tried again.
        NotHeldError
            When another process has taken the request over.
        """
        received = time.perf_counter()
        begun = asyncio.Event()

        async def on_stage(status: Status) -> None:
            await begun.wait()
            self._heartbeat(request, status)

        # Looking for a stored result and for a newer experiment are a round trip each, and do not need one another.
        syncing = asyncio.create_task(self._ports.files.sync(on_stage))
        try:
            if await self.stored(request):
                self._metrics.answered_from_store()
                return Outcome(cacheable=True)
            self._heartbeat(request, Status.STARTED)
            begun.set()
            return await self._work(request, syncing, message_id, claim, received)
        finally:
            await end(syncing)

    async def stored(self, request: WorkRequest) -> bool:
        """Whether the result lies in the store already.

        Raises
        ------
        NotStoredError
            When the store does not say.
        """
        try:
            return await retry(lambda: self._ports.results.exists(request.etag), self._patience.store_s, self._patience)
        except Exception as error:  # noqa: BLE001 - whatever a store raises
            raise NotStoredError(request.scrub(f"{type(error).__name__}: {error}")) from None

    async def _work(
        self, request: WorkRequest, syncing: "asyncio.Task[None]", message_id: str, claim: Claim | None, received: float
    ) -> Outcome:
        try:
            task = self._find_task(request.task)
            await self._synced(syncing)
            self._metrics.begun(time.perf_counter() - received)
            value = await self._compute(request, task)
            if task.file_result:
                return await self._store_file(request, Path(orjson.loads(value)))
            if not task.cacheable:
                await self._patch(request, task, value, message_id, claim)
                return Outcome()
            self._heartbeat(request, Status.COMPRESSING)
            with self._trace.step("encode"):
                content = (
                    _encode(task, value) if len(value) <= _SMALL else await asyncio.to_thread(_encode, task, value)
                )
        except WorkerError as error:
            return Outcome(error)
        except (NotStoredError, NotHeldError):
            raise
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
        """Announce how a request ended: to everyone who looks at the experiment where asked, then to whoever waits.

        What cannot be sent before the request's time-out is logged: nobody waits for it any more.
        """
        allowed = (request.timeout - self._now()).total_seconds()
        allowed = min(max(allowed, self._patience.notify_least_s), self._patience.notify_most_s)
        try:
            with self._trace.step("notify"):
                await retry(lambda: self._publish(request, outcome), allowed, self._patience)
        except Exception as error:  # noqa: BLE001 - whatever the bus raises
            reason = request.scrub(f"{type(error).__name__}: {error}")
            log(_logger, logging.ERROR, "answer could not be announced", etag=request.etag, reason=reason)

    async def _publish(self, request: WorkRequest, outcome: Outcome) -> None:
        if outcome.error is not None:
            notice = events.error_notice(request, outcome.error)
        else:
            notice = events.success_notice(request, cacheable=outcome.cacheable)
        if request.broadcast:
            await self._emit(events.experiment_event(request.experiment_id), notice)
        if outcome.error is None:
            self._heartbeat(request, Status.FINISHED)
        payload: Any = notice if outcome.content is None else outcome.content
        await self._emit(events.result_event(request.etag), payload)

    async def _synced(self, syncing: "asyncio.Task[None]") -> None:
        started = time.perf_counter()
        with self._trace.step("sync"):
            await syncing
        self._metrics.synced(time.perf_counter() - started)

    async def _compute(self, request: WorkRequest, task: Task) -> bytes:
        body = convert(request.body, task.body, "body")
        with self._trace.step("prepare"):
            content = await self._ports.cell_sets.read(self._experiment_id) if task.reads_cell_sets(body) else None
            wanted = task.earlier(body) if task.earlier else None
            earlier = None if wanted is None else await self._earlier(request, wanted)
            if content is None and earlier is None:  # microseconds, less than handing it to a thread
                engine_request = self._prepare(request, task, body, None, None)
            else:
                engine_request = await asyncio.to_thread(self._prepare, request, task, body, content, earlier)

        def post(payload: dict[str, Any]) -> None:
            self._post_heartbeat(request, payload)

        ticker = Ticker(post, request.task, every=self._tick_s)
        with self._trace.step("engine"):
            async with ticker:
                return await self._ports.engine.compute(task.name, engine_request, ticker.report)

    async def _earlier(self, request: WorkRequest, wanted: EarlierResult) -> bytes:
        async def get(etag: ETag) -> bytes | None:
            try:
                return await retry(lambda: self._ports.results.get(etag), self._patience.store_s, self._patience)
            except Exception as error:  # noqa: BLE001 - whatever a store raises
                raise NotStoredError(request.scrub(f"{type(error).__name__}: {error}")) from None

        return await earlier_result(wanted, get, self._ports.engine, self._find_task)

    def _prepare(
        self, request: WorkRequest, task: Task, body: msgspec.Struct, content: bytes | None, earlier: bytes | None
    ) -> bytes:
        cell_sets = CellSets.empty() if content is None else self._parse(content)
        return msgspec.json.encode(task.prepare(PrepareInput(body, request.pagination, cell_sets, earlier)))

    def _parse(self, content: bytes) -> CellSets:
        """Read cell sets; the last ones are kept, since they change seldom and may be large."""
        known, parsed = self._parsed
        if content != known:
            parsed = CellSets.parse(content).for_wire()
            self._parsed = (content, parsed)
        return parsed

    async def _patch(
        self, request: WorkRequest, task: Task, value: bytes, message_id: str, claim: Claim | None
    ) -> None:
        if task.patch is None:
            return
        operations = await asyncio.to_thread(task.patch, value)
        if message_id:
            operations = [named_after(message_id, number, item) for number, item in enumerate(operations)]
        await self._ports.cell_sets.patch(self._experiment_id, operations, request.authorization, claim=claim)

    async def _store_file(self, request: WorkRequest, path: Path) -> Outcome:
        try:
            return await self._store(request, path, None)
        finally:
            _remove(path)

    async def _store(self, request: WorkRequest, content: bytes | Path, text: str | None) -> Outcome:
        self._heartbeat(request, Status.UPLOADING)
        tags = {"experimentId": request.experiment_id, "requestType": request.task}
        size = len(content) if isinstance(content, bytes) else await asyncio.to_thread(os.path.getsize, content)
        started = time.perf_counter()
        try:
            with self._trace.step("upload"):
                await retry(
                    lambda: self._ports.results.put(request.etag, content, tags), self._patience.store_s, self._patience
                )
        except WorkerError as error:
            return Outcome(error)
        except Exception as error:  # noqa: BLE001 - whatever a store raises
            raise NotStoredError(request.scrub(f"{type(error).__name__}: {error}")) from None
        self._metrics.uploaded(size, time.perf_counter() - started)
        return Outcome(cacheable=True, content=text)

    def _heartbeat(self, request: WorkRequest, status: Status) -> None:
        self._post_heartbeat(request, events.heartbeat(status, request.task))

    def _post_heartbeat(self, request: WorkRequest, payload: dict[str, Any]) -> None:
        """Send what nobody misses when it is lost: the request does not wait for it."""
        event = events.heartbeat_event(request.experiment_id)
        try:
            self._ports.notifications.post(event, payload, lambda sent: self._metrics.notified(event, ok=sent))
        except Exception as error:  # noqa: BLE001 - a lost heartbeat is no reason to lose the result
            reason = request.scrub(f"{type(error).__name__}: {error}")
            log(_logger, logging.WARNING, "heartbeat could not be sent", etag=request.etag, reason=reason)

    async def _emit(self, event: str, payload: Any) -> None:  # noqa: ANN401
        try:
            await self._ports.notifications.emit(event, payload)
        except Exception:
            self._metrics.notified(event, ok=False)
            raise
        self._metrics.notified(event, ok=True)


async def retry(step: Callable[[], Awaitable[_T]], allowed_s: float, patience: Patience) -> _T:
    """Do a step until it succeeds, with growing pauses; after `allowed_s` seconds its error is the caller's."""
    waiting = Waiting(allowed_s, patience.last_pause_s, patience.first_pause_s)
    while True:
        try:
            return await step()
        except WorkerError:
            raise
        except Exception:
            if not await waiting.pause():
                raise


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)


def _encode(task: Task, value: bytes) -> bytes:
    return compress(task.finish(value))
