"""The way of one request: from a validated envelope to a stored result and the events that announce it."""

import asyncio
import contextlib
import logging
import os
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import orjson

from cellworker.errors import UNEXPECTED, ErrorCode, WorkerError
from cellworker.experiment.cell_sets import CellSets
from cellworker.gateway.core.cancel_tasks import end
from cellworker.gateway.core.cell_set_patches import named_after
from cellworker.gateway.core.cell_set_reading import CellSetsReader
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
from cellworker.gateway.core.question import Question
from cellworker.gateway.core.retry import RetryBudgets, retry
from cellworker.gateway.core.tracing import NoTracing, Tracing
from cellworker.identifiers import ETag, ExperimentId, ResultPath, parse
from cellworker.logs import log
from cellworker.protocol import events
from cellworker.protocol.encoding import compress, inline
from cellworker.protocol.envelope import WorkRequest
from cellworker.protocol.events import Status
from cellworker.tasks.common.sent_cells import written
from cellworker.tasks.task import EarlierResult, PrepareInput, Task

__all__ = ["Answering", "NotStoredError", "Outcome", "Ports"]

_SMALL = 16384
"""Bytes. Encoding less takes less time than starting a thread."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ports:
    """The gateway's ports, except the queue."""

    engine: EnginePort
    results: Results
    notifications: Notifications
    cell_sets: CellSetsSource
    files: ExperimentFiles


class NotStoredError(Exception):
    """The results store did not take a result within the retry budget."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a request.

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
        The ports.
    experiment_id
        The experiment whose cell sets are read and changed: the one that the engine serves.
    find_task
        Looks a task up by its name; raises `WorkerError` for unknown names.
    tick_s
        Seconds between progress heartbeats.
    budgets
        Retry budgets for failing services.
    metrics, tracing
        Called with what happens.
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
        budgets: RetryBudgets | None = None,
        metrics: NoMetrics | None = None,
        tracing: Tracing | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._ports = ports
        self._experiment_id = experiment_id
        self._find_task = find_task
        self._tick_s = tick_s
        self._budgets = budgets or RetryBudgets()
        self._metrics = metrics or NoMetrics()
        self._trace = tracing or NoTracing()
        self._now = now
        self._cell_sets = CellSetsReader()

    async def work(
        self,
        request: WorkRequest,
        question: Question | WorkerError,
        message_id: str = "",
        claim: Claim | None = None,
    ) -> Outcome:
        """Compute a request and store its result, with heartbeats on the way; a stored result is not computed again.

        Parameters
        ----------
        request
            What to do.
        question
            The parsed request, or why it cannot be parsed.
        message_id
            Names the message, so that its cell sets are added once, however many attempts there are.
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

        # Looking for a stored result and for a newer experiment take a round trip each, so they run together.
        syncing = asyncio.create_task(self._ports.files.sync(on_stage))
        try:
            if await self.stored(request):
                self._metrics.answered_from_store()
                return Outcome(cacheable=True)
            self._heartbeat(request, Status.STARTED)
            begun.set()
            return await self._work(request, question, syncing, message_id, claim, received)
        finally:
            await end(syncing)

    async def stored(self, request: WorkRequest) -> bool:
        """Whether the result is in the store already.

        Raises
        ------
        NotStoredError
            When the store gives no answer.
        """
        try:
            return await retry(lambda: self._ports.results.exists(request.etag), self._budgets.store_s, self._budgets)
        except Exception as error:  # noqa: BLE001 - whatever a store raises
            raise NotStoredError(request.scrub(f"{type(error).__name__}: {error}")) from None

    async def _work(  # noqa: PLR0917 - what `work` knows
        self,
        request: WorkRequest,
        question: Question | WorkerError,
        syncing: "asyncio.Task[None]",
        message_id: str,
        claim: Claim | None,
        received: float,
    ) -> Outcome:
        if isinstance(question, WorkerError):
            return Outcome(question)
        task = question.task
        try:
            await self._synced(syncing)
            self._metrics.begun(time.perf_counter() - received)
            value = await self._compute(request, task, question.body)
            if task.file_result:
                return await self._store_file(request, await asyncio.to_thread(_file_of, task, value))
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
            return Outcome(WorkerError(ErrorCode.PYTHON_WORKER_ERROR, UNEXPECTED))
        return await self._store(request, content, inline(content))

    async def publish(self, request: WorkRequest, outcome: Outcome) -> None:
        """Announce how a request ended: to all clients of the experiment where asked, then to the one that waits.

        An event that cannot be sent before the request's timeout is logged: no client waits for it then.
        """
        allowed = (request.timeout - self._now()).total_seconds()
        allowed = min(max(allowed, self._budgets.notify_min_s), self._budgets.notify_max_s)
        try:
            with self._trace.step("notify"):
                await retry(lambda: self._publish(request, outcome), allowed, self._budgets)
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

    async def _compute(self, request: WorkRequest, task: Task, body: msgspec.Struct) -> bytes:
        with self._trace.step("prepare"):
            content = await self._ports.cell_sets.read(self._experiment_id) if task.reads_cell_sets(body) else None
            wanted = task.earlier(body) if task.earlier else None
            earlier = None if wanted is None else await self._earlier(request, wanted)
            cell_sets = CellSets.empty() if content is None else await self._cell_sets.read(content)
            given = PrepareInput(body, request.pagination, cell_sets, earlier)
            if content is None and earlier is None:  # takes microseconds, less than starting a thread
                engine_request = _prepared(task, given)
            else:
                engine_request = await asyncio.to_thread(_prepared, task, given)

        def post(payload: dict[str, Any]) -> None:
            self._post_heartbeat(request, payload)

        ticker = Ticker(post, request.task, every=self._tick_s)
        with self._trace.step("engine"):
            async with ticker:
                return await self._ports.engine.compute(task.name, engine_request, ticker.report)

    async def _earlier(self, request: WorkRequest, wanted: EarlierResult) -> bytes:
        async def get(etag: ETag) -> bytes | None:
            try:
                return await retry(lambda: self._ports.results.get(etag), self._budgets.store_s, self._budgets)
            except Exception as error:  # noqa: BLE001 - whatever a store raises
                raise NotStoredError(request.scrub(f"{type(error).__name__}: {error}")) from None

        return await earlier_result(wanted, get, self._ports.engine, self._find_task)

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
                    lambda: self._ports.results.put(request.etag, content, tags), self._budgets.store_s, self._budgets
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
        """Send an event whose loss does no harm: the request does not wait for it."""
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


def _prepared(task: Task, given: PrepareInput) -> bytes:
    return msgspec.json.encode(task.prepare(given), enc_hook=written)


def _file_of(task: Task, value: bytes) -> Path:
    """Return the file that an engine names as its result; a file elsewhere is neither read nor removed."""
    named = orjson.loads(value)
    path = parse(ResultPath, named, "engine") if isinstance(named, str) else None
    with contextlib.suppress(WorkerError):
        if path is not None:
            return path.file()
    log(_logger, logging.ERROR, "engine named no file result", task=task.name)
    raise WorkerError(ErrorCode.R_WORKER_UNHANDLED_ERROR, UNEXPECTED)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)


def _encode(task: Task, value: bytes) -> bytes:
    return compress(task.finish(value))
