"""The kernel's half of a page that reaches its door in messages only."""

import asyncio
from typing import Any

from cellworker.local.relay import Relay
from cloud.ports import free_port

WAIT_S = 60


async def test_a_page_that_waits_for_an_answer_is_told_when_the_door_closes() -> None:
    asked, sent = asyncio.Event(), []

    async def never_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        asked.set()
        await reader.read()
        writer.close()

    def send(message: dict[str, Any], pieces: list[bytes]) -> None:
        sent.append((message["id"], message["kind"]))

    port = free_port()
    async with await asyncio.start_server(never_answer, "127.0.0.1", port), asyncio.timeout(WAIT_S):
        relay = Relay(asyncio.get_running_loop(), f"http://127.0.0.1:{port}/", send)
        relay.receive({"kind": "request", "id": "page-1", "path": "/facts"})
        await asked.wait()
        assert sent == []
        await relay.close()
        assert sent == [("page-1", "failed")]
        relay.receive({"kind": "request", "id": "page-2", "path": "/facts"})
        while len(sent) < 2:
            await asyncio.sleep(0)
        relay.receive({"kind": "open", "id": "page-3", "path": "/socket"})
        while len(sent) < 3:
            await asyncio.sleep(0)
        assert sent[1:] == [("page-2", "failed"), ("page-3", "closed")]
