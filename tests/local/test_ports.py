"""The embedded adapters keep the promises of the gateway's ports."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from cellworker.local.cell_sets_files import FileCellSets
from cellworker.local.notifications import SocketNotifications
from cellworker.local.queue import MemoryQueue
from port_suites.cell_sets import DOCUMENT, CellSetsTests
from port_suites.notifications import WITHIN_S, BusUnderTest, Events, NotificationsTests
from port_suites.queues import QueueTests, QueueUnderTest
from port_suites.results import ResultsTests, StoreUnderTest


class TestDiskResults(ResultsTests):
    @pytest.fixture
    def store(self, worker: Any) -> StoreUnderTest:
        async def tags(etag: str) -> dict[str, str]:
            found: dict[str, str] = worker.results.tags(etag)
            return found

        async def fetch(url: str) -> bytes:
            status, content, _ = await worker.get(url)
            assert status == 200
            return bytes(content)

        return StoreUnderTest(worker.results, tags, fetch)


class TestMemoryQueue(QueueTests):
    @pytest.fixture
    def line(self) -> QueueUnderTest:
        queue = MemoryQueue()

        async def send(body: str) -> None:
            queue.submit(body.encode())

        return QueueUnderTest(queue, send, queue.close)


class TestFileCellSets(CellSetsTests):
    """Where the file beside the experiment is changed."""

    keep_original = False

    @pytest.fixture
    def cell_sets(self, tmp_path: Path, own_work: Any) -> FileCellSets:
        path = tmp_path / "cell_sets.json"
        path.write_text(json.dumps(DOCUMENT))
        return FileCellSets(path, own_work(tmp_path, DOCUMENT), keep_original=self.keep_original)


class TestOwnCellSets(TestFileCellSets):
    """Where the file stays as it is, and a person's own work is kept apart."""

    keep_original = True


class TestSocketNotifications(NotificationsTests):
    @pytest.fixture
    async def bus_under_test(self, worker: Any) -> AsyncIterator[BusUnderTest]:
        def listener(client: Any) -> Callable[[int], Awaitable[Events]]:
            async def heard(number: int) -> Events:
                async with asyncio.timeout(WITHIN_S):
                    while len(client.seen) < number:
                        await client.until("")
                seen: Events = client.seen
                return seen

            return heard

        async with AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(worker.events(version)) for version in (3, 4)]
            first, second = map(listener, clients)
            yield BusUnderTest(SocketNotifications(worker.sockets), (first, second))
