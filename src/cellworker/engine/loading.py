"""Keeps one experiment open: reads it, follows its file, and switches to new content without a gap."""

import asyncio
import contextlib
import logging
import threading
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from cellworker.engine.saved_requests import RequestSaver
from cellworker.engine.signatures import Signature, signature_of
from cellworker.engine.workers.pool import SHUTTING_DOWN
from cellworker.engine.workers.process import ProcessLost
from cellworker.engine.workers.runner import TaskRunner
from cellworker.engine.workers.worker import load_object
from cellworker.errors import UNEXPECTED, ErrorCode, WorkerError
from cellworker.formats.opening.store_guard import READ_AT_ONCE_BYTES, StoreGuard, discard
from cellworker.logs import log
from cellworker.settings import Settings

if TYPE_CHECKING:
    from cellworker.formats.opening.open import Opened

__all__ = ["ServedExperiment"]

_FIRST_RETRY_S = 1.0
_LAST_RETRY_S = 300.0
_JOIN_TIMEOUT_S = 1.0
_UPDATING = ".updating"
_UPDATING_POLL_S = 0.05

_logger = logging.getLogger(__name__)


class _ClosingError(Exception):
    """Raised inside a load that is no longer wanted."""


class ServedExperiment:
    """An experiment that answers requests and follows its file.

    An async context manager; entering returns at once, while the experiment is read in the background. When the file
    changes it is read again; until then, and if that fails, the earlier content is served. Failures are logged,
    reported by `describe`, and retried: after a second at first, then twice as long each time up to five minutes, or as
    soon as the file changes. While a folder holds a file ``.updating``, another program is replacing several
    files of it, and nothing is read.

    Parameters
    ----------
    path
        A folder or a file, as for `open_experiment`.
    settings
        All settings.
    opener
        ``module:attribute`` of the function that opens an experiment.
    tasks, store_opener
        As in `TaskRunner`.
    """

    def __init__(
        self,
        path: Path,
        settings: Settings,
        *,
        opener: str = "cellworker.formats.opening.open:open_experiment",
        tasks: str = "cellworker.tasks.catalog:BY_PATH",
        store_opener: str = "cellworker.experiment.store.store:open_store",
    ) -> None:
        self.path = path
        self._settings = settings
        self._opener = opener
        self._tasks, self._store_opener = tasks, store_opener
        self._runner: TaskRunner | None = None
        self._opened: Opened | None = None
        self._state: Literal["loading", "ready", "reloading", "failed"] = "loading"
        self._error: WorkerError | None = None
        self._progress: dict[str, Any] | None = None
        self._attempted = asyncio.Event()
        self._first_served = asyncio.Event()
        self._tried: Signature | None = None
        self._served: Signature | None = None
        self._look = asyncio.Event()
        self._settled = asyncio.Event()
        self._stop = threading.Event()
        self._loader: threading.Thread | None = None
        self._follower: asyncio.Task[None] | None = None
        self._generation = 0
        self._guard: StoreGuard | None = None
        self._lost = False
        self._facts: dict[str, Any] = {"experimentId": None}

    @property
    def runner(self) -> TaskRunner | None:
        """The task runner; None while nothing has been read yet, or while a damaged store is made again."""
        return None if self._lost else self._runner

    @property
    def name(self) -> str | None:
        """None: requests may name any id, since this engine serves one experiment."""
        return None

    @property
    def opened(self) -> "Opened | None":
        """The open experiment; None while nothing has been read yet."""
        return self._opened

    async def __aenter__(self) -> Self:
        self._follower = asyncio.create_task(self._follow())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._settle()
        if self._guard:
            self._guard.stop()
            self._guard = None
        if self._follower:
            self._follower.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._follower
        if self._runner:
            await self._runner.close()
            self._runner = None
        if self._loader:
            # It ends, and removes what it wrote, when it next reports progress.
            await asyncio.to_thread(self._loader.join, _JOIN_TIMEOUT_S)
        # aiohttp caches handlers and what they refer to for the whole process: this releases the store's pages.
        self._opened = None

    async def ready(self) -> TaskRunner:
        """Wait for the first load, and while a damaged store is made again.

        Raises
        ------
        WorkerError
            Why it failed; it is retried all the same.
        """
        await self._attempted.wait()
        while (runner := self.runner) is None:
            if self._error:
                raise self._error
            await self._settled.wait()
        return runner

    async def first_served(self) -> None:
        """Wait until requests can be answered, through failures."""
        await self._first_served.wait()

    async def reload(self) -> int:
        """Check the file now; return once its current content is served, with the count of contents so far.

        Returns at once where nothing has changed. Where the last attempt to read this content failed, its error
        holds: it is retried on its own schedule.

        Raises
        ------
        WorkerError
            Why it cannot be read.
        """
        while not self._stop.is_set():
            if self._is_settled():
                if self._error and not self._serves_what_lies_there():
                    raise self._error
                return self._generation
            self._look.set()
            await self._settled.wait()
        raise WorkerError(ErrorCode.REQUEST_CANCELLED, SHUTTING_DOWN)

    def describe(self) -> dict[str, Any]:
        """Return what is served and its state, JSON-able.

        Returns
        -------
        dict
            ``status`` "loading" (nothing yet), "ready", "reloading" (an older content is served while the new one is
            read) or "failed"; ``ready`` whether requests are answered; ``generation`` counts contents; ``error`` the
            last failure.
        """
        out: dict[str, Any] = {
            "status": self._state,
            "ready": self.runner is not None and self.runner.able,
            "path": str(self.path),
            "generation": self._generation,
            "progress": self._progress,
            "error": None,
        }
        if self._error:
            out["error"] = {"error_code": self._error.code, "user_message": self._error.message}
        out |= self._facts
        if self._runner:
            loads = self._runner.loads.items()
            out["lanes"] = {
                name: {"running": load.running, "waiting": load.waiting, "size": load.size} for name, load in loads
            }
        return out

    async def _follow(self) -> None:
        retry_s = _FIRST_RETRY_S
        while True:
            await self._until_whole()
            signature, self._tried = signature_of(self.path), None
            loaded = await self._load()
            self._tried = signature
            if loaded:
                self._served = signature
            self._settle()
            if loaded:
                retry_s = _FIRST_RETRY_S
                await self._until_changed(signature, None)
            else:
                await self._until_changed(signature, retry_s)
                retry_s = min(2 * retry_s, _LAST_RETRY_S)

    async def _load(self) -> bool:
        self._state = "reloading" if self._runner else "loading"
        log(_logger, logging.INFO, f"experiment {self._state}", path=str(self.path))
        try:
            opened = await self._open()
            await self._serve(opened)
        except WorkerError as error:
            self._fail(error)
        except ProcessLost as error:
            self._fail(WorkerError(ErrorCode.EXPERIMENT_UNREADABLE, str(error)))
        except OSError as error:
            # Its own text holds paths of this machine, which users must not see.
            reason = error.strerror or type(error).__name__
            message = f"The experiment's files could not be read ({reason}). Please try again in a few minutes."
            self._fail(WorkerError(ErrorCode.EXPERIMENT_UNREADABLE, message), error)
        except Exception as error:  # noqa: BLE001 the old content stays in service whatever goes wrong
            self._fail(WorkerError(ErrorCode.R_WORKER_UNHANDLED_ERROR, UNEXPECTED), error)
        else:
            self._state, self._error, self._lost = "ready", None, False
            self._generation += 1
            self._first_served.set()
            log(_logger, logging.INFO, "experiment ready", path=str(self.path), generation=self._generation)
        self._progress = None
        self._attempted.set()
        return self._error is None

    async def _serve(self, opened: "Opened") -> None:
        if self._runner is None:
            saver = RequestSaver(self._settings, self.path)
            runner = TaskRunner(
                opened.store,
                self._settings,
                tasks=self._tasks,
                opener=self._store_opener,
                on_request=saver.save,
                on_store_failure=self._suspect_store,
            )
            self._runner = await runner.__aenter__()
        elif self._opened is None or self._opened.experiment.file_id != opened.experiment.file_id:
            await self._runner.reload(opened.store)
        self._opened = opened
        self._verify(opened)
        experiment = opened.experiment
        self._facts = {
            "experimentId": experiment.misc.experiment_id or opened.source.parent.name,
            "store": str(opened.store),
            "cells": experiment.n_cells,
            "genes": experiment.data.n_genes,
        }

    def _fail(self, error: WorkerError, cause: Exception | None = None) -> None:
        self._state, self._error = "failed", error
        log(
            _logger,
            logging.ERROR,
            "experiment not loaded",
            path=str(self.path),
            code=error.code,
            reason=error.message,
            error=cause,
        )

    async def _open(self) -> "Opened":
        """Open the experiment in a daemon thread, which does not delay the end of the process."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Opened] = loop.create_future()

        def settle(opened: "Opened | None", error: BaseException | None) -> None:
            if done.done():
                return
            if error:
                done.set_exception(error)
            elif opened:
                done.set_result(opened)

        def report(stage: str, fraction: float | None = None) -> None:
            if self._stop.is_set():
                raise _ClosingError
            loop.call_soon_threadsafe(self._note, stage, fraction)

        def work() -> None:
            outcome: tuple[Opened | None, BaseException | None]
            try:
                outcome = (load_object(self._opener)(self.path, self._settings, report), None)
            except BaseException as error:  # noqa: BLE001 handed to the event loop
                outcome = (None, error)
            with contextlib.suppress(RuntimeError):  # the loop is closed already
                loop.call_soon_threadsafe(settle, *outcome)

        self._loader = threading.Thread(target=work, name="open-experiment", daemon=True)
        self._loader.start()
        return await done

    def _note(self, stage: str, fraction: float | None) -> None:
        self._progress = {"stage": stage, "fraction": fraction}

    async def _until_changed(self, signature: Signature, retry_budget_s: float | None) -> None:
        poll_s = self._settings.reload_poll_s
        loop = asyncio.get_running_loop()
        end = None if retry_budget_s is None else loop.time() + retry_budget_s
        while end is None or loop.time() < end:
            waits = [poll_s] if poll_s else []
            waits += [] if end is None else [max(0.0, end - loop.time())]
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(waits, default=None)):
                    await self._look.wait()
            asked = self._look.is_set()
            self._look.clear()
            if (poll_s or asked) and (signature_of(self.path) != signature or self._store_is_gone()):
                return
            if asked:
                # The change has been undone meanwhile.
                self._settle()

    async def _until_whole(self) -> None:
        while (self.path / _UPDATING).exists():  # noqa: ASYNC110 - a file has no event
            await asyncio.sleep(_UPDATING_POLL_S)

    def _is_settled(self) -> bool:
        """Whether the last attempt is over and was about the current content."""
        return self._tried == signature_of(self.path) and (self._error is not None or not self._store_is_gone())

    def _serves_what_lies_there(self) -> bool:
        """Whether a failed attempt was only to make the store again: the served content is the same."""
        return self._runner is not None and self._served == self._tried

    def _settle(self) -> None:
        """Wake those who wait for the end of an attempt."""
        self._settled.set()
        self._settled = asyncio.Event()

    def _store_is_gone(self) -> bool:
        """Whether new worker processes would not find the served store: it is removed, replaced or damaged."""
        if self._opened is None:
            return False
        return self._look_at_store() or not self._opened.experiment.is_in_place

    def _look_at_store(self) -> bool:
        """Whether the store is lost; a truncated store is noted as lost."""
        if self._opened is not None and not self._lost and not self._opened.experiment.is_whole:
            self._lose_store(self._opened, "it was cut short")
        return self._lost

    def _suspect_store(self) -> bool:
        """Whether the store is lost, which a process could not open or not touch; else it is compared once more."""
        if not self._look_at_store() and self._opened is not None and not (self._guard and self._guard.is_running):
            self._verify(self._opened, again=True)  # a disk that fails leaves the file its length
        return self._lost

    def _verify(self, opened: "Opened", *, again: bool = False) -> None:
        """Compare the store with its checksums, once, in the background; a small one was compared before."""
        if self._guard:
            self._guard.stop()
            self._guard = None
        if opened.experiment.n_bytes <= READ_AT_ONCE_BYTES and not again:
            return
        loop = asyncio.get_running_loop()

        def tell(reason: str) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed already
                loop.call_soon_threadsafe(self._lose_store, opened, reason)

        self._guard = StoreGuard(opened.experiment, tell)
        self._guard.start()

    def _lose_store(self, opened: "Opened", reason: str) -> None:
        """Stop serving a damaged store, and have it made again."""
        if opened is not self._opened or self._lost:
            return
        discard(opened.experiment, reason)
        self._state, self._error, self._lost = "reloading", None, True
        self._look.set()
