"""Runs tasks in isolated processes: a task that crashes, or takes too much memory or time, fails alone."""

import asyncio
import logging
import shutil
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from cellworker.engine.annotators.cassia import annotator
from cellworker.engine.annotators.marker_table import table_places
from cellworker.engine.workers.frames import FrameKind, ProblemFrame, RequestFrame, WorkerInit
from cellworker.engine.workers.pool import SHUTTING_DOWN, Lane
from cellworker.engine.workers.process import OnProgress, ProcessLost, WorkerProcess
from cellworker.engine.workers.scratch import ScratchFolder
from cellworker.engine.workers.worker import load_object
from cellworker.engine.workers.zygote_client import ZYGOTE_LOST, StartMethod, ZygoteClient
from cellworker.errors import ErrorCode, WorkerError
from cellworker.identifiers import FileName
from cellworker.logs import log
from cellworker.settings import Settings
from cellworker.tasks.task import Task

__all__ = ["Answer", "LaneLoad", "MalformedBodyError", "OnProgress", "StoreLostError", "TaskRunner"]

_WAITING_LIMIT = 1000
_RESULT_LIFE_S = 3600.0
"""Seconds after which an unfetched file result is removed."""
_LONG_LANE_NICE = 10
"""Long computations yield the processor to short ones."""
_SIGKILL = -9

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Answer:
    """A task's result: JSON text, or the path of a file that the caller removes."""

    data: bytes = b""
    file: Path | None = None


@dataclass(frozen=True, slots=True)
class LaneLoad:
    """Load of a lane: requests under way and waiting, and how many it computes at a time."""

    running: int
    waiting: int
    size: int


class _InterruptedError(Exception):
    """All worker processes ended together, because the zygote ended."""


class MalformedBodyError(WorkerError):
    """The request's body is not JSON at all."""


class StoreLostError(WorkerError):
    """The store was found damaged during the computation: the request can be answered once it is made again."""

    def __init__(self) -> None:
        message = "The experiment is being read again. Please try again in a few minutes."
        super().__init__(ErrorCode.EXPERIMENT_OUT_OF_DATE, message)


class TaskRunner:
    """A pool of worker processes with a lane for short requests and a lane for long ones.

    An async context manager: entering starts the processes, leaving ends them and removes all temporary files. The
    memory budget is enforced on Linux only; elsewhere the machine bounds a request.

    Parameters
    ----------
    store
        The experiment's store.
    settings
        Lane sizes, time limits, memory budget, threads, `like_original`.
    tasks
        ``module:attribute`` of the tasks by engine path.
    opener
        ``module:attribute`` of the function that opens a store.
    method
        How processes are made; by default the fastest safe way on this system.
    waiting_limit
        Requests that may wait in each lane.
    on_request
        Called with each request before it is computed.
    on_store_failure
        Called when a process cannot open the store or dies while it reads it; returns whether the store is lost,
        and `reload` will replace it.

    Raises
    ------
    WorkerError
        On entering, if the store cannot be opened.
    """

    def __init__(
        self,
        store: Path,
        settings: Settings,
        *,
        tasks: str = "cellworker.tasks.catalog:BY_PATH",
        opener: str = "cellworker.experiment.store.store:open_store",
        method: StartMethod | None = None,
        waiting_limit: int = _WAITING_LIMIT,
        on_request: Callable[[Task, bytes], object] | None = None,
        on_store_failure: Callable[[], bool] = lambda: False,
    ) -> None:
        self._store = store
        self._settings = settings
        self._names = (tasks, opener)
        self._tasks: Mapping[str, Task] = load_object(tasks)
        preload = ["cellworker.engine.workers.worker", *(name.partition(":")[0] for name in self._names)]
        self._zygote = ZygoteClient(preload, method)
        self._annotate = annotator(settings)
        self._scratch: ScratchFolder | None = None
        self._closing = False
        self._on_request = on_request
        self._on_store_failure = on_store_failure
        self._edition = 1
        self._numbers = count(1)
        sizes = {"short": settings.short_workers, "long": settings.long_workers}
        self._lanes = {
            name: Lane(
                name,
                max(1, size),
                waiting_limit,
                self._zygote,
                init=partial(self._worker_init, name),
                explain=self._explain,
            )
            for name, size in sizes.items()
        }
        self._limits_s = {"short": settings.short_timeout_s, "long": settings.long_timeout_s}

    @property
    def tasks(self) -> Mapping[str, Task]:
        """The tasks, by engine path."""
        return self._tasks

    @property
    def store(self) -> Path:
        """The store that new requests use."""
        return self._store

    @property
    def loads(self) -> dict[str, LaneLoad]:
        """The load of each lane."""
        return {name: LaneLoad(lane.running, lane.waiting, lane.size) for name, lane in self._lanes.items()}

    @property
    def able(self) -> bool:
        """Whether every lane has a process or gets another one for a replaced one, so that requests are computed."""
        return all(lane.able for lane in self._lanes.values())

    @property
    def idle(self) -> bool:
        """Whether no request is under way or waits, and every file result was fetched."""
        unfetched = self._scratch is not None and any(self._scratch.results.glob("*"))
        return not unfetched and not any(lane.running or lane.waiting for lane in self._lanes.values())

    async def __aenter__(self) -> Self:
        self._scratch = ScratchFolder()
        try:
            for lane in self._lanes.values():
                lane.edition = self._edition
            await asyncio.gather(*(lane.fill() for lane in self._lanes.values()))
        except ProcessLost as lost:
            await self.close()
            message = f"The processes that compute cannot be started ({lost.reason})."
            raise WorkerError(ErrorCode.TASK_CRASHED, message) from None
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End all processes at once, busy or not, and remove all temporary files, unfetched file results too."""
        self._closing = True
        for lane in self._lanes.values():
            await lane.close()
        await self._zygote.close()
        if self._scratch:
            self._scratch.close()

    async def run(
        self, task: Task | str, request: bytes, on_progress: OnProgress | None = None, *, columns: bool = False
    ) -> Answer:
        """Compute one request. Cancelling this call ends the computation within a second.

        Parameters
        ----------
        task
            The task, or its engine path.
        request
            The engine request's JSON text.
        on_progress
            Called with the stage and the fraction done, not more often than every 50 ms.
        columns
            Answer with typed columns (`protocol.columns`); only for tasks that have them.

        Raises
        ------
        WorkerError
            The task's own error; ``INVALID_INPUT`` naming the field (a `MalformedBodyError` if it is not JSON);
            ``TASK_CRASHED``, ``OUT_OF_MEMORY``, ``DEADLINE_EXCEEDED``, ``DISK_FULL``, ``ENGINE_BUSY``; and
            ``R_WORKER_UNHANDLED_ERROR`` for a bug, whose traceback is in the log.
        """
        task = self._tasks[task] if isinstance(task, str) else task
        if self._scratch is None:
            raise RuntimeError("the runner was not entered")
        if self._on_request:
            self._on_request(task, request)
        try:
            return await self._compute(task, request, on_progress, columns=columns)
        except _InterruptedError:
            # Most likely not the request's fault, so another process computes it; once, in case it is its fault.
            log(_logger, logging.WARNING, "task begun again", task=task.name)
            return await self._compute(task, request, on_progress, columns=columns, may_repeat=False)

    async def _compute(
        self, task: Task, request: bytes, on_progress: OnProgress | None, *, columns: bool, may_repeat: bool = True
    ) -> Answer:
        assert self._scratch
        lane_name = task.lane_of_request(request)
        lane = self._lanes[lane_name]
        worker = await lane.acquire()
        folder = self._scratch.folder_of(next(self._numbers))
        answered, patient = False, True
        try:
            async with asyncio.timeout(self._limits_s[lane_name] or None):
                kind, payload = await worker.call(
                    RequestFrame(task.path, str(folder), columns), request, on_progress, annotate=self._annotate
                )
            answered = True
        except TimeoutError:
            patient = False
            raise self._deadline_error(lane_name) from None
        except ProcessLost as lost:
            patient = False
            if lost.status == ZYGOTE_LOST and may_repeat and not self._closing:
                raise _InterruptedError from None
            raise await self._crash_error(task, worker, lost) from None
        finally:
            if answered:
                lane.release(worker)
            else:
                lane.drop(worker, after=lambda: shutil.rmtree(folder, ignore_errors=True), patient=patient)
        if kind is FrameKind.PROBLEM:
            raise self._error(task, msgspec.json.decode(payload, type=ProblemFrame))
        if kind is FrameKind.FILE:
            return Answer(file=self._keep_result(folder, Path(bytes(payload).decode())))
        return Answer(data=bytes(payload))

    async def reload(self, store: Path) -> None:
        """Serve another store from now on. Requests under way finish on the old one; none is refused meanwhile.

        Raises
        ------
        WorkerError, ProcessLost
            If the new store cannot be opened; the old one stays in service.
        """
        lane = self._lanes["short"]
        init = self._worker_init("short")
        init.store, init.edition = str(store), self._edition + 1
        first = await WorkerProcess.start(self._zygote, init)
        self._store = store
        self._edition = init.edition
        lane.adopt(first)
        for other in self._lanes.values():
            other.renew(init.edition)

    def _worker_init(self, lane: str) -> WorkerInit:
        assert self._scratch
        settings = self._settings
        return WorkerInit(
            store=str(self._store),
            opener=self._names[1],
            tasks=self._names[0],
            memory_bytes=int(settings.task_memory_gb * 2**30),
            memory_gb=settings.task_memory_gb,
            threads=settings.threads,
            like_original=settings.like_original,
            nice=_LONG_LANE_NICE if lane == "long" else 0,
            fault_file=str(self._scratch.path / FileName(f"fault-{next(self._numbers)}")),
            marker_table=table_places(settings),
            edition=self._edition,
            kept=str(self._scratch.path / "kept"),
        )

    def _explain(self, error: Exception) -> tuple[WorkerError, bool]:
        if isinstance(error, WorkerError) and self._on_store_failure():
            return StoreLostError(), False
        return WorkerError(ErrorCode.TASK_CRASHED, "No process could be started to compute the answer."), True

    def _keep_result(self, folder: Path, file: Path) -> Path:
        """Move a file result out of its request's folder, and remove it where nobody fetches it."""
        assert self._scratch
        kept = self._scratch.keep(folder, file)
        asyncio.get_running_loop().call_later(_RESULT_LIFE_S, lambda: kept.unlink(missing_ok=True))
        return kept

    def _error(self, task: Task, problem: ProblemFrame) -> WorkerError:
        if problem.traceback:
            log(_logger, logging.ERROR, "task failed", task=task.name, traceback=problem.traceback)
        kind = MalformedBodyError if problem.malformed else WorkerError
        return kind(ErrorCode(problem.code), problem.message)

    def _deadline_error(self, lane: str) -> WorkerError:
        setting = f"{lane}_timeout_s".upper()
        message = (
            f"The request was stopped after the {self._limits_s[lane]:g} seconds that it may compute. "
            f"Ask for fewer cells or genes, or raise the setting {setting}."
        )
        return WorkerError(ErrorCode.DEADLINE_EXCEEDED, message)

    async def _crash_error(self, task: Task, worker: WorkerProcess, lost: ProcessLost) -> WorkerError:
        if self._closing:
            return WorkerError(ErrorCode.REQUEST_CANCELLED, SHUTTING_DOWN)
        if lost.status == -signal.SIGBUS and self._on_store_failure():
            return StoreLostError()
        log(_logger, logging.ERROR, "task crashed", task=task.name, reason=lost.reason, fault=await worker.fault())
        if lost.status == _SIGKILL:
            message = (
                "The computation was stopped by the system, most likely because the machine ran out of memory. "
                "Ask for fewer cells or genes."
            )
            return WorkerError(ErrorCode.OUT_OF_MEMORY, message)
        message = f"The computation stopped unexpectedly ({lost.reason}). Others were not affected. Please report this."
        return WorkerError(ErrorCode.TASK_CRASHED, message)
