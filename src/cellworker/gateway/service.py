"""The life cycle of the gateway: wait for an experiment, serve it, end when there is no work or on a signal.

A label gives a pod its experiment, once and for good. A pod without a label finishes requests that a dead pod
accepted, and stops that at once when it gets its own label.
"""

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cellworker.confinement import landlock_missing
from cellworker.errors import WorkerError
from cellworker.gateway.aws.clients import Cloud
from cellworker.gateway.aws.s3 import S3CellSets, S3Files, S3Results
from cellworker.gateway.aws.s3_direct import DirectS3
from cellworker.gateway.aws.s3_folder import S3Folder
from cellworker.gateway.aws.sqs import SqsQueue
from cellworker.gateway.core.answering import Ports
from cellworker.gateway.core.cancel_tasks import end
from cellworker.gateway.core.journal import ObjectJournal, orphaned_experiments
from cellworker.gateway.core.loop import LoopLimits, WorkLoop
from cellworker.gateway.core.metrics import NoMetrics
from cellworker.gateway.core.ports import Delivery, Queue
from cellworker.gateway.core.retry import RetryBudgets
from cellworker.gateway.core.sealing import Sealer
from cellworker.gateway.core.tracing import Tracing
from cellworker.gateway.engine_client.engine_watch import EngineWatch
from cellworker.gateway.engine_client.experiment_folder import forget_experiment
from cellworker.gateway.engine_client.http_engine import HttpEngine
from cellworker.gateway.engine_client.syncing import ExperimentSync
from cellworker.gateway.observe.health import Health, serve_health
from cellworker.gateway.observe.metrics import Metrics
from cellworker.gateway.observe.tracing import make_tracing
from cellworker.gateway.platform.api import PlatformCellSets
from cellworker.gateway.platform.labels import PodLabels, point_engine
from cellworker.gateway.platform.names import Names, idle_timeout_s
from cellworker.gateway.platform.redis_bus import RedisBus, resolve_redis_url
from cellworker.gateway.signals import Signals
from cellworker.identifiers import ExperimentId, PodName
from cellworker.logs import context, log
from cellworker.protocol.events import Status
from cellworker.settings import Settings
from cellworker.tasks.task import Task

__all__ = ["run_gateway"]

_POLL_S = 1.0
_RESCUE_POLL_S = 30.0
_HAND_BACK_S = 3.0
"""Seconds of the grace period that are reserved for handing back unfinished requests."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Services:
    """What a session shares with the next: the settings, and all services that do not depend on the experiment."""

    settings: Settings
    names: Names
    find_task: Callable[[str], Task]
    s3: Any
    direct: DirectS3
    sqs: Any
    bus: RedisBus
    sealer: Sealer
    folder: S3Folder
    metrics: NoMetrics
    tracing: Tracing
    health: Health
    engine: EngineWatch
    labels: PodLabels
    signals: Signals


async def run_gateway(settings: Settings, find_task: Callable[[str], Task], task_names: Iterable[str]) -> int:
    """Take requests from the queue until there is no more work, or until SIGTERM or SIGINT.

    Parameters
    ----------
    settings
        All settings.
    find_task
        Looks a task up by its name.
    task_names
        All of them, for metrics and traces.

    Returns
    -------
    int
        The exit status: 0 after an orderly end, also when requests were handed back; 1 after a second signal.

    Raises
    ------
    WorkerError
        When a setting is missing or makes no sense.
    """
    task_names = list(task_names)
    names = Names.of(settings)
    metrics = Metrics(task_names) if settings.metrics else NoMetrics()
    tracing = make_tracing(settings.traces_url, task_names)
    if settings.shutdown_file:
        # A file of an earlier process would end the engine again.
        await asyncio.to_thread(Path(settings.shutdown_file).unlink, missing_ok=True)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(tracing.close)
        signals = stack.enter_context(Signals())
        health = await stack.enter_async_context(Health())
        if settings.health_port:
            text = metrics.text if settings.metrics else None
            await stack.enter_async_context(serve_health(health, text, settings.health_port))
        cloud = await stack.enter_async_context(Cloud(settings))
        url = await _redis_url(settings, names, cloud)
        verify = settings.redis_certificates.lower() == "verify"
        bus = await stack.enter_async_context(RedisBus(url, verify=verify))
        engine = await stack.enter_async_context(EngineWatch(settings.engine_url, silent_s=settings.engine_silent_s))
        services = _Services(
            settings=settings,
            names=names,
            find_task=find_task,
            s3=cloud.s3,
            direct=cloud.direct,
            sqs=cloud.sqs,
            bus=bus,
            sealer=await asyncio.to_thread(Sealer.of, settings.journal_key, settings.data_dir),
            folder=S3Folder(cloud.s3, names.results_bucket),
            metrics=metrics,
            tracing=tracing,
            health=health,
            engine=engine,
            labels=PodLabels(settings),
            signals=signals,
        )
        health.expect("engine", lambda: engine.trouble, tolerance_min=0)
        health.expect("experiment", lambda: _unread(services), tolerance_min=0)
        health.expect("redis", lambda: "Redis cannot be reached." if bus.failing_since else None)
        health.tell("confinement", lambda: landlock_missing() or "whole")
        metrics.follow("redis_trouble", lambda: float(bus.failing_since is not None))
        living = asyncio.create_task(_live(services))
        killed = asyncio.create_task(signals.second.wait())
        try:
            await asyncio.wait({living, killed}, return_when=asyncio.FIRST_COMPLETED)
            if not living.done():
                log(_logger, logging.WARNING, "ending at once")
                return 1
            living.result()
            return 0
        finally:
            await end(living, killed)


async def _redis_url(settings: Settings, names: Names, cloud: Cloud) -> str:
    elasticache = None if settings.redis_url or names.local else cloud.elasticache
    return await resolve_redis_url(settings, elasticache, environment=names.environment)


async def _live(services: _Services) -> None:
    """Serve the pod's experiment; until it has one, finish requests of dead pods."""
    next_look = time.monotonic() + _POLL_S
    log(_logger, logging.INFO, "gateway started", environment=services.names.environment)
    services.health.mark_started()
    missing: str | None = None
    while not services.signals.first.is_set():
        experiment_id = services.labels.experiment_id
        if experiment_id and missing != (missing := _missing(services)) and missing is not None:
            log(_logger, logging.ERROR, "experiment cannot be served", experiment=experiment_id, reason=missing)
        if experiment_id and missing is None:
            await asyncio.to_thread(point_engine, services.settings.data_dir, None)
            with context(experiment=experiment_id):
                await _Session(services, experiment_id).serve()
            return
        if services.settings.rescue and time.monotonic() >= next_look:
            next_look = time.monotonic() + _RESCUE_POLL_S
            await _rescue(services)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(services.signals.first.wait(), _POLL_S)


def _missing(services: _Services) -> str | None:
    """Return what is missing to serve an experiment, beside its id; the labels may come later."""
    try:
        services.names.queue(services.labels.work_queue_hash)
        if not services.settings.api_url:
            services.names.api_url(services.labels.sandbox_id)
    except WorkerError as error:
        return error.message
    return None


def _unread(services: _Services) -> str | None:
    """Return why requests of the pod's experiment cannot be answered yet; None for a pod without one."""
    if services.labels.experiment_id is None:
        return None
    return _missing(services) or "The experiment has not been read yet."


async def _rescue(services: _Services) -> None:
    try:
        waiting = await orphaned_experiments(services.folder)
    except Exception as error:  # noqa: BLE001 - the store will be back
        log(_logger, logging.WARNING, "journal could not be read", reason=type(error).__name__)
        return
    for experiment_id in waiting:
        if services.labels.experiment_id or services.signals.first.is_set():
            return
        log(_logger, logging.WARNING, "finishing requests of a pod that is no more", experiment=experiment_id)
        await asyncio.to_thread(point_engine, services.settings.data_dir, experiment_id)
        try:
            with context(experiment=experiment_id):
                await _Session(services, experiment_id, helps=True).rescue()
        except WorkerError as error:
            log(_logger, logging.WARNING, "requests cannot be finished", code=error.code, reason=error.message)
            return
        finally:
            await asyncio.to_thread(_forget, services.settings.data_dir, experiment_id, services.labels.experiment_id)


def _forget(data_dir: Path, experiment_id: ExperimentId, own: ExperimentId | None) -> None:
    """Remove the files of an experiment that is not this pod's: the next may be as large."""
    point_engine(data_dir, None)
    if experiment_id != own:
        forget_experiment(data_dir, experiment_id)


class _NoQueue:
    """A queue without messages."""

    def offer(self, capacity: int) -> None:
        pass

    async def deliveries(self) -> AsyncIterator[Delivery]:
        await asyncio.Event().wait()
        yield Delivery(b"", 1, _nothing, _nothing)


class _Session:
    """The time in which the gateway works for one experiment."""

    def __init__(self, services: _Services, experiment_id: ExperimentId, *, helps: bool = False) -> None:
        self._services = services
        self._helps = helps
        self._experiment_id = experiment_id
        settings, names = services.settings, services.names
        self._engine = HttpEngine(
            settings.engine_url,
            services.find_task,
            experiment_id=experiment_id,
            watch=services.engine,
            traceparent=services.tracing.current_traceparent,
        )
        self._files = ExperimentSync(
            S3Files(services.s3, names.object_bucket, experiment_id),
            settings.engine_url,
            settings.data_dir,
            experiment_id,
            watch=services.engine,
        )
        self._journal = ObjectJournal(
            services.folder, experiment_id, PodName.of(settings.hostname or socket.gethostname()), services.sealer
        )
        reader = S3CellSets(services.s3, names.cell_sets_bucket)
        api_url = settings.api_url or names.api_url(services.labels.sandbox_id)
        self._cell_sets = PlatformCellSets(reader.read, api_url)
        self._results = S3Results(services.s3, names.results_bucket, direct=services.direct)

    async def serve(self) -> None:
        """Work on the queue of the experiment until the idle timeout, or the first signal."""
        services = self._services
        queue = SqsQueue(
            services.sqs,
            services.names.queue(services.labels.work_queue_hash),
            visibility_s=services.settings.visibility_s,
        )
        services.health.expect("experiment", self._unserved, tolerance_min=0)
        services.health.expect("queue", lambda: "The queue cannot be reached." if queue.failing_since else None)
        services.metrics.follow("queue_trouble", lambda: float(queue.failing_since is not None))
        services.metrics.follow("visibility_extension_denied", lambda: float(queue.degraded))
        async with queue, self._open(queue) as loop:
            await self._work(loop, self._until_idle(loop))

    async def rescue(self) -> None:
        """Answer the requests left in the journal, until none is left, the pod gets a label, or the first signal."""
        async with self._open(_NoQueue()) as loop:
            await self._work(loop, self._until_rescued(loop))

    @contextlib.asynccontextmanager
    async def _open(self, queue: Queue) -> AsyncIterator[WorkLoop]:
        services = self._services
        settings = services.settings
        async with self._engine, self._files, self._cell_sets, self._journal:
            loop = WorkLoop(
                queue,
                Ports(self._engine, self._results, services.bus, self._cell_sets, self._files),
                self._experiment_id,
                services.find_task,
                journal=self._journal,
                limits=LoopLimits(
                    short_in_flight=settings.short_in_flight,
                    long_in_flight=settings.long_in_flight,
                    journal_after_s=settings.journal_after_s,
                    max_attempts=settings.max_attempts,
                ),
                budgets=RetryBudgets(store_s=settings.store_patience_s),
                metrics=services.metrics,
                tracing=services.tracing,
            )
            services.health.expect(
                "backlog",
                lambda: None if loop.capacity() else "As many requests are held as are taken at a time.",
                tolerance_min=1,
            )
            services.health.tell("experiment", lambda: self._experiment_id)
            services.metrics.follow("in_flight", lambda: loop.held["short"], lane="short")
            services.metrics.follow("in_flight", lambda: loop.held["long"], lane="long")
            services.metrics.follow("experiment_generation", lambda: self._files.generation)
            services.metrics.follow("journal_entries", lambda: self._journal.entries)
            yield loop

    async def _work(self, loop: WorkLoop, over: Coroutine[Any, Any, None]) -> None:
        """Run the loop until `over` returns, then let it finish within the grace period."""
        services = self._services
        running = asyncio.create_task(loop.run())
        ending = asyncio.create_task(over)
        told = asyncio.create_task(services.signals.first.wait())
        try:
            await asyncio.wait({running, ending, told}, return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                running.result()
            if not self._helps:
                services.health.mark_stopping()
            log(_logger, logging.INFO, "stopping", in_flight=loop.busy)
            # A helping pod that gets an experiment of its own stops at once: its engine switches at once too.
            leaves = self._helps and bool(services.labels.experiment_id)
            loop.stop(0.0 if leaves else max(0.0, services.settings.grace_s - _HAND_BACK_S))
            handed_back = await running
            log(_logger, logging.INFO, "stopped", handed_back=handed_back)
        finally:
            await end(running, ending, told)

    async def _until_idle(self, loop: WorkLoop) -> None:
        """Read the experiment, then wait until the idle timeout."""
        await self._first_sync()
        ready = time.monotonic()
        allowed = idle_timeout_s(self._services.settings)
        while allowed is None or min(loop.idle_s, time.monotonic() - ready) <= allowed:  # noqa: ASYNC110 - time passes
            await asyncio.sleep(_POLL_S)
        log(_logger, logging.INFO, "no work for long", seconds=allowed)
        if self._services.settings.shutdown_file:
            await asyncio.to_thread(Path(self._services.settings.shutdown_file).touch)

    async def _until_rescued(self, loop: WorkLoop) -> None:
        await self._first_sync()
        quiet = 0
        while quiet < 3 and not self._services.labels.experiment_id:
            await asyncio.sleep(_POLL_S)
            quiet = 0 if loop.busy or self._journal.entries else quiet + 1

    def _unserved(self) -> str | None:
        """Return why a request would not be answered now."""
        if not self._files.generation:
            return "The experiment has not been read yet."
        return None if self._services.engine.serves else "The engine serves no experiment."

    async def _first_sync(self) -> None:
        """Have the experiment read before the first request, which gets the error if there is one."""

        async def on_stage(status: Status) -> None:
            log(_logger, logging.INFO, "reading the experiment", stage=str(status))

        try:
            await self._files.sync(on_stage)
        except WorkerError as error:
            log(_logger, logging.WARNING, "experiment could not be read", code=error.code, reason=error.message)


async def _nothing() -> None:
    pass
