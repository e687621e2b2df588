"""Connections that never bring a request keep nobody out, on any port of ours."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from cellworker import connections
from cellworker.engine import serve as engine
from cellworker.gateway.observe.health import Health, serve_health
from cellworker.settings import Settings

HALF = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nX-Slow: "
OLD = b"GET /health/live HTTP/1.0\r\nHost: localhost\r\n\r\n"
CLOSING = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
BROKEN = [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"GET\r\n\r\n",
    b"GET /%zz HTTP/9.9\r\n\r\n",
    b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"POST /health/live HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
    b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    b"\r\n" * 100,
]


@asynccontextmanager
async def health_port(tmp_path: Path) -> AsyncIterator[int]:
    async with serve_health(Health(), None, 0, "127.0.0.1") as port:
        yield port


@asynccontextmanager
async def engine_port(tmp_path: Path) -> AsyncIterator[int]:
    listener = socket.create_server(("127.0.0.1", 0))
    port = int(listener.getsockname()[1])
    settings = Settings(store_dir=tmp_path / "stores", data_dir=tmp_path / "data", shutdown_file=str(tmp_path / "end"))
    serving = asyncio.create_task(engine.serve(lambda: None, settings, listener=listener))
    try:
        yield port
    finally:
        (tmp_path / "end").touch()
        await serving


async def said_to(port: int, text: bytes) -> bytes:
    """What is answered to some bytes, up to the end of the connection."""

    def talk() -> bytes:
        with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
            connection.sendall(text)
            said = b""
            try:
                while piece := connection.recv(4096):
                    said += piece
            except ConnectionError:
                pass
            return said

    return await asyncio.to_thread(talk)


async def lives(port: int) -> bool:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/health/live") as answer:
        return answer.status == 200


@pytest.mark.parametrize("opened", [health_port, engine_port])
async def test_half_requests_block_no_other_client_and_end(
    opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    limits = connections.Connections.__init__.__kwdefaults__
    monkeypatch.setitem(limits, "headers_s", 1.0)
    monkeypatch.setitem(limits, "max_waiting", 16)
    with caplog.at_level(logging.DEBUG):
        async with opened(tmp_path) as port:
            half = [asyncio.create_task(said_to(port, HALF)) for _ in range(32)]
            assert await lives(port)
            async with asyncio.timeout(120):
                assert set(await asyncio.gather(*half)) == {b""}
                assert (await said_to(port, OLD)).split(b"\r\n")[0].endswith(b"200 OK")
                for text in BROKEN:
                    assert b"Traceback" not in await said_to(port, text + CLOSING)
            assert await lives(port)
    assert [record.getMessage() for record in caplog.records if record.exc_info] == []
