"""The engine as a process: it listens at once, and ends in an orderly way."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from .conftest import HANG_S, linux_only

PROGRAM = """
import asyncio, json, sys
sys.path.insert(0, {folder!r})
from pathlib import Path
from cellworker import logs
from cellworker.engine.serve import serve
from cellworker.settings import Settings

def say(**fact):
    print(json.dumps(fact), flush=True)

logs.configure("INFO")
status = asyncio.run(serve(
    Path({source!r}), Settings(store_dir=Path({stores!r}), threads=1, short_workers=1, shutdown_file={file!r}), port=0,
    on_listening=lambda port: say(port=port), on_ready=lambda: say(ready=True),
    tasks="fake_tasks:BY_PATH", opener="fake_tasks:open_source", store_opener="fake_tasks:open_text", **{options!r}))
sys.exit(status)
"""


class Process:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.url = ""

    async def fact(self) -> dict[str, Any]:
        assert self.process.stdout
        async with asyncio.timeout(HANG_S):
            return json.loads(await self.process.stdout.readline())

    async def ended(self) -> tuple[int, list[dict[str, Any]]]:
        async with asyncio.timeout(HANG_S):
            _, errors = await self.process.communicate()
        assert self.process.returncode is not None
        return self.process.returncode, [json.loads(line) for line in errors.splitlines()]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Any]:
    processes: list[Process] = []
    source = tmp_path / "r.rds"

    async def make(text: str = "first", shutdown_file: str = "", **options: Any) -> Process:
        source.write_text(text)
        folder = str(Path(__file__).parent)
        places = {"source": str(source), "stores": str(tmp_path / "stores"), "file": shutdown_file}
        program = PROGRAM.format(folder=folder, options=options, **places)
        pipe = asyncio.subprocess.PIPE
        process = Process(await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=pipe, stderr=pipe))
        processes.append(process)
        process.url = f"http://127.0.0.1:{(await process.fact())['port']}"
        return process

    yield make
    for process in processes:
        if process.process.returncode is None:
            process.process.kill()
            await process.process.communicate()


async def post(url: str, path: str, **fields: Any) -> Any:
    async with aiohttp.ClientSession() as session, session.post(f"{url}/v0/{path}", json=fields) as answer:
        return await answer.json()


async def refuses(url: str) -> None:
    """Wait until nobody listens any more."""
    async with asyncio.timeout(HANG_S):
        while await answers(url):
            pass


async def answers(url: str) -> bool:
    """Whether it listens; a connection made in the moment in which it stops listening stays without an answer."""
    timeout = aiohttp.ClientTimeout(total=2)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(f"{url}/health") as answer:
            return answer.status == 200
    except TimeoutError:
        return True
    except aiohttp.ClientConnectionError:
        return False


async def test_it_listens_before_the_experiment_is_read_and_says_when_it_is(start, gate):
    process = await start(f"wait {gate.path}")
    async with aiohttp.ClientSession() as session, session.get(f"{process.url}/health") as answer:
        assert answer.status == 409
    await gate.open()
    assert await process.fact() == {"ready": True}
    assert (await post(process.url, "echo", value=1))["data"]["value"] == 1
    process.process.send_signal(signal.SIGTERM)
    assert (await process.ended())[0] == 0


async def test_at_the_first_signal_it_finishes_running_requests_and_refuses_new_ones(start, pipes, gate, left_behind):
    process = await start()
    await process.fact()
    pipe = pipes("alive")
    request = asyncio.create_task(post(process.url, "hold", alive=str(pipe.path), go=str(gate.path)))
    await pipe.begun()
    process.process.send_signal(signal.SIGTERM)
    await refuses(process.url)
    await gate.open()
    assert (await request)["data"] == {"store": "first"}
    status, lines = await process.ended()
    assert status == 0
    assert lines[-1]["event"] == "stopped"
    assert {line["event"] for line in lines} >= {"listening", "experiment ready", "request", "stopping"}
    assert left_behind() == []


@linux_only
async def test_at_the_second_signal_it_ends_at_once_and_leaves_nothing(start, pipes, gate, left_behind):
    process = await start()
    await process.fact()
    pipe = pipes("alive")
    request = asyncio.create_task(post(process.url, "hold", alive=str(pipe.path), go=str(gate.path)))
    await pipe.begun()
    process.process.send_signal(signal.SIGINT)
    await refuses(process.url)
    process.process.send_signal(signal.SIGINT)
    status, lines = await process.ended()
    await pipe.gone()
    assert (status, lines[-1]["orderly"]) == (1, False)
    (outcome,) = await asyncio.gather(request, return_exceptions=True)
    assert isinstance(outcome, aiohttp.ClientError) or outcome["error"]["error_code"] == "REQUEST_CANCELLED"
    assert left_behind() == []


async def test_what_takes_longer_than_the_grace_is_cut_off(start, pipes, gate):
    process = await start(grace_s=0.1)
    await process.fact()
    pipe = pipes("alive")
    request = asyncio.create_task(post(process.url, "hold", alive=str(pipe.path), go=str(gate.path)))
    await pipe.begun()
    process.process.send_signal(signal.SIGTERM)
    assert (await process.ended())[0] == 1
    await pipe.gone()
    with pytest.raises(aiohttp.ClientError):
        await request


async def test_a_signal_ends_it_while_the_experiment_is_still_being_read(start, gate, left_behind):
    process = await start(f"wait {gate.path}")
    process.process.send_signal(signal.SIGTERM)
    assert (await process.ended())[0] == 0
    assert left_behind() == []


@pytest.mark.parametrize("there_before", [True, False])
async def test_a_file_that_appears_ends_it_in_order_and_an_old_one_does_not(start, tmp_path, gate, pipes, there_before):
    file = tmp_path / "shutdown"
    if there_before:
        await asyncio.to_thread(file.touch)
    process = await start(shutdown_file=str(file))
    await process.fact()
    pipe = pipes("alive")
    request = asyncio.create_task(post(process.url, "hold", alive=str(pipe.path), go=str(gate.path)))
    await pipe.begun()
    assert await answers(process.url)
    await asyncio.to_thread(os.utime, file, (1, 1)) if there_before else await asyncio.to_thread(file.touch)
    await refuses(process.url)
    await gate.open()
    assert (await request)["data"] == {"store": "first"}
    assert (await process.ended())[0] == 0


async def test_a_port_in_use_is_an_error_of_the_system(start, tmp_path):
    process = await start()
    await process.fact()
    from cellworker.engine.serve import serve
    from cellworker.settings import Settings

    names = {"tasks": "fake_tasks:BY_PATH", "opener": "fake_tasks:open_source", "store_opener": "fake_tasks:open_text"}
    with pytest.raises(OSError, match="in use"):
        await serve(
            tmp_path / "r.rds",
            Settings(store_dir=tmp_path / "stores"),
            port=int(process.url.rpartition(":")[2]),
            **names,
        )


async def test_logs_hold_neither_bodies_nor_headers(start):
    process = await start()
    await process.fact()
    async with aiohttp.ClientSession(headers={"Authorization": "Bearer secret-1"}) as session:
        for path in ("echo", "crash"):
            async with session.post(f"{process.url}/v0/{path}", json={"value": "secret-2"}) as answer:
                await answer.read()
    process.process.send_signal(signal.SIGTERM)
    _, lines = await process.ended()
    requests = [line for line in lines if line["event"] == "request"]
    assert [(line["task"], line["status"], line["error_code"]) for line in requests] == [
        ("Echo", 200, "INVALID_INPUT"),
        ("Crash", 200, "R_WORKER_UNHANDLED_ERROR"),
    ]
    assert "secret-1" not in json.dumps(lines)
    assert "secret-2" not in json.dumps(requests)
