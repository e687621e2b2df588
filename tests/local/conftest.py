"""A local worker over real sockets, with an engine in memory, and clients that speak both protocols by hand."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import aiohttp
import numpy as np
import pytest
from aiohttp import web

from cellworker.connections import Connections, GuardedRunner
from cellworker.experiment.cell_sets import CellSets
from cellworker.formats.opening.own_work import OwnWorkFile
from cellworker.gateway.core.answering import Ports
from cellworker.gateway.core.loop import WorkLoop
from cellworker.local.cell_sets_files import FileCellSets
from cellworker.local.door.admission import Admission
from cellworker.local.door.socketio import SocketServer
from cellworker.local.notifications import SocketNotifications
from cellworker.local.queue import MemoryQueue
from cellworker.local.results import DiskResults
from cellworker.local.server import LocalServer, Served
from cellworker.local.sync import NoSync
from cellworker.tasks.catalog import find

WAIT_S = 60

CELL_SETS = {
    "cellSets": [
        {
            "key": "louvain",
            "name": "louvain clusters",
            "rootNode": True,
            "type": "cellSets",
            "children": [{"key": "louvain-0", "name": "Cluster 0", "color": "#77aadd", "cellIds": [0, 4]}],
        },
        {"key": "scratchpad", "name": "Custom cell sets", "rootNode": True, "type": "cellSets", "children": []},
    ]
}


def own_work_file(folder: Path, document: Any = CELL_SETS) -> OwnWorkFile:
    """Where a person's own work on an experiment of five cells is kept."""
    base = CellSets.parse(json.dumps(document).encode())
    return OwnWorkFile(folder / "r.rds", "content-key", base, np.arange(5, dtype=np.int32), lambda: list("abcde"))


@dataclass
class Engine:
    """Answers every task with `value`."""

    value: Any = field(default_factory=lambda: {"orderedGeneNames": ["LYZ"], "values": [1.5, None]})
    error: BaseException | None = None
    hold: asyncio.Event | None = None
    computed: list[str] = field(default_factory=list)

    async def compute(
        self,
        task: str,
        request: bytes,
        on_progress: Callable[[str, float | None], Awaitable[None]] | None = None,
    ) -> bytes:
        self.computed.append(task)
        if self.hold:
            await self.hold.wait()
        if self.error:
            raise self.error
        return json.dumps(self.value).encode()


@dataclass
class Source:
    """An experiment that is open at once, or when a test says so."""

    key: str = "content-key"
    opening: asyncio.Event | None = None

    async def served(self) -> Served:
        if self.opening:
            await self.opening.wait()
        return Served(self.key, {"cells": 5, "genes": 3}, {"ListGenes": {"name": "ListGenes"}})

    def health(self) -> dict[str, Any]:
        return {"status": "up"} if self.opening is None or self.opening.is_set() else {"status": "loading"}


class Worker:
    """A local worker and a client session."""

    def __init__(self, folder: Path, session: aiohttp.ClientSession) -> None:
        self.folder = folder
        self.session = session
        self.engine = Engine()
        self.source = Source()
        self.admission = Admission()
        self.connections = Connections(headers_s=1.0, max_waiting=20)
        self.sockets = SocketServer()
        self.results = DiskResults(folder / ".results")
        (folder / "cell_sets.json").write_text(json.dumps(CELL_SETS))
        self.cell_sets = FileCellSets(folder / "cell_sets.json", own_work_file(folder, CELL_SETS))
        self.url = ""
        self.port = 0

    async def post(self, body: Any, expect: int = 200, headers: dict[str, str] | None = None, **more: Any) -> Any:
        """Post a work request; returns ``data``, or the whole answer where an error is expected."""
        address = f"{self.url}/v2/workRequest/{more.pop('experiment', 'x1')}"
        async with self.session.post(address, json={"body": body, **more}, headers=headers) as response:
            answer = await response.json()
            assert response.status == expect, answer
            return answer["data"] if expect == 200 else answer

    async def get(self, path: str, **options: Any) -> tuple[int, bytes, Any]:
        async with self.session.get(f"{self.url}{path}", **options) as response:
            return response.status, await response.read(), response.headers

    def events(self, version: int = 4) -> "EventsContext":
        return EventsContext(self, version)


class EventsContext:
    """A websocket client that collects events."""

    def __init__(self, worker: Worker, version: int) -> None:
        self._worker = worker
        self._version = version
        self.seen: list[tuple[str, Any]] = []

    async def __aenter__(self) -> Self:
        address = f"{self._worker.url}/socket.io/?EIO={self._version}&transport=websocket"
        self.socket = await self._worker.session.ws_connect(address)
        assert (await self.socket.receive_str()).startswith("0{")
        if self._version == 4:
            await self.socket.send_str("40")
        assert (await self.socket.receive_str()).startswith("40")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.socket.close()

    async def until(self, prefix: str) -> Any:
        """Return the payload of the next event whose name begins so."""
        async with asyncio.timeout(WAIT_S):
            while True:
                packet = await self.socket.receive_str()
                if packet.startswith("42"):
                    name, payload = json.loads(packet[2:])
                    self.seen.append((name, payload))
                    if name.startswith(prefix):
                        return payload

    @property
    def story(self) -> list[str]:
        return [item["status_code"] if name.startswith("Heart") else name.split("-")[0] for name, item in self.seen]


@asynccontextmanager
async def running(worker: Worker) -> AsyncIterator[Worker]:
    async with AsyncExitStack() as stack:
        notifications = SocketNotifications(worker.sockets, grace_s=0.01)
        queue = MemoryQueue()
        work = WorkLoop(
            queue, Ports(worker.engine, worker.results, notifications, worker.cell_sets, NoSync()), "x1", find
        )
        door = LocalServer(
            "x1",
            source=worker.source,
            results=worker.results,
            cell_sets=worker.cell_sets,
            sockets=worker.sockets,
            notifications=notifications,
            submit=queue.submit,
            find_task=find,
            cancel=work.cancel,
            running=work.running,
            admission=worker.admission,
            connections=worker.connections,
        )
        loop = asyncio.create_task(work.run())
        runner = GuardedRunner(door.app(), worker.connections)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        stack.push_async_callback(worker.sockets.close)
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        worker.port = runner.addresses[0][1]
        worker.url = f"http://127.0.0.1:{worker.port}"
        yield worker
        queue.close()
        await loop


class Listener:
    """Keeps what a run says, and asks it to stop once it has said how to reach it."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.stop = asyncio.Event()

    def __call__(self, line: str) -> None:
        self.said.append(line)
        if "curl" in line:
            self.stop.set()


@pytest.fixture
def listener() -> Listener:
    return Listener()


@pytest.fixture
def own_work() -> Callable[..., OwnWorkFile]:
    """Makes a place for a person's own work."""
    return own_work_file


@pytest.fixture
async def worker(tmp_path: Path) -> AsyncIterator[Worker]:
    async with aiohttp.ClientSession() as session, running(Worker(tmp_path, session)) as started:
        yield started
