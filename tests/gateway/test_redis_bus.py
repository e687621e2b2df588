"""Events over a real Redis: in order, confirmed, through outages, and without telling secrets."""

import asyncio
import contextlib
import itertools
import logging
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgpack
import pytest
import redis

from cellworker.errors import ErrorCode, WorkerError
from cellworker.gateway.platform import redis_bus
from cellworker.gateway.platform.redis_bus import RedisBus, RedisUnavailableError, resolve_redis_url
from cellworker.logs import configure
from cellworker.settings import Settings

TESTS = str(Path(__file__).parent.parent)
if TESTS not in sys.path:
    sys.path.insert(0, TESTS)

from cloud.servers import Redis, moto_server, start_redis  # noqa: E402
from port_suites.notifications import BusUnderTest, Events, NotificationsTests  # noqa: E402

PASSWORD = "open-sesame/?#@:"
QUOTED = "open-sesame%2F%3F%23%40%3A"
LONG_S = 120.0


class Listener:
    """What the platform's adapter would be handed: the messages on its pattern of channels."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, bytes]] = []
        self.arrived = asyncio.Event()

    @property
    def events(self) -> list[tuple[str, Any]]:
        return [tuple(msgpack.unpackb(message)[1]["data"]) for _, message in self.messages]

    @property
    def payloads(self) -> list[Any]:
        return [payload for _, payload in self.events]

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(LONG_S):
            while not holds():
                self.arrived.clear()
                await self.arrived.wait()

    def _take(self, message: dict[str, Any]) -> None:
        self.messages.append((message["channel"].decode(), message["data"]))
        self.arrived.set()

    @classmethod
    @contextlib.asynccontextmanager
    async def on(cls, server: Redis) -> AsyncIterator["Listener"]:
        # In a thread, because the connection of an asynchronous client may outlive the loop of its test.
        listener, loop = cls(), asyncio.get_running_loop()
        more = {"ssl_ca_certs": str(server.ca_file)} if server.ca_file else {}
        retry = redis.retry.Retry(redis.backoff.NoBackoff(), 0)
        with redis.Redis.from_url(server.url, retry=retry, **more) as client, client.pubsub() as pubsub:
            pubsub.psubscribe(**{"socket.io#/#*": lambda message: loop.call_soon_threadsafe(listener._take, message)})
            assert pubsub.get_message(timeout=LONG_S)
            thread = pubsub.run_in_thread(0.05, daemon=True, exception_handler=lambda _, __, thread: thread.stop())
            try:
                yield listener
            finally:
                thread.stop()
                await asyncio.to_thread(thread.join)


class Gate:
    """Stands between the bus and Redis, so that a test decides when the way is open."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.is_open = True
        self.tried = 0
        self.port = 0
        self._pipes: set[asyncio.Task[None]] = set()

    async def _pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._pipes.add(task)
        self.tried += 1
        try:
            if self.is_open:
                there = await asyncio.open_connection("127.0.0.1", self.target)
                with contextlib.closing(there[1]):
                    both = {asyncio.create_task(_copy(reader, there[1])), asyncio.create_task(_copy(there[0], writer))}
                    try:
                        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
                    finally:
                        for half in both:
                            half.cancel()
                        await asyncio.gather(*both, return_exceptions=True)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._pipes.discard(task)
            writer.close()

    def cut(self) -> None:
        self.is_open = False
        for pipe in self._pipes:
            pipe.cancel()

    @classmethod
    @contextlib.asynccontextmanager
    async def before(cls, server: Redis) -> AsyncIterator["Gate"]:
        gate = cls(server.port)
        listening = await asyncio.start_server(gate._pipe, "127.0.0.1", 0)
        gate.port = listening.sockets[0].getsockname()[1]
        try:
            yield gate
        finally:
            gate.cut()
            listening.close()
            await asyncio.gather(*gate._pipes, return_exceptions=True)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(65536):
        writer.write(chunk)
        await writer.drain()


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(LONG_S):
        while not holds():
            await asyncio.sleep(0.005)


@pytest.fixture
def server() -> Iterator[Redis]:
    with start_redis() as running:
        yield running


@pytest.fixture
async def heard(server: Redis) -> AsyncIterator[Listener]:
    async with Listener.on(server) as listener:
        yield listener


@pytest.fixture
async def bus(server: Redis) -> AsyncIterator[RedisBus]:
    async with RedisBus(server.url) as running:
        await running.emit("ready", None, deadline=LONG_S)
        yield running


class TestRedisBus(NotificationsTests):
    @pytest.fixture
    async def bus_under_test(self, server: Redis, bus: RedisBus) -> AsyncIterator[BusUnderTest]:
        def of(listener: Listener) -> Callable[[int], Awaitable[Events]]:
            async def heard(number: int) -> Events:
                await listener.until(lambda: len(listener.messages) >= number)
                return listener.events

            return heard

        async with Listener.on(server) as first, Listener.on(server) as second:
            yield BusUnderTest(bus, (of(first), of(second)))


async def test_a_heartbeat_and_a_result_arrive_as_the_originals_byte_for_byte(server: Redis, heard: Listener) -> None:
    async with RedisBus(server.url) as bus:
        await bus.emit(
            "Heartbeat-e1",
            {
                "type": "WorkResponse",
                "status_code": "STARTED_TASK",
                "user_message": "Working on the requested task Embedding",
            },
        )
        await bus.emit("WorkResponse-abc123", "KLUv/Si1L/0otS/9")
        await heard.until(lambda: len(heard.messages) == 2)
    assert {channel for channel, _ in heard.messages} == {"socket.io#/#"}
    assert [message.hex() for _, message in heard.messages] == [
        (
            "93a7656d697474657283a46461746192ac4865617274626561742d6531"
            "83a474797065ac576f726b526573706f6e7365ab7374617475735f636f6465ac535441525445445f5441534b"
            "ac757365725f6d657373616765"
            "da0027576f726b696e67206f6e2074686520726571756573746564207461736b20456d62656464696e67"
            "a47479706502a36e7370a12f82a5666c616773a0a5726f6f6d73a0"
        ),
        (
            "93a7656d697474657283a46461746192b3576f726b526573706f6e73652d616263313233"
            "b04b4c55762f5369314c2f306f74532f39"
            "a47479706502a36e7370a12f82a5666c616773a0a5726f6f6d73a0"
        ),
    ]


async def test_events_of_200_callers_arrive_once_and_in_the_order_given(bus: RedisBus, heard: Listener) -> None:
    async def call(name: int) -> None:
        for step in range(10):
            await bus.emit("x", [name, step])

    await asyncio.gather(*map(call, range(200)))
    await heard.until(lambda: len(heard.messages) >= 2000)
    assert heard.payloads[:200] == [[name, 0] for name in range(200)]
    assert sorted(heard.payloads) == [[name, step] for name in range(200) for step in range(10)]
    for name in range(200):
        assert [step for caller, step in heard.payloads if caller == name] == list(range(10))


async def test_one_connection_is_enough(server: Redis, bus: RedisBus) -> None:
    before = server.command_of("INFO", "clients")["connected_clients"]
    await asyncio.gather(*(bus.emit("x", number) for number in range(500)))
    assert server.command_of("INFO", "clients")["connected_clients"] == before


async def test_results_larger_than_a_batch_arrive_whole(bus: RedisBus, heard: Listener) -> None:
    texts = [letter * 700_000 for letter in "abc"]
    await asyncio.gather(*(bus.emit("x", text) for text in texts))
    await heard.until(lambda: len(heard.messages) == 3)
    assert heard.payloads == texts


async def test_what_was_confirmed_arrived_though_the_connection_broke_again_and_again(
    server: Redis, bus: RedisBus, heard: Listener
) -> None:
    confirmed: list[list[int]] = []
    ended = asyncio.Event()

    async def call(name: int) -> None:
        for step in itertools.count():
            await bus.emit("x", [name, step], deadline=LONG_S)
            confirmed.append([name, step])
            if ended.is_set():
                return

    callers = [asyncio.create_task(call(name)) for name in range(8)]
    for _ in range(5):
        enough = len(confirmed) + 100
        await until(lambda enough=enough: len(confirmed) > enough)
        await asyncio.to_thread(server.command_of, "CLIENT", "KILL", "TYPE", "normal")
    ended.set()
    await asyncio.gather(*callers)
    await heard.until(lambda: confirmed[-1] in heard.payloads)
    seen = {tuple(payload) for payload in heard.payloads}
    assert {tuple(payload) for payload in confirmed} <= seen
    for name in range(8):
        firsts = list(dict.fromkeys(step for caller, step in heard.payloads if caller == name))
        assert firsts == sorted(firsts), "in order, but for those that came twice"


async def test_results_wait_for_a_redis_that_was_killed(server: Redis, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "cellworker")
    async with Gate.before(server) as gate, RedisBus(gate.url) as bus:
        async with Listener.on(server) as heard:
            await asyncio.gather(*(bus.emit("before", number) for number in range(50)))
            await heard.until(lambda: len(heard.messages) == 50)
            assert bus.failing_since is None
            server.kill()
            results = [asyncio.create_task(bus.emit("result", number, deadline=LONG_S)) for number in range(20)]
            with pytest.raises(RedisUnavailableError, match=rf"Redis at 127\.0\.0\.1:{gate.port}: "):
                await bus.emit("heartbeat", "lost", deadline=0.3)
            assert bus.failing_since is not None
            assert bus.failing_since <= datetime.now(UTC)
            assert not any(result.done() for result in results)
            gate.cut()
            server.restart()
        async with Listener.on(server) as heard:
            gate.is_open = True
            await asyncio.gather(*results)
            await heard.until(lambda: len(heard.messages) == 20)
            assert heard.payloads == list(range(20)), "in order, and without the heartbeat that was given up"
            assert bus.failing_since is None
    told = [record.getMessage() for record in caplog.records if record.name == "cellworker.gateway.platform.redis_bus"]
    assert told == ["redis out of reach", "redis is back"]


async def test_the_bus_starts_without_redis_and_finds_it_later(server: Redis, heard: Listener) -> None:
    async with Gate.before(server) as gate:
        gate.is_open = False
        async with RedisBus(gate.url) as bus:
            result = asyncio.create_task(bus.emit("x", "early", deadline=LONG_S))
            await until(lambda: gate.tried >= 3)
            assert bus.failing_since is not None
            gate.is_open = True
            await result
            await heard.until(lambda: heard.messages)
            assert heard.payloads == ["early"]


async def test_what_was_given_up_is_not_sent_later(server: Redis, heard: Listener) -> None:
    async with Gate.before(server) as gate:
        gate.is_open = False
        async with RedisBus(gate.url) as bus:
            with pytest.raises(RedisUnavailableError):
                await bus.emit("x", "too late", deadline=0.1)
            gate.is_open = True
            await bus.emit("x", "next", deadline=LONG_S)
            await heard.until(lambda: bool(heard.messages))
    assert heard.payloads == ["next"]


async def test_a_redis_that_does_not_answer_is_left_and_tried_again(
    server: Redis, bus: RedisBus, heard: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_bus, "_REPLY_S", 0.2)
    monkeypatch.setattr(redis_bus, "_CONNECT_S", 0.2)
    server.pause()
    try:
        result = asyncio.create_task(bus.emit("x", "patient", deadline=LONG_S))
        with pytest.raises(RedisUnavailableError, match="no answer in time"):
            await bus.emit("x", "impatient", deadline=0.1)
        await until(lambda: bus.failing_since)
        assert not result.done()
    finally:
        server.resume()
    await result
    await heard.until(lambda: "patient" in heard.payloads)
    assert bus.failing_since is None


async def test_an_outage_is_noticed_while_nothing_is_sent(server: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_bus, "_PROBE_EVERY_S", 0.05)
    async with RedisBus(server.url) as bus:
        await until(lambda: bus.failing_since is None)
        server.kill()
        await until(lambda: bus.failing_since is not None)
        server.restart()
        await until(lambda: bus.failing_since is None)


async def test_a_cancelled_event_leaves_the_others_whole(bus: RedisBus, heard: Listener) -> None:
    for turn in range(20):
        events = [asyncio.create_task(bus.emit("x", [turn, number, "x" * 2000])) for number in range(50)]
        for _ in range(turn % 5):
            await asyncio.sleep(0)
        for event in events[::2]:
            event.cancel()
        done = await asyncio.gather(*events, return_exceptions=True)
        assert all(outcome is None for outcome in done[1::2])
    await bus.emit("x", "the end")
    await heard.until(lambda: heard.payloads[-1:] == ["the end"])
    kept = [[turn, number] for turn, number, _ in heard.payloads[:-1] if number % 2]
    assert kept == [[turn, number] for turn in range(20) for number in range(1, 50, 2)]


async def test_a_primary_that_became_a_replica_is_not_believed(server: Redis, bus: RedisBus) -> None:
    with start_redis() as other:
        server.command_of("REPLICAOF", "127.0.0.1", other.port)
        bus._last_look = 0.0  # as if the last event were longer than a second ago
        with pytest.raises(RedisUnavailableError, match="the server is a replica"):
            await bus.emit("x", "seen by nobody", deadline=0.5)
        result = asyncio.create_task(bus.emit("x", "after the failover", deadline=LONG_S))
        async with Listener.on(server) as heard:
            server.command_of("REPLICAOF", "NO", "ONE")
            await result
            await heard.until(lambda: "after the failover" in heard.payloads)


async def test_a_user_who_may_only_publish_is_enough(server: Redis, heard: Listener) -> None:
    server.command_of(
        "ACL", "SETUSER", "worker", "on", f">{PASSWORD}", "resetchannels", "&socket.io#/#", "+publish", "+ping"
    )
    url = f"redis://worker:{QUOTED}@127.0.0.1:{server.port}"
    async with RedisBus(url) as bus:
        await bus.emit("x", 1, deadline=LONG_S)
        await bus.emit("x", 2)
        await heard.until(lambda: len(heard.messages) == 2)
    assert heard.payloads == [1, 2]


async def test_an_event_that_cannot_be_encoded_is_refused_at_once_and_others_go_on(
    bus: RedisBus, heard: Listener
) -> None:
    with pytest.raises(TypeError):
        await bus.emit("x", b"bytes", deadline=LONG_S)
    await bus.emit("x", "text")
    await heard.until(lambda: heard.payloads == ["text"])


async def test_waiting_senders_are_told_of_the_end(server: Redis) -> None:
    server.kill()
    async with RedisBus(server.url) as bus:
        waiting = asyncio.create_task(bus.emit("x", 1, deadline=LONG_S))
        await asyncio.sleep(0)
    with pytest.raises(RedisUnavailableError, match="closed"):
        await waiting
    with pytest.raises(RedisUnavailableError, match="closed"):
        await bus.emit("x", 1)


# Certificates


@pytest.fixture(scope="module")
def secure() -> Iterator[Redis]:
    with start_redis(tls=True) as running:
        yield running


async def test_an_untrusted_certificate_is_refused(secure: Redis) -> None:
    async with RedisBus(secure.url) as bus:
        with pytest.raises(RedisUnavailableError, match="CERTIFICATE_VERIFY_FAILED"):
            await bus.emit("x", 1)


async def test_any_certificate_is_accepted_where_the_settings_say_so(secure: Redis) -> None:
    async with Listener.on(secure) as heard, RedisBus(secure.url, verify=False) as bus:
        await bus.emit("x", 1, deadline=LONG_S)
        await heard.until(lambda: heard.payloads == [1])


@pytest.mark.parametrize("how", ["ca_file", "SSL_CERT_FILE"])
async def test_the_right_authority_is_accepted(secure: Redis, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert secure.ca_file
    if how == "SSL_CERT_FILE":
        monkeypatch.setenv("SSL_CERT_FILE", str(secure.ca_file))
    ca_file = secure.ca_file if how == "ca_file" else None
    async with Listener.on(secure) as heard, RedisBus(secure.url, ca_file=ca_file) as bus:
        await bus.emit("x", "a" * 300_000, deadline=LONG_S)
        await heard.until(lambda: heard.payloads == ["a" * 300_000])


async def test_a_certificate_of_another_host_is_refused() -> None:
    with start_redis(tls=True, names=["elsewhere.example"]) as elsewhere:
        async with RedisBus(elsewhere.url, ca_file=elsewhere.ca_file) as bus:
            with pytest.raises(RedisUnavailableError, match=r"CERTIFICATE_VERIFY_FAILED.*not valid for '127\.0\.0\.1'"):
                await bus.emit("x", 1)


# Secrets


@pytest.mark.parametrize("right", [True, False])
async def test_a_password_is_used_and_never_told(right: bool, capsys: pytest.CaptureFixture[str]) -> None:
    configure("DEBUG")
    with start_redis(password="other" if not right else "sesame-1234") as locked:
        async with RedisBus(f"redis://:sesame-1234@127.0.0.1:{locked.port}") as bus:
            if right:
                await bus.emit("x", 1, deadline=LONG_S)
                locked.kill()
            with pytest.raises(RedisUnavailableError) as refused:
                await bus.emit("x", 1, deadline=0.5)
            texts = [repr(bus), str(bus._address), repr(bus._address), repr(bus._connection)]
    problem: BaseException | None = refused.value
    while problem:
        texts.append(f"{problem!r} {problem}")
        problem = problem.__cause__ or (None if problem.__suppress_context__ else problem.__context__)
    told = capsys.readouterr().err
    assert "redis out of reach" in told
    if not right:
        assert "invalid username-password pair" in told
    assert not [text for text in (*texts, told) if "sesame" in text]


@pytest.mark.parametrize(
    "url",
    ["redis://u:sesame/x@host", "redis://:sesame#1@host:6379", "redis://:sesame?1@host", "http://:sesame@host",
     "redis://:sesame@host:99999", "redis://", "redis://:sesame@", "redis://:[sesame@host", "", "host:6379",
     "rediss://:sesame@host?ssl_cert_reqs=none"],
)  # fmt: skip
def test_an_address_that_cannot_be_understood_is_explained_without_its_password(url: str) -> None:
    with pytest.raises(WorkerError, match="REDIS_URL") as refused:
        RedisBus(url)
    assert refused.value.code == ErrorCode.INVALID_INPUT
    assert "sesame" not in str(refused.value)
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__


@pytest.mark.parametrize("path", ["", "/", "/0", "/3"])
async def test_a_special_password_and_a_database_in_the_address_are_fine(path: str) -> None:
    with start_redis(password=PASSWORD) as locked:
        async with RedisBus(f"redis://:{QUOTED}@127.0.0.1:{locked.port}{path}") as bus:
            await bus.emit("x", 1, deadline=LONG_S)


# Where Redis is


class Nobody:
    async def describe_replication_groups(self, **_: Any) -> Any:
        raise AssertionError("nobody was to be asked")


@pytest.mark.parametrize("environment", ["production", "staging", "development", "test"])
async def test_a_given_address_wins(environment: str) -> None:
    settings = Settings(redis_url="rediss://mine:1234")
    assert await resolve_redis_url(settings, Nobody(), environment=environment) == "rediss://mine:1234"


@pytest.mark.parametrize("environment", ["development", "test"])
async def test_development_has_its_own(environment: str) -> None:
    found = await resolve_redis_url(Settings(), Nobody(), environment=environment)
    assert found == "redis://host.docker.internal:6379"


@pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning")
async def test_the_platforms_own_is_found_by_its_name() -> None:
    from aiobotocore.session import get_session
    from botocore.exceptions import ClientError

    with moto_server() as aws:
        client = get_session().create_client(
            "elasticache",
            region_name="eu-west-1",
            endpoint_url=aws.url,
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
        )
        async with client as elasticache:
            with pytest.raises(ClientError, match="ReplicationGroupNotFound"):
                await resolve_redis_url(Settings(), elasticache, environment="staging")
            await elasticache.create_replication_group(
                ReplicationGroupId="biomage-redis-staging", ReplicationGroupDescription="x", NumNodeGroups=1
            )
            answer = await elasticache.describe_replication_groups(ReplicationGroupId="biomage-redis-staging")
            endpoint = answer["ReplicationGroups"][0]["NodeGroups"][0]["PrimaryEndpoint"]
            found = await resolve_redis_url(Settings(), elasticache, environment="staging")
    assert found == f"rediss://{endpoint['Address']}:{endpoint['Port']}"


@pytest.mark.parametrize("answer", [{}, {"ReplicationGroups": []}, {"ReplicationGroups": [{"NodeGroups": [{}]}]}])
async def test_a_group_without_a_primary_is_reported(answer: dict[str, Any]) -> None:
    class ElastiCache:
        async def describe_replication_groups(self, **_: Any) -> Any:
            return answer

    with pytest.raises(WorkerError, match=r"biomage-redis-production.*REDIS_URL"):
        await resolve_redis_url(Settings(), ElastiCache(), environment="production")


async def test_what_is_posted_is_dropped_while_redis_is_away_and_never_comes_late(server: Redis) -> None:
    told: list[bool] = []
    async with Gate.before(server) as gate, RedisBus(gate.url) as bus, Listener.on(server) as heard:
        await bus.emit("before", 1)
        gate.cut()
        bus.post("dropped", 2, told.append)
        async with asyncio.timeout(LONG_S):
            while not told:
                await asyncio.sleep(0.01)
        gate.is_open = True
        await bus.emit("after", 3, deadline=LONG_S)
        await heard.until(lambda: ("after", 3) in heard.events)
        assert told == [False]
        assert heard.events == [("before", 1), ("after", 3)]


async def test_after_an_outage_a_result_is_sent_until_a_client_listens(server: Redis) -> None:
    async with Gate.before(server) as gate, RedisBus(gate.url) as bus:
        await bus.emit("before", 1)
        gate.cut()
        sending = asyncio.create_task(bus.emit("result", 2, deadline=LONG_S))
        async with asyncio.timeout(LONG_S):
            while bus.failing_since is None:
                await asyncio.sleep(0.01)
        gate.is_open = True
        async with asyncio.timeout(LONG_S):
            while bus.failing_since is not None:
                await asyncio.sleep(0.01)
        async with Listener.on(server) as heard:
            await sending
            await heard.until(lambda: ("result", 2) in heard.events)


async def test_without_an_outage_a_result_is_sent_once(bus: RedisBus) -> None:
    async with asyncio.timeout(1):
        await bus.emit("result", 2)
