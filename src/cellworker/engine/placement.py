"""Serves the assigned experiment once its file exists, and switches when another one is assigned."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cellworker.engine.loading import ServedExperiment
from cellworker.engine.workers.runner import TaskRunner
from cellworker.errors import ErrorCode, WorkerError
from cellworker.formats.common.locating import locate
from cellworker.logs import log

__all__ = ["AssignedExperiment"]

_POLL_S = 1.0
_RETIRE_S = 120.0
_IDLE_POLL_S = 0.05

_logger = logging.getLogger(__name__)


class AssignedExperiment:
    """The experiment of an engine that starts without one.

    An async context manager. It serves nothing until an experiment is assigned and a file of it exists. When another
    one is assigned, requests under way for the old one may finish, within limits, and new ones are refused.
    When the assignment ends, the last experiment stays in service.

    Parameters
    ----------
    assigned
        Returns the folder of the experiment, None while none is assigned; called repeatedly.
    make
        Makes the object that serves a folder, not entered yet.
    poll_s
        Seconds between looks.
    retire_s
        Seconds that requests for an experiment that is no longer served may take to finish.
    """

    def __init__(
        self,
        assigned: Callable[[], Path | None],
        make: Callable[[Path], ServedExperiment],
        *,
        poll_s: float = _POLL_S,
        retire_s: float = _RETIRE_S,
    ) -> None:
        self._assigned = assigned
        self._make = make
        self._poll_s = poll_s
        self._retire_s = retire_s
        self._path: Path | None = None
        self._served: ServedExperiment | None = None
        self._changing = asyncio.Lock()
        self._first_served = asyncio.Event()
        self._background: set[asyncio.Task[None]] = set()
        self._retiring: set[asyncio.Task[None]] = set()
        self._ends = asyncio.Event()

    @property
    def runner(self) -> TaskRunner | None:
        """The task runner; None while nothing has been read yet."""
        return self._served.runner if self._served else None

    @property
    def name(self) -> str | None:
        """The id of the experiment that is served; None while there is none."""
        return self._path.name if self._path else None

    def describe(self) -> dict[str, Any]:
        """Return what is served and its state, as `ServedExperiment` does; ``status`` may be "waiting"."""
        if self._served:
            return self._served.describe()
        return {
            "status": "waiting",
            "ready": False,
            "path": str(self._path) if self._path else None,
            "generation": 0,
            "progress": None,
            "error": None,
            "experimentId": self.name,
        }

    async def first_served(self) -> None:
        """Wait until requests can be answered, through failures."""
        await self._first_served.wait()

    async def reload(self) -> int:
        """Check at once which experiment is assigned and which file exists; see `ServedExperiment.reload`.

        Raises
        ------
        WorkerError
            ``EXPERIMENT_NOT_FOUND`` where none is assigned or nothing is there; why it cannot be read.
        """
        while True:
            await self._change_over()
            served = self._served
            if served is None:
                message = (
                    "No experiment is assigned yet." if self._path is None else "No file of the experiment is here."
                )
                raise WorkerError(ErrorCode.EXPERIMENT_NOT_FOUND, message)
            try:
                return await served.reload()
            except WorkerError:
                if served is self._served:
                    raise

    async def __aenter__(self) -> Self:
        self._do(self._follow())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._background:
            task.cancel()
        # These are not cancelled: whoever is cancelled while it closes an experiment leaves its processes and files.
        self._ends.set()
        await asyncio.gather(*self._background, *self._retiring, return_exceptions=True)
        if self._served:
            await self._served.__aexit__(None, None, None)

    async def _follow(self) -> None:
        while True:
            try:
                await self._change_over()
            except Exception as error:  # noqa: BLE001 what is served stays in service whatever goes wrong
                log(_logger, logging.ERROR, "assignment could not be followed", error=error)
            await asyncio.sleep(self._poll_s)

    async def _change_over(self) -> None:
        async with self._changing:
            path = self._assigned()
            if path is not None and path != self._path:
                log(_logger, logging.INFO, "experiment assigned", experiment=path.name)
                old, self._served, self._path = self._served, None, path
                if old:
                    self._do(self._retire(old), self._retiring)
            if self._served is None and self._path is not None and _is_there(self._path):
                self._served = await self._make(self._path).__aenter__()
                self._do(self._tell_first(self._served))

    async def _retire(self, old: ServedExperiment) -> None:
        """Close an experiment that is no longer served, once its requests and file results are done."""
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._retire_s):
                    while old.runner and not old.runner.idle and not self._ends.is_set():  # noqa: ASYNC110 - it has no event
                        await asyncio.sleep(_IDLE_POLL_S)
        finally:
            await old.__aexit__(None, None, None)
            log(_logger, logging.INFO, "experiment put away", experiment=old.path.name)

    async def _tell_first(self, served: ServedExperiment) -> None:
        await served.first_served()
        self._first_served.set()

    def _do(self, work: Coroutine[Any, Any, None], among: set[asyncio.Task[None]] | None = None) -> None:
        tasks = self._background if among is None else among
        task = asyncio.create_task(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)


def _is_there(path: Path) -> bool:
    """Whether there is a file to read; an unreadable kind counts, so that its reader reports it."""
    try:
        locate(path)
    except WorkerError as error:
        return error.code is not ErrorCode.EXPERIMENT_NOT_FOUND
    return True
