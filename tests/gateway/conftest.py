"""A gateway in memory: tasks that do what a test wants, and a world that writes down what happens to it."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cellworker.errors import ErrorCode, WorkerError
from cellworker.gateway.answering import Ports
from cellworker.gateway.loop import WorkLoop
from cellworker.gateway.ports import Delivery
from cellworker.protocol.encoding import decompress
from cellworker.tasks.task import PrepareInput, Task

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
TOKEN = "Bearer hidden-token-of-a-user"


class Body(msgspec.Struct):
    genes: list[str] = []


class Asked(msgspec.Struct):
    genes: list[str]
    classes: list[str]


def prepare(given: PrepareInput) -> Asked:
    if given.body.genes == ["prepare-bug"]:
        raise ZeroDivisionError(TOKEN)
    return Asked(given.body.genes, [item.key for item in given.cell_sets.classes])


def compute(*_: object) -> object:
    raise AssertionError("the engine of these tests computes")


def task(name: str, **more: Any) -> Task:
    return Task(name=name, path=name, body=Body, request=Asked, prepare=prepare, compute=compute, **more)


TASKS = {
    item.name: item
    for item in (
        task("ListGenes"),
        task("MarkerHeatmap", needs_cell_sets=True),
        task("GeneExpression", finish=lambda data: b'{"finished":' + data + b"}"),
        task("GetNormalizedExpression", file_result=True),
        task(
            "ClusterCells",
            cacheable=False,
            patch=lambda data: [{"$append": {"key": "new", "made": json.loads(data)}}],
        ),
    )
}


def find(name: str) -> Task:
    if name not in TASKS:
        raise WorkerError(ErrorCode.INVALID_INPUT, f"body.name: {name!r} is not a task.")
    return TASKS[name]


@dataclass
class World:
    """Queue, results, notifications, cell sets and engine, all in one."""

    value: Any = field(default_factory=lambda: {"answer": 42})
    computed: list[tuple[str, Any]] = field(default_factory=list)
    events: list[tuple[str, Any]] = field(default_factory=list)
    stored: dict[str, tuple[bytes | Path, Mapping[str, str]]] = field(default_factory=dict)
    patches: list[tuple[str, list[dict[str, Any]], str | None]] = field(default_factory=list)
    done: list[bytes] = field(default_factory=list)
    released: list[bytes] = field(default_factory=list)
    hold: asyncio.Event | None = None
    began: asyncio.Event = field(default_factory=asyncio.Event)
    engine_error: BaseException | None = None
    put_errors: list[Exception] = field(default_factory=list)
    emit_errors: dict[str, list[Exception]] = field(default_factory=dict)
    patch_error: Exception | None = None
    progress: list[tuple[str, float | None]] = field(default_factory=list)
    messages: asyncio.Queue[tuple[bytes, int] | None] = field(default_factory=asyncio.Queue)

    async def deliveries(self) -> AsyncIterator[Delivery]:
        while (item := await self.messages.get()) is not None:
            yield self.delivery(*item)

    def delivery(self, message: bytes, attempt: int) -> Delivery:
        async def done() -> None:
            self.done.append(message)

        async def release() -> None:
            self.released.append(message)
            self.messages.put_nowait((message, attempt + 1))

        return Delivery(message, attempt, done, release)

    async def exists(self, etag: str) -> bool:
        return etag in self.stored

    async def put(self, etag: str, content: bytes | Path, tags: Mapping[str, str]) -> None:
        if self.put_errors:
            raise self.put_errors.pop(0)
        self.stored[etag] = (content if isinstance(content, bytes) else _bytes_of(content), tags)

    async def url(self, etag: str) -> str:
        return f"memory:{etag}"

    async def emit(self, event: str, payload: Any) -> None:
        errors = next((errors for prefix, errors in self.emit_errors.items() if event.startswith(prefix)), None)
        if errors:
            raise errors.pop(0)
        self.events.append((event, json.loads(json.dumps(payload))))

    async def read(self, experiment_id: str) -> bytes:
        return json.dumps({"cellSets": [{"key": experiment_id, "name": "n", "children": []}]}).encode()

    async def patch(self, experiment_id: str, operations: list[dict[str, Any]], authorization: str | None) -> None:
        if self.patch_error:
            raise self.patch_error
        self.patches.append((experiment_id, operations, authorization))

    async def compute(
        self,
        task: str,
        request: bytes,
        on_progress: Callable[[str, float | None], Awaitable[None]] | None = None,
    ) -> bytes:
        self.computed.append((task, json.loads(request)))
        for step in self.progress:
            assert on_progress
            await on_progress(*step)
        self.began.set()
        if self.hold:
            await self.hold.wait()
        if self.engine_error:
            raise self.engine_error
        return json.dumps(self.value).encode()

    def send(self, etag: str = "e1", attempt: int = 1, **changes: Any) -> bytes:
        envelope = {
            "signedUrl": f"https://results.example/{etag}",
            "ETag": etag,
            "Authorization": TOKEN,
            "experimentId": "x1",
            "timeout": "2026-11-22T13:00:00Z",
            "body": {"name": "ListGenes"},
            "requestProps": {"broadcast": False},
            **changes,
        }
        return self.send_text(json.dumps(envelope).encode(), attempt)

    def send_text(self, message: bytes, attempt: int = 1) -> bytes:
        self.messages.put_nowait((message, attempt))
        return message

    def loop(self, **options: Any) -> WorkLoop:
        ports = Ports(engine=self, results=self, notifications=self, cell_sets=self)
        return WorkLoop(self, ports, "served", find, now=lambda: NOW, **options)

    async def work(self, **options: Any) -> None:
        """Answer all that was sent."""
        self.messages.put_nowait(None)
        async with asyncio.timeout(10):
            await self.loop(**options).run()

    async def work_until_done(self, **options: Any) -> None:
        """Answer what was sent and what came back to the queue, until a message is removed."""
        running = asyncio.create_task(self.loop(**options).run())
        await until(lambda: self.done)
        self.messages.put_nowait(None)
        await running

    async def until(self, holds: Callable[[], object]) -> None:
        await until(holds)

    @property
    def story(self) -> list[str]:
        """What happened, one word an event: the status of a heartbeat, else the event's name."""
        return [
            payload["status_code"] if name.startswith("Heartbeat") else name.split("-")[0]
            for name, payload in self.events
        ]

    def answers(self, etag: str = "e1") -> list[Any]:
        return [payload for name, payload in self.events if name == f"WorkResponse-{etag}"]

    def answer(self, etag: str = "e1") -> Any:
        (found,) = self.answers(etag)
        return json.loads(decompress(base64.b64decode(found))) if isinstance(found, str) else found


async def until(holds: Callable[[], object]) -> None:
    """Let everything else run until something holds."""
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110 - the code under test has no event for each thing that a test waits for
            await asyncio.sleep(0)


def _bytes_of(file: Path) -> bytes:
    return file.read_bytes()


@pytest.fixture
def world() -> World:
    return World()
