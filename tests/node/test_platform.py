"""From the gateway's bus to browsers, through the platform's own Redis adapter and Socket.IO server."""

import asyncio
import contextlib
import json
import random
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cellworker.errors import ErrorCode, WorkerError
from cellworker.gateway.platform.redis_bus import RedisBus
from cellworker.protocol import events
from cellworker.protocol.encoding import compress, inline
from cellworker.protocol.envelope import WorkRequest
from cellworker.protocol.events import Status

TESTS = str(Path(__file__).parent.parent)
if TESTS not in sys.path:
    sys.path.insert(0, TESTS)

from cloud.servers import Redis, start_redis  # noqa: E402

pytestmark = pytest.mark.node

HERE = Path(__file__).parent
WAIT_S = 60.0
BROWSERS = [
    {"generation": 2, "transports": ["websocket"]},
    {"generation": 2, "transports": ["polling"]},
    {"generation": 2, "transports": ["polling", "websocket"]},
    {"generation": 4, "transports": ["websocket"]},
]
INLINE_BYTES = 250_000


class Platform:
    """What the browsers hear."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._heard: list[dict[str, Any]] = []

    async def say(self, value: Any) -> None:
        assert self._process.stdin
        self._process.stdin.write(json.dumps(value).encode() + b"\n")
        await self._process.stdin.drain()

    async def hear(self) -> dict[str, Any]:
        assert self._process.stdout
        async with asyncio.timeout(WAIT_S):
            line = await self._process.stdout.readline()
        if not line:
            assert self._process.stderr
            pytest.fail((await self._process.stderr.read()).decode())
        said: dict[str, Any] = json.loads(line)
        return said

    async def listen(self, *names: str) -> None:
        for name in names:
            await self.say(name)
            assert await self.hear() == {"listening": name}

    async def heard(self, count: int) -> list[list[dict[str, Any]]]:
        """The next events of each browser, `count` each."""
        found: list[list[dict[str, Any]]] = [[] for _ in BROWSERS]
        for _ in range(count * len(BROWSERS)):
            said = await self.hear()
            found[said.pop("browser")].append(said)
        return found


@contextlib.asynccontextmanager
async def start_platform(node: list[str], server: Redis) -> AsyncIterator[Platform]:
    process = await asyncio.create_subprocess_exec(
        *node,
        str(HERE / "platform.mjs"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        limit=16 * 2**20,
    )
    try:
        platform = Platform(process)
        await platform.say({"redisUrl": server.url, "browsers": BROWSERS})
        assert (await platform.hear())["ready"]
        yield platform
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.fixture
async def platform(node: list[str]) -> AsyncIterator[tuple[Platform, RedisBus]]:
    with start_redis() as server:
        async with start_platform(node, server) as platform, RedisBus(server.url) as bus:
            await bus.emit("ready", None, deadline=WAIT_S)
            yield platform, bus


def request(**changes: Any) -> WorkRequest:
    envelope = {
        "signedUrl": "https://results.example/abc?X-Amz-Signature=e861",
        "ETag": "abc",
        "Authorization": "Bearer hidden-token-of-a-user",
        "experimentId": "x1",
        "timeout": "2026-11-22T13:00:00Z",
        "body": {"name": "GeneExpression", "genes": ["NÆSP"], "limits": [0.5, -7, 2**40, 1e300, True, None, {}]},
        "requestProps": {"broadcast": True, "cacheUniquenessKey": 0.25},
        **changes,
    }
    return WorkRequest.from_object(envelope)


async def test_every_browser_hears_heartbeats_notices_and_progress_as_objects_in_order(
    platform: tuple[Platform, RedisBus],
) -> None:
    browsers, bus = platform
    done, failed = request(), request(ETag="def")
    error = WorkerError(ErrorCode.INVALID_INPUT, "Das Gen „NÆSP“ gibt es nicht: 基因 🧬")
    sent: list[tuple[str, Any]] = [
        ("Heartbeat-x1", events.heartbeat(Status.STARTED, "GeneExpression")),
        ("Heartbeat-x1", events.progress_heartbeat("GeneExpression", "Saving", 0.5)),
        ("Heartbeat-x1", events.progress_heartbeat("GeneExpression", "Saving", None)),
        ("ExperimentUpdates-x1", events.success_notice(done, cacheable=False)),
        ("Heartbeat-x1", events.heartbeat(Status.FINISHED, "GeneExpression")),
        ("WorkResponse-abc", events.success_notice(done, cacheable=True)),
        ("WorkResponse-def", events.error_notice(failed, error)),
    ]
    await browsers.listen("Heartbeat-x1", "ExperimentUpdates-x1", "WorkResponse-abc", "WorkResponse-def")
    for event, payload in sent:
        await bus.emit(event, payload)
    for heard in await browsers.heard(len(sent)):
        assert heard == [{"event": event, "kind": "object", "payload": payload} for event, payload in sent]
        assert list(heard[0]["payload"]) == ["type", "status_code", "user_message"]


@pytest.mark.parametrize(
    "value",
    [
        {"orderedGeneNames": ["NÆSP", "基因", "🧬", "ÅÄÖ\u2028"], "rawExpression": {"values": [[1.5, None], [2e-7]]}},
        {},
    ],
    ids=["text of the world", "nearly nothing"],
)
async def test_every_browser_reads_an_inline_result(platform: tuple[Platform, RedisBus], value: Any) -> None:
    browsers, bus = platform
    await browsers.listen("WorkResponse-abc")
    await bus.emit("WorkResponse-abc", inline(compress(json.dumps(value, ensure_ascii=False).encode())))
    for heard in await browsers.heard(1):
        assert heard == [{"event": "WorkResponse-abc", "kind": "string", "payload": value}]


async def test_every_browser_reads_the_largest_inline_result(platform: tuple[Platform, RedisBus]) -> None:
    browsers, bus = platform
    value = _random_value(INLINE_BYTES)
    text = inline(compress(json.dumps(value).encode()))
    assert text
    await browsers.listen("WorkResponse-abc")
    await bus.emit("WorkResponse-abc", text)
    for heard in await browsers.heard(1):
        assert heard == [{"event": "WorkResponse-abc", "kind": "string", "payload": value}]


def _random_value(compressed_bytes: int) -> dict[str, Any]:
    """A result that compresses to a little less than so many bytes."""
    numbers = random.Random(1)
    value = {"embedding": [[numbers.uniform(-20, 20), numbers.uniform(-20, 20)] for _ in range(20_000)]}
    size = len(compress(json.dumps(value).encode()))
    value["embedding"] = value["embedding"][: int(20_000 * compressed_bytes * 0.995 / size)]
    assert 0.98 * compressed_bytes < len(compress(json.dumps(value).encode())) <= compressed_bytes
    return value


async def test_a_browser_that_hears_many_hears_them_all_in_order(platform: tuple[Platform, RedisBus]) -> None:
    browsers, bus = platform
    await browsers.listen("Heartbeat-x1")
    await asyncio.gather(*(bus.emit("Heartbeat-x1", {"number": number}) for number in range(500)))
    for heard in await browsers.heard(500):
        assert [said["payload"]["number"] for said in heard] == list(range(500))


async def test_bytes_would_reach_a_browser_as_no_text(platform: tuple[Platform, RedisBus]) -> None:
    """Why the bus refuses them: the check that this platform would show the difference."""
    import msgpack
    from redis.asyncio import Redis as Client

    browsers, bus = platform
    await browsers.listen("WorkResponse-abc")
    content = ["emitter", {"data": ["WorkResponse-abc", b"KLUv"], "type": 2, "nsp": "/"}, {"flags": "", "rooms": ""}]
    async with Client(host=bus._address.host, port=bus._address.port) as client:
        await client.publish("socket.io#/#", msgpack.packb(content))
    assert {heard[0]["kind"] for heard in await browsers.heard(1)} == {"object"}
