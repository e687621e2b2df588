"""A gateway in memory: tasks that do what a test wants, and a world that writes down what happens to it."""

import asyncio
import base64
import gc
import json
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from cellworker.errors import ErrorCode, WorkerError
from cellworker.gateway.core.answering import Ports
from cellworker.gateway.core.loop import WorkLoop
from cellworker.gateway.core.ports import Claim, Delivery, NotHeldError
from cellworker.protocol.encoding import decompress
from cellworker.tasks.task import EarlierResult, PrepareInput, Task

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
    earlier = [] if given.earlier is None else [given.earlier.decode()]
    return Asked(given.body.genes + earlier, [item.key for item in given.cell_sets.classes])


def compute(*_: object) -> object:
    raise AssertionError("the engine of these tests computes")


def inserting(made: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"$match": {"query": "$", "value": {"children": [{"$insert": {"index": "-", "value": made}}]}}}]


def task(name: str, **more: Any) -> Task:
    return Task(
        name=name,
        path=name,
        about="a task of these tests",
        body=Body,
        request=Asked,
        prepare=prepare,
        compute=compute,
        **more,
    )


TASKS = {
    item.name: item
    for item in (
        task("ListGenes"),
        task("MarkerHeatmap", needs_cell_sets=True),
        task("GeneExpression", finish=lambda data: b'{"finished":' + data + b"}"),
        task("GetNormalizedExpression", file_name=lambda file: file.name),
        task(
            "ClusterCells",
            cacheable=False,
            patch=lambda data: [{"$append": {"key": "new", "made": json.loads(data)}}],
        ),
        task("Slow", lane="long"),
        task("BuildsOnAnother", earlier=lambda body: EarlierResult(body.genes[0], "body.genes", ({"name": "Other"},))),
        task("Inserts", cacheable=False, patch=lambda data: inserting({"key": str(uuid4()), "made": json.loads(data)})),
    )
}


def find(name: str) -> Task:
    if name not in TASKS:
        raise WorkerError(ErrorCode.INVALID_INPUT, f"body.name: {name!r} is not a task.")
    return TASKS[name]


@dataclass
class MemoryJournal:
    """A journal that writes down what happens to it; what was left in it lies in `left`."""

    open: dict[str, bytes] = field(default_factory=dict)
    left: list[tuple[bytes, int]] = field(default_factory=list)
    released: list[str] = field(default_factory=list)
    buried: list[str] = field(default_factory=list)
    written: int = 0
    error: Exception | None = None
    sent: dict[str, datetime] = field(default_factory=dict)
    held: bool = True

    def leave(self, message: bytes, attempt: int) -> None:
        self.left.append((message, attempt))

    async def write(self, delivery: Delivery) -> Delivery:
        if self.error:
            raise self.error
        self.written += 1
        return self._entry(delivery.body, delivery.attempt)

    async def orphans(self) -> list[Delivery]:
        taken = [self._entry(message, attempt) for message, attempt in self.left]
        self.left.clear()
        return taken

    async def sent_at(self, message_id: str) -> datetime | None:
        return self.sent.get(message_id)

    async def bury(self, delivery: Delivery, reason: str) -> None:
        self.buried.append(json.loads(delivery.body)["ETag"])

    def _entry(self, message: bytes, attempt: int) -> Delivery:
        etag = json.loads(message)["ETag"]
        self.open[etag] = message

        async def done() -> None:
            del self.open[etag]

        async def release() -> None:
            self.released.append(etag)

        async def claim() -> bool:
            return self.held

        return Delivery(message, attempt, done, release, f"id of {etag}", claim=claim)


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
    get_errors: list[Exception] = field(default_factory=list)
    emit_errors: dict[str, list[Exception]] = field(default_factory=dict)
    patch_error: Exception | None = None
    slow_uploads: dict[str, asyncio.Event] = field(default_factory=dict)
    sync_stages: list[Any] = field(default_factory=list)
    sync_error: Exception | None = None
    progress: list[tuple[str, float | None]] = field(default_factory=list)
    again: list[bool] = field(default_factory=list)
    capacity: int = 0
    journal: MemoryJournal = field(default_factory=MemoryJournal)
    messages: asyncio.Queue[tuple[bytes, int, str] | None] = field(default_factory=asyncio.Queue)

    def offer(self, capacity: int) -> None:
        self.capacity = capacity

    async def deliveries(self) -> AsyncIterator[Delivery]:
        while (item := await self.messages.get()) is not None:
            yield self.delivery(*item)

    def delivery(self, message: bytes, attempt: int, message_id: str) -> Delivery:
        async def done() -> None:
            self.done.append(message)

        async def release() -> None:
            self.released.append(message)
            self.messages.put_nowait((message, attempt + 1, message_id))

        return Delivery(message, attempt, done, release, message_id)

    async def exists(self, etag: str) -> bool:
        return etag in self.stored

    async def get(self, etag: str) -> bytes | None:
        if self.get_errors:
            raise self.get_errors.pop(0)
        found = self.stored.get(etag)
        return None if found is None else found[0]

    async def put(self, etag: str, content: bytes | Path, tags: Mapping[str, str]) -> None:
        if self.put_errors:
            raise self.put_errors.pop(0)
        if etag in self.slow_uploads:
            await self.slow_uploads[etag].wait()
        self.stored[etag] = (content if isinstance(content, bytes) else _bytes_of(content), tags)

    async def url(self, etag: str) -> str:
        return f"memory:{etag}"

    def post(self, event: str, payload: Any, told: Callable[[bool], None]) -> None:
        errors = next((errors for prefix, errors in self.emit_errors.items() if event.startswith(prefix)), None)
        if errors:
            errors.pop(0)
            told(False)
            return
        self.events.append((event, json.loads(json.dumps(payload))))
        told(True)

    async def emit(self, event: str, payload: Any) -> None:
        errors = next((errors for prefix, errors in self.emit_errors.items() if event.startswith(prefix)), None)
        if errors:
            raise errors.pop(0)
        self.events.append((event, json.loads(json.dumps(payload))))

    async def read(self, experiment_id: str) -> bytes:
        return json.dumps({"cellSets": [{"key": experiment_id, "name": "n", "children": []}]}).encode()

    async def sync(self, on_stage: Callable[[Any], Awaitable[None]]) -> None:
        for stage in self.sync_stages:
            await on_stage(stage)
        if self.sync_error:
            raise self.sync_error

    async def patch(
        self,
        experiment_id: str,
        operations: list[dict[str, Any]],
        authorization: str | None,
        *,
        claim: Claim | None = None,
    ) -> None:
        if self.patch_error:
            raise self.patch_error
        assert claim is not None
        self.again.append(await claim.earlier() is not None)
        if not await claim.take():
            raise NotHeldError
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

    def send(self, etag: str = "e1", attempt: int = 1, message_id: str = "", **changes: Any) -> bytes:
        return self.send_text(self.envelope(etag, **changes), attempt, message_id)

    def envelope(self, etag: str, **changes: Any) -> bytes:
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
        return json.dumps(envelope).encode()

    def send_text(self, message: bytes, attempt: int = 1, message_id: str = "") -> bytes:
        self.messages.put_nowait((message, attempt, message_id))
        return message

    def close(self) -> None:
        """End the queue."""
        self.messages.put_nowait(None)

    def inserted(self, operations: list[dict[str, Any]]) -> dict[str, Any]:
        """The set that operations insert."""
        made: dict[str, Any] = operations[0]["$match"]["value"]["children"][0]["$insert"]["value"]
        return made

    def loop(self, **options: Any) -> WorkLoop:
        ports = Ports(engine=self, results=self, notifications=self, cell_sets=self, files=self)
        return WorkLoop(self, ports, "served", find, now=lambda: NOW, **options)

    async def work(self, **options: Any) -> None:
        """Answer all that was sent."""
        self.messages.put_nowait(None)
        async with asyncio.timeout(120):
            await self.loop(**options).run()

    async def work_until_done(self, **options: Any) -> None:
        """Answer what was sent and what came back to the queue, until a message is removed."""
        await self.work_until(lambda: self.done, **options)

    async def work_until(self, holds: Callable[[], object], **options: Any) -> None:
        """Answer what was sent and what came back to the queue, until something holds."""
        running = asyncio.create_task(self.loop(**options).run())
        await until(holds)
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
    async with asyncio.timeout(120):
        while not holds():
            await asyncio.sleep(0)


def _bytes_of(file: Path) -> bytes:
    return file.read_bytes()


CUTTING = frozenset({"test_s3", "test_s3_direct", "test_s3_folder", "test_sqs", "test_aws"})


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    """Collect connections that a test has cut with bytes still to be sent.

    Their transports wait for a server that no longer reads, and outlive the event loop of the test. Python would warn
    of them whenever it happens to collect them, in whatever test that is.
    """
    yield
    if item.path.stem in CUTTING:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()


@pytest.fixture
def world() -> World:
    return World()
