"""The explorer for an experiment that is open in this process: a server in a thread, below a secret path.

A notebook shows the page in a frame. Pages of other sites cannot find it, because the path of everything that it
serves begins with a random secret; a cookie would not reach a frame inside another site's page.
"""

import asyncio
import contextlib
import itertools
import secrets
import shutil
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

import orjson
from aiohttp import web

from cellworker.connections import Connections, GuardedRunner
from cellworker.engine.workers.scratch import ScratchFolder
from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.cell_sets import CellSets
from cellworker.experiment.model import Experiment
from cellworker.gateway.core.answering import Ports
from cellworker.gateway.core.cell_set_patches import applied, examine
from cellworker.gateway.core.loop import WorkLoop
from cellworker.gateway.core.ports import Claim, NotHeldError
from cellworker.identifiers import ExperimentId
from cellworker.local.cell_sets_files import readable
from cellworker.local.columns import ColumnAnswers
from cellworker.local.door.admission import Admission
from cellworker.local.door.cell_sets import ChangedMeanwhileError
from cellworker.local.door.socketio import SocketServer
from cellworker.local.experiment import barcodes_by_id, id_of
from cellworker.local.notifications import SocketNotifications
from cellworker.local.own_classes import patched
from cellworker.local.page.facts import explorer_facts
from cellworker.local.queue import MemoryQueue
from cellworker.local.relay import Relay, Send
from cellworker.local.results import DiskResults
from cellworker.local.server import LocalServer, Served
from cellworker.local.sync import NoSync
from cellworker.tasks.catalog import example_bodies, find
from cellworker.tasks.steps import compute
from cellworker.tasks.task import Context, Progress, Task

__all__ = ["EmbeddedDoor", "Held"]

_OnProgress = Callable[[str, float | None], Awaitable[None]]

MAX_RESULTS_BYTES = 2**30
"""Bytes of results that are kept for the page to fetch again."""
_SECRET_BYTES = 24
_R = TypeVar("_R")
_PATIENCE_S = 30.0
"""Seconds until the server must listen; it opens no file before."""


class Held(Protocol):
    """The shown experiment, with cell sets that the page changes."""

    cell_sets: CellSets
    source: Path | None

    @property
    def experiment(self) -> Experiment:
        """What requests are answered from."""
        ...

    def sound(self, use: Callable[[Experiment], _R]) -> _R:
        """Return what comes of the experiment; once more where its store was damaged under it."""
        ...

    def context(self, progress: Progress, scratch: Path, kept: Path) -> Context:
        """Return what a task may use."""
        ...


class _Engine:
    """Answers in threads of this process: quick requests do not wait behind long ones."""

    def __init__(self, held: Held, scratch: ScratchFolder) -> None:
        self._held = held
        self._scratch = scratch
        self._numbers = itertools.count(1)
        self._lanes = {lane: ThreadPoolExecutor(1, f"cellworker-{lane}") for lane in ("short", "long")}

    async def compute(self, task: str, request: bytes, on_progress: _OnProgress | None = None) -> bytes:
        """Return the JSON text of the task's value; for a file result, of the file's path."""
        return await self._run(find(task), request, on_progress)

    async def columns(self, task: Task, request: bytes, on_progress: _OnProgress | None = None) -> bytes:
        """Return the task's value as typed columns; only for tasks that have them."""
        return await self._run(task, request, on_progress, columns=True)

    async def _run(
        self, found: Task, request: bytes, on_progress: _OnProgress | None, *, columns: bool = False
    ) -> bytes:
        checked = found.read_request(request)
        loop = asyncio.get_running_loop()
        ended = threading.Event()
        told: set[asyncio.Task[None]] = set()

        def tell(stage: str, fraction: float | None) -> None:
            if on_progress is not None and not ended.is_set():
                telling = loop.create_task(_awaited(on_progress(stage, fraction)))
                told.add(telling)
                telling.add_done_callback(told.discard)

        def progress(stage: str, fraction: float | None = None) -> None:
            if ended.is_set():
                raise WorkerError(ErrorCode.REQUEST_CANCELLED, "The request was cancelled.")
            with contextlib.suppress(RuntimeError):  # the loop is closed already
                loop.call_soon_threadsafe(tell, stage, fraction)

        def work() -> bytes:
            folder = self._scratch.folder_of(next(self._numbers))
            folder.mkdir()
            try:
                context = self._held.context(progress, folder, self._scratch.path / "kept")
                value = self._held.sound(lambda held: compute(found, checked, held, context, columns=columns))
                return value if isinstance(value, bytes) else orjson.dumps(str(self._scratch.keep(folder, value)))
            finally:
                shutil.rmtree(folder, ignore_errors=True)

        try:
            # a cancelled caller returns at once; the thread stops at its next progress report
            return await loop.run_in_executor(self._lanes[found.lane], work)
        finally:
            ended.set()

    def close(self) -> None:
        for lane in self._lanes.values():
            lane.shutdown(wait=False, cancel_futures=True)
        del self._held


async def _awaited(value: Awaitable[None]) -> None:
    await value


class _Source:
    """The experiment and its cell sets for the server and the work loop; changes go to their holder."""

    def __init__(self, held: Held, experiment_id: ExperimentId) -> None:
        self._held = held
        self._lock = asyncio.Lock()
        self._seen, self._versions = held.cell_sets, itertools.count(1)
        self._now = next(self._versions)
        self._counting = threading.Lock()
        experiment = held.experiment
        path = held.source or Path("memory")
        facts = explorer_facts(experiment, held.cell_sets, experiment_id, path, "this notebook's experiment")
        self._served = Served(
            experiment.key,
            {"cells": experiment.n_cells, "genes": len(experiment.genes)},
            example_bodies(experiment, held.cell_sets),
            facts,
            lambda: barcodes_by_id(experiment),
            experiment,
        )

    def close(self) -> None:
        """Release the experiment: aiohttp caches handlers for the whole process, with everything that they refer to."""
        del self._held, self._served, self._seen

    async def served(self) -> Served:
        return self._served

    def health(self) -> dict[str, Any]:
        return {"status": "up"}

    async def read(self, experiment_id: ExperimentId) -> bytes:  # noqa: ARG002 - there is one experiment
        return await asyncio.to_thread(self._held.cell_sets.encode)

    async def patch(
        self,
        experiment_id: ExperimentId,  # noqa: ARG002
        operations: list[dict[str, Any]],
        authorization: str | None = None,  # noqa: ARG002
        *,
        claim: Claim | None = None,
    ) -> None:
        async with self._lock:
            if claim is not None and not await claim.take():
                raise NotHeldError
            await asyncio.to_thread(self._patch, operations, look=claim is not None)

    async def change(self, operations: list[dict[str, Any]], expected: str | None) -> str:
        async with self._lock:
            return await asyncio.to_thread(self._patch, operations, expected=expected)

    async def version(self) -> str:
        return self._version()

    def _version(self) -> str:
        # the notebook's own cells change them too: each change is another object
        with self._counting:
            if self._held.cell_sets is not self._seen:
                self._seen, self._now = self._held.cell_sets, next(self._versions)
            return str(self._now)

    def _patch(self, operations: list[dict[str, Any]], *, look: bool = False, expected: str | None = None) -> str:
        while True:
            before = self._held.cell_sets
            if expected is not None and expected != self._version():
                raise ChangedMeanwhileError
            content = before.encode()
            if look and applied(content, examine(operations).inserted):
                return self._version()
            made = CellSets.parse(readable(orjson.dumps(patched(orjson.loads(content), operations))))
            if self._held.cell_sets is before:  # else a cell of the notebook changed them meanwhile
                self._held.cell_sets = replace(before, classes=made.classes, extra=made.extra, wire=made.wire)
                return self._version()


class EmbeddedDoor:
    """Serves the explorer for one experiment from a thread of this process, on loopback.

    Parameters
    ----------
    held
        The experiment; the page's changes of cell sets are made in it.
    send
        Sends a message to a page that does not reach the port.

    Attributes
    ----------
    port
        Where it listens, on loopback.
    path
        The path of the page, which holds the secret: ``/SECRET/``.

    Raises
    ------
    OSError
        When no port is free.
    """

    def __init__(self, held: Held, send: Send) -> None:
        secret = secrets.token_urlsafe(_SECRET_BYTES)
        self.path = f"/{secret}/"
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._relay = Relay(self._loop, self.url, send)
        self._stop = asyncio.Event()
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(held, secret), name="cellworker-door", daemon=True)
        self._thread.start()
        self._ready.wait(_PATIENCE_S)
        if self._failure is not None:
            raise self._failure

    @property
    def url(self) -> str:
        """The address of the page, secret and all."""
        return f"http://127.0.0.1:{self.port}{self.path}"

    def receive(self, content: object) -> None:
        """Take a message of a page that does not reach the port; see `Relay.receive`."""
        self._relay.receive(content)

    def close(self) -> None:
        """Stop serving, and remove the stored results. May be called twice."""
        with contextlib.suppress(RuntimeError):  # the loop is closed already
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(_PATIENCE_S)

    def _run(self, held: Held, secret: str) -> None:
        with _closing(self._loop):
            try:
                self._loop.run_until_complete(self._serve(held, secret))
            except BaseException as error:  # noqa: BLE001 handed to the caller that started the thread
                self._failure = error
            finally:
                self._listening.close()
                self._ready.set()

    async def _serve(self, held: Held, secret: str) -> None:
        async with contextlib.AsyncExitStack() as stack:
            scratch = stack.enter_context(ScratchFolder())
            experiment_id = id_of(held.source) if held.source else ExperimentId("experiment")
            admission = Admission(below=f"/{secret}")
            connections, queue, sockets = Connections(), MemoryQueue(), SocketServer()
            notifications = SocketNotifications(sockets)
            results = DiskResults(scratch.path / "answers", f"{self.url}results/", MAX_RESULTS_BYTES)
            engine, source = _Engine(held, scratch), _Source(held, experiment_id)
            stack.callback(engine.close)
            stack.callback(source.close)
            work = WorkLoop(queue, Ports(engine, results, notifications, source, NoSync()), experiment_id, find)
            working = asyncio.create_task(work.run())
            stack.push_async_callback(_ended, working)
            door = LocalServer(
                experiment_id, source=source, results=results, cell_sets=source, sockets=sockets,
                notifications=notifications, submit=queue.submit, find_task=find,
                cancel=work.cancel, running=work.running, admission=admission, connections=connections,
                columns=ColumnAnswers(experiment_id, engine.columns, source, notifications),
            )  # fmt: skip
            outer = web.Application()
            outer.add_subapp(f"/{secret}", door.app())
            runner = GuardedRunner(outer, connections, shutdown_timeout=1.0)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            stack.push_async_callback(sockets.close)
            stack.push_async_callback(self._relay.close)
            await web.SockSite(runner, self._listening).start()
            self._ready.set()
            await self._stop.wait()


@contextlib.contextmanager
def _closing(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    try:
        yield
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


async def _ended(task: asyncio.Task[int]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
