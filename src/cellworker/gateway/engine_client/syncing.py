"""Keeps the experiment's files equal to the platform's, and has the engine serve them (contract 6.4)."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
import orjson
from yarl import URL

from cellworker.errors import ErrorCode, WorkerError
from cellworker.gateway.core.cancel_tasks import end
from cellworker.gateway.core.retry import Backoff
from cellworker.gateway.engine_client.engine_watch import EngineWatch
from cellworker.gateway.engine_client.experiment_folder import ExperimentFolder, RemoteFiles, RemoteObject
from cellworker.gateway.engine_client.session import engine_session
from cellworker.gateway.platform.labels import point_engine
from cellworker.identifiers import ExperimentId
from cellworker.logs import log
from cellworker.protocol.events import Status

__all__ = ["ExperimentSync", "RemoteFiles", "RemoteObject"]

OnStage = Callable[[Status], Awaitable[None]]

_QUIET_S = 1.0
"""Seconds. An engine that answers earlier loads so fast that the client needs no notice."""
_AT_A_TIME = 3
_NOT_FETCHED = (
    "The experiment's data could not be fetched from the platform's store. Please try again in a few minutes."
)
_NOT_THERE = (
    "There is no processed data of this experiment in the platform's store. Please run the data processing first."
)
_NO_ENGINE = "The part of the worker that computes could not be reached. Please try again in a few minutes."
_NOT_SERVED = "The experiment could not be opened. Please try again in a few minutes."

_logger = logging.getLogger(__name__)


class _ReadAgainError(Exception):
    """The engine's answer may change in a moment; holds the current one."""

    def __init__(self, error: WorkerError) -> None:
        super().__init__(error.message)
        self.error = error


def _future() -> "asyncio.Future[None]":
    return asyncio.get_running_loop().create_future()


@dataclass(slots=True)
class _Run:
    """One look at the store and all that follows, for everyone who asked before it began."""

    stage: Status | None = None
    changed: asyncio.Future[None] = field(default_factory=_future)
    done: asyncio.Future[None] = field(default_factory=_future)

    def tell(self, stage: Status) -> None:
        self.stage = stage
        self.changed.set_result(None)
        self.changed = _future()

    def fail(self, error: Exception) -> None:
        self.done.set_exception(error)
        self.done.exception()  # the last waiter was cancelled, and its error is not needed


class ExperimentSync:
    """Fetches changed objects from the store before a request is computed; an async context manager.

    Each call is answered by a look at the store that began after the call; calls at the same time share
    one. Where the store cannot be read, requests fail: an answer from older data would be stored for good under the
    ETag of the newer.

    Parameters
    ----------
    files
        The store.
    engine_url
        Where the engine is.
    data_dir
        Where the engine looks for experiments.
    experiment_id
        Which one.
    watch
        Reports when the engine hangs.
    retry_budget_s
        Retry budget while the store or the engine does not answer, in seconds.

    Attributes
    ----------
    generation
        Counts the contents that the engine has served since it started; 0 before the first.
    """

    def __init__(
        self,
        files: RemoteFiles,
        engine_url: str,
        data_dir: Path,
        experiment_id: ExperimentId,
        *,
        watch: EngineWatch | None = None,
        retry_budget_s: float = 120.0,
    ) -> None:
        self._files = files
        self._reload_url = URL(engine_url.rstrip("/")) / "reload"
        self._data_dir = data_dir
        self._experiment_id = experiment_id
        self._watch = watch
        self._guard: Callable[[], AbstractAsyncContextManager[None]] = watch.guard if watch else nullcontext
        self._retry_budget_s = retry_budget_s
        self._folder = ExperimentFolder(data_dir, experiment_id)
        self._session: aiohttp.ClientSession | None = None
        self._next: _Run | None = None
        self._worker: asyncio.Task[None] | None = None
        self._instance = ""
        self.generation = 0

    @property
    def folder(self) -> Path:
        """The folder of the experiment's files."""
        return self._folder.path

    async def __aenter__(self) -> Self:
        self._session = engine_session()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._worker is not None:
            await end(self._worker)
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def sync(self, on_stage: OnStage) -> None:
        """Return once the engine serves the content at the time of the call, or newer content.

        Parameters
        ----------
        on_stage
            Called with DOWNLOADING and LOADING where they take place, once each.

        Raises
        ------
        WorkerError
            ``EXPERIMENT_NOT_FOUND`` where the store has nothing of the experiment; ``EXPERIMENT_OUT_OF_DATE`` where it
            cannot be fetched; ``DISK_FULL``; what the engine says of a file that it cannot read.
        """
        run = self._next
        if run is None:
            run = self._next = _Run()
            if self._worker is None or self._worker.done():
                self._worker = asyncio.create_task(self._work())
        while not run.done.done():
            stage, changed = run.stage, run.changed
            if stage is not None:
                await on_stage(stage)
            await asyncio.wait({run.done, changed}, return_when=asyncio.FIRST_COMPLETED)
        run.done.result()

    async def _work(self) -> None:
        """Handle the waiting calls, one look at the store after the other."""
        while (run := self._next) is not None:
            self._next = None
            try:
                await self._look(run)
            except asyncio.CancelledError:
                for asked in (run, self._next):
                    if asked is not None:
                        asked.fail(ConnectionAbortedError("the worker stops"))
                raise
            except WorkerError as error:
                run.fail(error)
            except Exception as error:  # noqa: BLE001 - raised to the callers
                log(_logger, logging.ERROR, "experiment not synchronised", error=error)
                run.fail(WorkerError(ErrorCode.EXPERIMENT_OUT_OF_DATE, _NOT_FETCHED))
            else:
                run.done.set_result(None)

    async def _look(self, run: _Run) -> None:
        point_engine(self._data_dir, self._experiment_id)
        serving = asyncio.create_task(self._reload())
        try:
            objects = await self._listed()
            if not self._folder.outdated(objects):
                # Nothing has changed, so the engine's answer holds.
                await self._await_engine(run, serving)
                return
        finally:
            await end(serving)
        run.tell(Status.DOWNLOADING)
        await self._fetch(objects)
        run.tell(Status.LOADING)
        await self._reload()

    async def _await_engine(self, run: _Run, serving: "asyncio.Task[None]") -> None:
        done, _ = await asyncio.wait({serving}, timeout=_QUIET_S)
        if not done:
            run.tell(Status.LOADING)
        await serving

    async def _listed(self) -> list[RemoteObject]:
        backoff = Backoff(self._retry_budget_s)
        while True:
            try:
                objects = self._folder.wanted(await self._files.list())
            except WorkerError:
                raise
            except Exception as error:  # noqa: BLE001 - whatever the store's client raises
                reason = type(error).__name__
                log(_logger, logging.WARNING, "store cannot be listed", experiment=self._experiment_id, reason=reason)
                if not await backoff.pause():
                    raise WorkerError(ErrorCode.EXPERIMENT_OUT_OF_DATE, _NOT_FETCHED) from None
            else:
                if not objects:
                    raise WorkerError(ErrorCode.EXPERIMENT_NOT_FOUND, _NOT_THERE)
                return objects

    async def _fetch(self, objects: list[RemoteObject]) -> None:
        """Fetch all changes, and put them in place together; also what changes meanwhile."""
        backoff = Backoff(self._retry_budget_s)
        limit = asyncio.Semaphore(_AT_A_TIME)

        async def fetch(item: RemoteObject) -> None:
            async with limit:
                await self._folder.fetch(self._files, item)

        while True:
            outcomes = await asyncio.gather(*map(fetch, self._folder.missing(objects)), return_exceptions=True)
            errors = [outcome for outcome in outcomes if outcome is not None]
            for error in errors:
                if isinstance(error, WorkerError):
                    raise error
                reason = type(error).__name__
                log(_logger, logging.WARNING, "download failed", experiment=self._experiment_id, reason=reason)
            if errors and not await backoff.pause():
                raise WorkerError(ErrorCode.EXPERIMENT_OUT_OF_DATE, _NOT_FETCHED)
            again = await self._listed()
            if not self._folder.missing(again):
                break
            objects = again
        await asyncio.to_thread(self._folder.commit, again)
        names = [item.key for item in again]
        log(_logger, logging.INFO, "experiment fetched", experiment=self._experiment_id, objects=names)

    async def _reload(self) -> None:
        """Have the engine look at the files, and wait until it serves them."""
        backoff: Backoff | None = None
        while True:
            try:
                await self._ask_to_reload()
            except (aiohttp.ClientError, ConnectionError, TimeoutError) as error:
                reason, failure = type(error).__name__, WorkerError(ErrorCode.EXPERIMENT_OUT_OF_DATE, _NO_ENGINE)
            except _ReadAgainError as error:
                reason, failure = str(error.error.code), error.error
            else:
                return
            if backoff is None:
                backoff = Backoff(self._retry_budget_s)
                log(_logger, logging.INFO, "engine does not serve yet", experiment=self._experiment_id, reason=reason)
            if not await backoff.pause():
                raise failure

    async def _ask_to_reload(self) -> None:
        assert self._session is not None, "the sync was not entered"
        async with self._guard(), self._session.post(self._reload_url) as response:
            content = await response.read()
        answer = _object(content)
        if response.status == 200:
            served = answer.get("experiment")
            if served is not None and served != self._experiment_id:
                raise _ReadAgainError(WorkerError(ErrorCode.EXPERIMENT_OUT_OF_DATE, _NOT_SERVED))
            instance = str(answer.get("instance"))
            if self._instance not in ("", instance):
                log(_logger, logging.WARNING, "engine was restarted", experiment=self._experiment_id)
            self._instance = instance
            self.generation = int(answer.get("generation") or 0)
            if self._watch is not None:
                self._watch.note_serving()
            return
        try:
            error = WorkerError(ErrorCode(str(answer.get("error_code"))), str(answer.get("user_message")))
        except ValueError:
            log(_logger, logging.ERROR, "engine cannot reload", status=response.status)
            raise _ReadAgainError(WorkerError(ErrorCode.EXPERIMENT_OUT_OF_DATE, _NOT_SERVED)) from None
        if error.code in (
            ErrorCode.EXPERIMENT_NOT_FOUND,
            ErrorCode.EXPERIMENT_OUT_OF_DATE,
            ErrorCode.REQUEST_CANCELLED,
        ):
            # It has not heard of this experiment yet, a file was replaced while it read it, or it is about to end.
            raise _ReadAgainError(error)
        raise error


def _object(content: bytes) -> dict[str, Any]:
    with contextlib.suppress(orjson.JSONDecodeError):
        answer = orjson.loads(content)
        if isinstance(answer, dict):
            return answer
    return {}
