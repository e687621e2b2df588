"""The Socket.IO server, spoken to by hand in both generations: handshakes, transports, upgrades, pings and limits."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from cellworker.local.door.engineio import join_payload, split_payload
from cellworker.local.door.socketio import SocketServer

pytestmark = pytest.mark.parametrize("version", [3, 4])


class Polling:
    """A client that polls."""

    def __init__(self, session: aiohttp.ClientSession, url: str, version: int) -> None:
        self.session = session
        self.url = f"{url}/socket.io/?EIO={version}&transport=polling"
        self.version = version
        self.sid = ""

    async def open(self) -> dict[str, Any]:
        first, *rest = await self.poll()
        handshake: dict[str, Any] = json.loads(first[1:])
        self.sid = handshake["sid"]
        if self.version == 3:
            assert (rest or await self.poll()) == ["40"]
        else:
            assert rest == []
            assert await self.send("40") == 200
            assert (await self.poll())[0].startswith('40{"sid":')
        return handshake

    async def poll(self) -> list[str]:
        async with asyncio.timeout(10), self.session.get(self.address) as response:
            text = await response.text()
            assert response.status == 200, text
            assert response.content_type == "text/plain"
            return split_payload(self.version, text)  # type: ignore[arg-type]

    async def send(self, *packets: str) -> int:
        body = join_payload(self.version, packets)  # type: ignore[arg-type]
        async with self.session.post(self.address, data=body.encode()) as response:
            await response.read()
            return response.status

    @property
    def address(self) -> str:
        return f"{self.url}&sid={self.sid}" if self.sid else self.url


class Stage:
    """A server and a session to talk to it."""

    def __init__(self, sockets: SocketServer, session: aiohttp.ClientSession, url: str) -> None:
        self.sockets = sockets
        self.session = session
        self.url = url

    def polling(self, version: int) -> Polling:
        return Polling(self.session, self.url, version)

    def websocket(self, version: int, sid: str = "") -> Any:
        more = f"&sid={sid}" if sid else ""
        return self.session.ws_connect(f"{self.url}/socket.io/?EIO={version}&transport=websocket{more}")

    async def status(self, query: str, method: str = "GET", data: bytes | None = None) -> int:
        async with self.session.request(method, f"{self.url}/socket.io/?{query}", data=data) as response:
            await response.read()
            return response.status


async def staged(sockets: SocketServer) -> AsyncIterator[Stage]:
    app = web.Application()
    sockets.attach(app)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with aiohttp.ClientSession() as session:
        yield Stage(sockets, session, f"http://127.0.0.1:{runner.addresses[0][1]}")
    await sockets.close()
    await runner.cleanup()
    others = {task for task in asyncio.all_tasks() if "socketio.py" in str(task)}
    if others:
        _, left = await asyncio.wait(others, timeout=1)
        assert not left


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    async for started in staged(SocketServer(max_sessions=4, max_payload=10_000, max_backlog=100_000)):
        yield started


@pytest.fixture
async def impatient() -> AsyncIterator[Stage]:
    async for started in staged(SocketServer(ping_interval=0.05, ping_timeout=0.05)):
        yield started


def event(packet: str) -> tuple[str, Any]:
    assert packet.startswith("42")
    name, payload = json.loads(packet[2:])
    return name, payload


async def test_a_polling_client_gets_events_in_order_and_whole(stage: Stage, version: int) -> None:
    client = stage.polling(version)
    handshake = await client.open()
    assert handshake["upgrades"] == ["websocket"]
    waiting = asyncio.create_task(client.poll())
    for i in range(3):
        stage.sockets.broadcast("Heartbeat-x", {"i": i, "text": "é€😀"})
    got = await waiting
    while len(got) < 3:
        got += await client.poll()
    assert [event(packet) for packet in got] == [("Heartbeat-x", {"i": i, "text": "é€😀"}) for i in range(3)]


async def test_a_websocket_client_needs_no_polling(stage: Stage, version: int) -> None:
    async with stage.websocket(version) as socket:
        assert json.loads((await socket.receive_str())[1:])["upgrades"] == []
        if version == 4:
            await socket.send_str("40")
        assert (await socket.receive_str()).startswith("40")
        stage.sockets.broadcast("WorkResponse-e", "x" * 300_000)
        assert event(await socket.receive_str()) == ("WorkResponse-e", "x" * 300_000)


async def test_revision_4_hears_nothing_before_it_has_joined(stage: Stage, version: int) -> None:
    async with stage.websocket(version) as socket:
        await socket.receive_str()
        assert stage.sockets.clients == (1 if version == 3 else 0)
        stage.sockets.broadcast("early", 1)
        await socket.send_str("40")
        packets = [await socket.receive_str()]
        if version == 3:
            packets.append(await socket.receive_str())
            assert packets == ["40", '42["early",1]']
        else:
            assert packets[0].startswith('40{"sid"')


async def test_an_upgrade_loses_no_event(stage: Stage, version: int) -> None:
    client = stage.polling(version)
    await client.open()
    polling = asyncio.create_task(client.poll())
    async with stage.websocket(version, client.sid) as socket:
        await socket.send_str("2probe")
        assert await socket.receive_str() == "3probe"
        assert await polling == ["6"]
        stage.sockets.broadcast("between", 1)
        await socket.send_str("5")
        assert event(await socket.receive_str()) == ("between", 1)
        stage.sockets.broadcast("after", 2)
        assert event(await socket.receive_str()) == ("after", 2)
        assert await stage.status(f"EIO={version}&transport=polling&sid={client.sid}") == 400


async def test_a_client_may_give_an_upgrade_up_and_go_on_polling(stage: Stage, version: int) -> None:
    client = stage.polling(version)
    await client.open()
    async with stage.websocket(version, client.sid) as socket:
        await socket.send_str("2probe")
        assert await socket.receive_str() == "3probe"
    stage.sockets.broadcast("still", 1)
    got: list[str] = []
    while not got or got == ["6"]:
        got = await client.poll()
    assert event(got[-1]) == ("still", 1)


async def test_pings_go_the_way_of_their_generation(impatient: Stage, version: int) -> None:
    async with impatient.websocket(version) as socket:
        await socket.receive_str()
        if version == 4:
            await socket.send_str("40")
        await socket.receive_str()
        for _ in range(4):
            if version == 3:
                await socket.send_str("2hello")
                assert await socket.receive_str() == "3hello"
            else:
                assert await socket.receive_str() == "2"
                await socket.send_str("3")
        assert impatient.sockets.clients == 1


async def test_a_silent_client_is_dropped(impatient: Stage, version: int) -> None:
    async with impatient.websocket(version) as socket:
        async with asyncio.timeout(10):
            async for _ in socket:
                pass
        assert socket.closed
    client = impatient.polling(version)
    await client.open()
    async with asyncio.timeout(10):
        while (await client.poll()) != ["1"]:
            pass
    assert await impatient.status(f"EIO={version}&transport=polling&sid={client.sid}") == 400
    assert impatient.sockets.clients == 0


async def test_what_clients_send_is_ignored_safely(stage: Stage, version: int) -> None:
    client = stage.polling(version)
    await client.open()
    junk = [
        '42["event",{"a":1}]',
        "4",
        "42",
        "42not json",
        '421["needs an ack"]',
        '451-["x",{"_placeholder":true}]',
        "6",
    ]
    assert await client.send(*junk) == 200
    stage.sockets.broadcast("alive", 1)
    assert event((await client.poll())[0]) == ("alive", 1)


async def test_other_namespaces_are_refused_by_name(stage: Stage, version: int) -> None:
    async with stage.websocket(version) as socket:
        await socket.receive_str()
        if version == 3:
            await socket.receive_str()
        await socket.send_str("40/admin,")
        answer = await socket.receive_str()
        assert answer.startswith("44/admin,")
        assert "Invalid namespace" in answer


async def test_who_leaves_the_namespace_hears_nothing_more(stage: Stage, version: int) -> None:
    client = stage.polling(version)
    await client.open()
    assert await client.send("41") == 200
    assert stage.sockets.clients == 0


async def test_who_closes_is_forgotten(stage: Stage, version: int) -> None:
    client = stage.polling(version)
    await client.open()
    assert await client.send("1") == 200
    assert await stage.status(f"EIO={version}&transport=polling&sid={client.sid}") == 400


@pytest.mark.parametrize(
    ("query", "method"),
    [
        ("", "GET"),
        ("EIO={v}", "GET"),
        ("EIO={v}&transport=carrier-pigeon", "GET"),
        ("EIO={v}&transport=polling&sid=nobody", "GET"),
        ("EIO={v}&transport=polling&sid=nobody", "POST"),
        ("EIO={v}&transport=polling", "POST"),
        ("EIO={v}&transport=polling&j=0", "GET"),
        ("EIO=2&transport=polling", "GET"),
        ("EIO=5&transport=websocket", "GET"),
        ("transport=polling", "GET"),
    ],
)
async def test_what_is_no_part_of_the_protocol_is_refused(stage: Stage, version: int, query: str, method: str) -> None:
    assert await stage.status(query.format(v=version), method) == 400


async def test_a_session_belongs_to_its_generation(stage: Stage, version: int) -> None:
    client = stage.polling(version)
    await client.open()
    assert await stage.status(f"EIO={7 - version}&transport=polling&sid={client.sid}") == 400


async def test_two_polls_at_once_end_the_session(stage: Stage, version: int) -> None:
    client = stage.polling(version)
    await client.open()
    first = asyncio.create_task(client.poll())
    second = asyncio.create_task(stage.status(f"EIO={version}&transport=polling&sid={client.sid}"))
    done, _ = await asyncio.wait({first, second}, timeout=10, return_when=asyncio.ALL_COMPLETED)
    assert len(done) == 2
    assert stage.sockets.clients == 0


@pytest.mark.parametrize("body", [b"\xff\xfe", b"", b"9", b"99:4", b"z"])
async def test_a_malformed_payload_ends_the_session(stage: Stage, version: int, body: bytes) -> None:
    client = stage.polling(version)
    await client.open()
    status = await stage.status(f"EIO={version}&transport=polling&sid={client.sid}", "POST", body)
    assert status == (200 if body == b"" and version == 3 else 400)


async def test_too_much_at_once_is_refused(stage: Stage, version: int) -> None:
    client = stage.polling(version)
    await client.open()
    assert await client.send("4" + "x" * 20_000) == 413
    async with stage.websocket(version) as socket:
        await socket.receive_str()
        await socket.send_str("4" + "x" * 20_000)
        async for _ in socket:
            pass
        assert socket.close_code == 1009


async def test_sessions_have_a_max_number(stage: Stage, version: int) -> None:
    for _ in range(4):
        await stage.polling(version).open()
    assert await stage.status(f"EIO={version}&transport=polling") == 400


async def test_a_client_that_takes_nothing_is_dropped_before_memory_is_full(stage: Stage, version: int) -> None:
    client = stage.polling(version)
    await client.open()
    for _ in range(5):
        stage.sockets.broadcast("WorkResponse-e", "x" * 40_000)
    assert stage.sockets.clients == 0


async def test_closing_the_server_reports_every_client(stage: Stage, version: int) -> None:
    client = stage.polling(version)
    await client.open()
    polling = asyncio.create_task(client.poll())
    async with asyncio.timeout(10):
        while not stage.sockets._sessions[client.sid]._polling:
            await asyncio.sleep(0)
    async with stage.websocket(version) as socket:
        await socket.receive_str()
        if version == 3:
            await socket.receive_str()
        await stage.sockets.close()
        assert await polling == ["1"]
        assert await socket.receive_str() == "1"
        assert (await socket.receive()).type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED)
