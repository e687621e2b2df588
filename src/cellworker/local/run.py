"""The local run: engine, work loop and HTTP server in one process, with nothing else to install."""

import asyncio
import contextlib
import logging
import shlex
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path

from aiohttp import web

from cellworker.connections import Connections, GuardedRunner
from cellworker.engine.loading import ServedExperiment
from cellworker.errors import ErrorCode, WorkerError
from cellworker.gateway.core.answering import Ports
from cellworker.gateway.core.loop import WorkLoop
from cellworker.local.columns import ColumnAnswers
from cellworker.local.door.admission import Admission, warnings_of
from cellworker.local.door.socketio import SocketServer
from cellworker.local.engine import RunnerEngine
from cellworker.local.experiment import LocalExperiment, find_experiment
from cellworker.local.notifications import SocketNotifications
from cellworker.local.page.pages import NO_EXPLORER, has_explorer
from cellworker.local.queue import MemoryQueue
from cellworker.local.results import DiskResults
from cellworker.local.server import LocalServer, Served
from cellworker.local.sync import NoSync
from cellworker.logs import log
from cellworker.settings import Settings
from cellworker.tasks.catalog import find

__all__ = ["LocalRun", "run_local", "start_local"]

_SHUTDOWN_S = 5.0

_logger = logging.getLogger(__name__)


class LocalRun:
    """A local run that listens.

    Attributes
    ----------
    url
        Its address.
    link
        Returns the address of a path for people: with a name that the network knows, and the token where one is needed.
    experiment_id
        The experiment's id.
    """

    def __init__(
        self, url: str, experiment_id: str, source: LocalExperiment, link: Callable[[str], str] | None = None
    ) -> None:
        self.url = url
        self.link = link or (lambda path: f"{url}{path}".removesuffix("/"))
        self.experiment_id = experiment_id
        self._source = source

    async def ready(self) -> Served:
        """Wait until the experiment is open.

        Raises
        ------
        WorkerError
            Why it cannot be served.
        """
        return await self._source.served()


@contextlib.asynccontextmanager
async def start_local(experiment: str | Path | None, settings: Settings) -> AsyncIterator[LocalRun]:
    """Start everything and listen; leaving ends everything, and removes temporary files.

    Parameters
    ----------
    experiment
        A path, or an id under ``data_dir``; None as in `find_experiment`.
    settings
        All settings; port 0 takes a free one.

    Raises
    ------
    WorkerError
        ``EXPERIMENT_NOT_FOUND``, or ``INVALID_INPUT`` when the port is taken.
    """
    admission, connections = Admission.of(settings), Connections()
    place = await asyncio.to_thread(find_experiment, experiment, settings)
    listening = _listen(settings.host, settings.port)
    host, port = settings.host, listening.getsockname()[1]
    url = f"http://{_name(host)}:{port}"
    seen = f"http://{_name_in_network(host, settings.allowed_hosts)}:{port}"
    queue = MemoryQueue()
    sockets = SocketServer()
    notifications = SocketNotifications(sockets)
    results = await asyncio.to_thread(
        DiskResults, settings.data_dir / ".results", f"{url}/results/", int(settings.results_max_gb * 2**30)
    )
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(listening.close)
        served = await stack.enter_async_context(ServedExperiment(place.path, settings))
        source = LocalExperiment(served, place)
        stack.callback(source.close)
        engine = RunnerEngine(served, find)
        ports = Ports(engine, results, notifications, source, NoSync())
        work = WorkLoop(queue, ports, place.experiment_id, find)
        loop = asyncio.create_task(work.run())
        stack.push_async_callback(_end, loop)
        door = LocalServer(
            place.experiment_id,
            source=source,
            results=results,
            cell_sets=source,
            sockets=sockets,
            notifications=notifications,
            submit=queue.submit,
            find_task=find,
            columns=ColumnAnswers(place.experiment_id, engine.columns, source, notifications),
            cancel=work.cancel,
            running=work.running,
            admission=admission,
            connections=connections,
        )
        runner = GuardedRunner(door.app(), connections, shutdown_timeout=_SHUTDOWN_S)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        stack.push_async_callback(sockets.close)
        await web.SockSite(runner, listening).start()
        log(_logger, logging.INFO, "listening", url=url, experiment=place.experiment_id)
        yield LocalRun(url, place.experiment_id, source, partial(admission.address, seen))
        log(_logger, logging.INFO, "stopping")


async def run_local(
    experiment: str | Path | None,
    settings: Settings,
    *,
    say: Callable[[str], object] = print,
    show: Callable[[str], object] | None = None,
    stop: asyncio.Event | None = None,
) -> int:
    """Serve an experiment until SIGTERM, SIGINT, or `stop`.

    Parameters
    ----------
    experiment, settings
        As in `start_local`.
    say
        Called with lines for the user: the address and facts about the experiment.
    show
        Opens the page as soon as the worker listens; the page shows the progress of opening the file.
    stop
        Ends the run when set.

    Returns
    -------
    int
        The exit status, 0.

    Raises
    ------
    WorkerError
        When the experiment cannot be served.
    """
    stop = stop or asyncio.Event()
    with _signals(stop):
        async with start_local(experiment, settings) as run:
            say(f"cellworker listens on {run.url}, opening experiment {run.experiment_id!r} ...")
            for sentence in warnings_of(settings):
                say(f"warning: {sentence}")
            if run.link("/") != run.url:
                say(f"its address with the token: {run.link('/')}")
            if show is not None:
                show(run.link("/"))
            ready = asyncio.create_task(run.ready())
            stopped = asyncio.create_task(stop.wait())
            try:
                await asyncio.wait({ready, stopped}, return_when=asyncio.FIRST_COMPLETED)
                if ready.done():
                    _tell(say, run, ready.result())
                    await stopped
            finally:
                for task in (ready, stopped):
                    await _end(task)
    return 0


def _tell(say: Callable[[str], object], run: LocalRun, served: Served) -> None:
    facts = served.summary
    classes = ", ".join(f"{item['name']} ({item['sets']})" for item in facts["cellSets"]) or "none"
    say(f"{facts['cells']:,} cells x {facts['genes']:,} genes; reductions: {', '.join(facts['reductions']) or 'none'}")
    say(f"cell sets: {classes}")
    if facts["ownWork"] is not None:
        number, path = facts["ownWork"]["sets"], facts["ownWork"]["path"]
        say(f"among them {number} cell set{'s' * (number != 1)} of your own, kept in {path}")
        for sentence in facts["ownWork"]["notes"]:
            say(f"note: {sentence}")
    for sentence in facts["fallbacks"]:
        say(f"note: {sentence}")
    if "reductions pca" in facts["made"]:
        say(
            "These are counts as they came: with 'cellworker run --prepare' empty droplets, damaged cells and doublets "
            "are left out first, and a report shows how many."
        )
    body = (
        '{"body": {"name": "ListGenes", "orderBy": "dispersions", "orderDirection": "DESC", "offset": 0, "limit": 5}}'
    )
    if not has_explorer():
        say(f"note: {NO_EXPLORER}")
    question = run.link(f"/v2/workRequest/{run.experiment_id}")
    say(f"Open {run.link('/')} in a browser, or: curl {shlex.quote(question)} -d '{body}'")


async def _end(task: "asyncio.Task[object] | asyncio.Task[None]") -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError, WorkerError):
        await task


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.create_server(address[:2], family=family, backlog=128)
    except OSError as error:
        advice = "Stop what runs there, or choose another with PORT or --port."
        message = f"Port {port} of {host} cannot be listened on ({error.strerror or error}). {advice}"
        raise WorkerError(ErrorCode.INVALID_INPUT, message) from None
    return listening


def _name_in_network(host: str, allowed_hosts: str) -> str:
    """Return a name that other machines can use: the first in ALLOWED_HOSTS, else this machine's own address."""
    if host not in ("0.0.0.0", "::", ""):  # noqa: S104 - compared, not listened on
        return _name(host)
    first = allowed_hosts.partition(",")[0].strip()
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as way:
            way.connect(("192.0.2.1", 9))  # nothing is sent: the system tells which of its addresses it would use
            return first or str(way.getsockname()[0])
    except OSError:
        return first or "localhost"


def _name(host: str) -> str:
    """Return the host as a browser on this machine can use it."""
    if host in ("0.0.0.0", "::", ""):  # noqa: S104 - compared, not listened on
        return "localhost"
    return f"[{host}]" if ":" in host else host


@contextlib.contextmanager
def _signals(stop: asyncio.Event) -> Iterator[None]:
    """Set `stop` at the first signal; the second one ends the process the way it usually does."""
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGTERM, signal.SIGINT)

    def first() -> None:
        stop.set()
        for number in numbers:
            loop.remove_signal_handler(number)

    for number in numbers:
        loop.add_signal_handler(number, first)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
