"""The engine as a whole: the experiment, the HTTP server, and an orderly end."""

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from aiohttp import web

from cellworker.connections import Connections, GuardedRunner
from cellworker.engine.loading import ServedExperiment
from cellworker.engine.placement import AssignedExperiment
from cellworker.engine.server import make_app
from cellworker.engine.workers.worker import load_object
from cellworker.logs import log
from cellworker.settings import Settings

__all__ = ["serve"]

_GRACE_S = 25.0
"""Seconds that requests may take to finish after the first signal: less than the 30 that Kubernetes gives."""
_SHUTDOWN_POLL_S = 0.5
_MAX_CONNECTIONS = 4096
"""The gateway has one for each request that it waits for, and one more for its progress."""
_IDLE_S = 3600.0
"""The gateway keeps its connections, and closes them itself."""
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})

_logger = logging.getLogger(__name__)


async def serve(
    path: Path | Callable[[], Path | None],
    settings: Settings,
    *,
    port: int | None = None,
    listener: socket.socket | None = None,
    on_listening: Callable[[int], object] | None = None,
    on_ready: Callable[[], object] | None = None,
    grace_s: float = _GRACE_S,
    tasks: str = "cellworker.tasks.catalog:BY_PATH",
    **options: Any,  # noqa: ANN401 handed on to ServedExperiment
) -> int:
    """Serve an experiment over HTTP until SIGTERM or SIGINT.

    The server listens at once and answers 409 until the experiment is read. At the first signal it accepts no more
    requests and finishes those under way; at the second, or after `grace_s` seconds, it ends at once. The setting
    `shutdown_file` names a file whose appearance counts as a first signal; one that is there from before does not.

    Parameters
    ----------
    path
        A folder that holds an experiment, or a file; or a function that returns the folder, None while it is unknown,
        and is called repeatedly.
    settings
        All settings; `host` is the address.
    port
        The port instead of the settings' one; 0 takes a free one.
    listener
        A socket that listens already, instead of host and port; it is closed at the end.
    on_listening
        Called with the port.
    on_ready
        Called when the experiment is first served.
    grace_s
        See above.
    tasks
        ``module:attribute`` of the tasks by engine path.
    options
        More for `ServedExperiment`.

    Returns
    -------
    int
        The exit status: 0 after an orderly end, 1 when requests were cut off.

    Raises
    ------
    OSError
        If the port cannot be listened on.
    """
    async with contextlib.AsyncExitStack() as stack:
        signals = stack.enter_context(_signals())
        stack.enter_context(_appearance(settings.shutdown_file, signals))
        served = _served(path, settings, tasks=tasks, **options)
        stack.push_async_exit(await served.__aenter__())
        app = make_app(served, load_object(tasks), loopback_only=settings.host in _LOOPBACK)
        runner = GuardedRunner(
            app,
            Connections(max_open=_MAX_CONNECTIONS),
            idle_s=_IDLE_S,
            handler_cancellation=True,
            shutdown_timeout=grace_s,
        )
        await runner.setup()
        try:
            site = _site(runner, listener, settings.host, settings.port if port is None else port)
            await site.start()
            listening = runner.addresses[0][1]
            log(_logger, logging.INFO, "listening", host=settings.host, port=listening)
            if on_listening:
                on_listening(listening)
            await _until_signal(served, signals, on_ready)
            log(_logger, logging.INFO, "stopping", grace_s=grace_s)
        finally:
            orderly = await _stop(runner, signals, grace_s)
    log(_logger, logging.INFO, "stopped", orderly=orderly)
    return 0 if orderly else 1


def _served(
    path: Path | Callable[[], Path | None],
    settings: Settings,
    **options: Any,  # noqa: ANN401
) -> ServedExperiment | AssignedExperiment:
    if isinstance(path, Path):
        return ServedExperiment(path, settings, **options)
    return AssignedExperiment(path, lambda folder: ServedExperiment(folder, settings, **options))


def _site(runner: web.AppRunner, listener: socket.socket | None, host: str, port: int) -> web.BaseSite:
    return web.SockSite(runner, listener) if listener else web.TCPSite(runner, host, port)


async def _until_signal(
    served: ServedExperiment | AssignedExperiment, signals: asyncio.Queue[int], on_ready: Callable[[], object] | None
) -> None:
    async def tell() -> None:
        await served.first_served()
        if on_ready:
            on_ready()

    teller = asyncio.create_task(tell())
    try:
        await signals.get()
    finally:
        teller.cancel()


async def _stop(runner: web.AppRunner, signals: asyncio.Queue[int], grace_s: float) -> bool:
    """Finish requests under way; return whether all did, within `grace_s` seconds and without a second signal."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    cleanup = asyncio.create_task(runner.cleanup())
    second = asyncio.create_task(signals.get())
    await asyncio.wait({cleanup, second}, return_when=asyncio.FIRST_COMPLETED)
    orderly = cleanup.done() and loop.time() - started < grace_s
    for task in (second, cleanup):
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    return orderly


@contextlib.contextmanager
def _appearance(file: str, signals: asyncio.Queue[int]) -> Iterator[None]:
    """Put a signal into the queue when a file is made, or made again (contract 9.44: an old one does not count)."""
    before = _signature(file)

    async def watch() -> None:
        while _signature(file) in (before, None):  # noqa: ASYNC110 - a file has no event
            await asyncio.sleep(_SHUTDOWN_POLL_S)
        log(_logger, logging.INFO, "shutdown file appeared", path=file)
        signals.put_nowait(signal.SIGTERM)

    watcher = asyncio.create_task(watch()) if file else None
    try:
        yield
    finally:
        if watcher:
            watcher.cancel()


def _signature(file: str) -> tuple[int, int] | None:
    try:
        status = Path(file).stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino


@contextlib.contextmanager
def _signals() -> Iterator[asyncio.Queue[int]]:
    """Collect SIGTERM and SIGINT in a queue."""
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[int] = asyncio.Queue()
    numbers = (signal.SIGTERM, signal.SIGINT)
    for number in numbers:
        loop.add_signal_handler(number, queue.put_nowait, number)
    try:
        yield queue
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
