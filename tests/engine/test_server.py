"""The HTTP surface, over a real socket."""

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from cellworker.engine.loading import ServedExperiment
from cellworker.engine.request_progress import ProgressBoard
from cellworker.engine.server import make_app
from cellworker.engine.workers.worker import load_object
from cellworker.settings import Settings

from .conftest import HANG_S

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass
class Engine:
    url: str
    session: aiohttp.ClientSession
    served: ServedExperiment
    source: Path

    async def post(self, path: str, *, headers: dict[str, str] | None = None, **fields: Any) -> tuple[int, Any]:
        async with self.session.post(
            f"{self.url}/v0/{path}", data=json.dumps(fields, default=str), headers=headers
        ) as answer:
            assert answer.content_type == "application/json"
            return answer.status, await answer.json()

    async def get(self, path: str) -> tuple[int, Any]:
        async with self.session.get(f"{self.url}{path}") as answer:
            text = await answer.text()
            return answer.status, json.loads(text) if answer.content_type == "application/json" else text

    async def until(self, **wanted: Any) -> dict[str, Any]:
        async with asyncio.timeout(HANG_S):
            while True:
                description = (await self.get("/health/ready"))[1]
                if all(description[name] == value for name, value in wanted.items()):
                    return description


SITES = ("cross-site", "same-site", "same-origin", "Cross-Site", "")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def start(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Any]:
    runners: list[Any] = []

    async def make(text: str = "first") -> Engine:
        folder = tmp_path_factory.mktemp("engine")
        source = folder / "r.rds"
        source.write_text(text)
        settings = Settings(threads=1, store_dir=folder / "stores", reload_poll_s=0.01, short_workers=1)
        served = ServedExperiment(
            source,
            settings,
            opener="fake_tasks:open_source",
            tasks="fake_tasks:BY_PATH",
            store_opener="fake_tasks:open_text",
        )
        app = make_app(served, load_object("fake_tasks:BY_PATH"))
        runner = web.AppRunner(app, handler_cancellation=True, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        session = aiohttp.ClientSession(
            headers={"Content-Type": "application/json"}, timeout=aiohttp.ClientTimeout(HANG_S)
        )
        runners.append((session, runner, served))
        await served.__aenter__()
        return Engine(f"http://127.0.0.1:{runner.addresses[0][1]}", session, served, source)

    yield make
    for session, runner, served in runners:
        await session.close()
        await runner.cleanup()
        await served.__aexit__(None, None, None)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(start: Any) -> Engine:
    """Return an engine that many tests ask; those that change its file start their own."""
    engine = await start()
    await engine.served.ready()
    return engine


@pytest_asyncio.fixture(loop_scope="module")
async def own_engine(start: Any) -> Engine:
    engine = await start()
    await engine.served.ready()
    return engine


async def test_health_is_up_in_quotes_once_the_experiment_is_read(engine):
    assert await engine.get("/health") == (200, "up")
    assert await engine.get("/health/live") == (200, {"status": "up"})
    status, description = await engine.get("/health/ready")
    assert status == 200
    assert {
        "status": "ready",
        "experimentId": "exp-1",
        "cells": 3,
        "genes": 7,
        "error": None,
    }.items() <= description.items()
    assert description["lanes"]["short"] == {"running": 0, "waiting": 0, "size": 1}


async def test_a_value_comes_in_an_envelope_and_a_bare_one_does_not(engine):
    value = {"value": 5, "store": "first", "threads": 1}
    assert await engine.post("echo", value=5) == (200, {"data": value, "error": None})
    assert await engine.post("bareEcho", value=5) == (200, value)


@pytest.mark.parametrize("path", ["workerError", "bareError"])
async def test_an_error_is_a_code_and_a_sentence_with_status_200(engine, path):
    error = {"error_code": "R_WORKER_GENE_NOT_FOUND", "user_message": "The sentence of the task."}
    assert await engine.post(path, value="R_WORKER_GENE_NOT_FOUND") == (200, {"data": [], "error": error})


async def test_a_wrong_field_is_an_error_that_names_it(engine):
    status, answer = await engine.post("echo", value="five")
    assert (status, answer["error"]["error_code"]) == (200, "INVALID_INPUT")
    assert "value" in answer["error"]["user_message"]


async def test_a_bug_gives_the_user_only_the_generic_sentence(engine):
    _, answer = await engine.post("crash", value="the detail")
    assert answer["error"] == {
        "error_code": "R_WORKER_UNHANDLED_ERROR",
        "user_message": "An unexpected error occurred while performing the work.",
    }


@pytest.mark.parametrize(
    ("method", "path", "content_type", "content", "status"),
    [
        ("POST", "/v0/echo", "text/plain", "{}", 415),
        ("POST", "/v0/echo", "application/x-www-form-urlencoded", "{}", 415),
        ("POST", "/v0/echo", "application/json", "{", 400),
        ("POST", "/v0/echo", "application/json", "", 400),
        ("POST", "/v0/ECHO", "application/json", "{}", 404),
        ("POST", "/v0/unknown", "application/json", "{}", 404),
        ("GET", "/v0/echo", "application/json", None, 405),
        ("POST", "/health", "application/json", "{}", 405),
    ],
)
async def test_what_is_no_request_is_refused_in_plain_text(engine, method, path, content_type, content, status):
    headers = {"Content-Type": content_type}
    async with engine.session.request(method, engine.url + path, data=content, headers=headers) as answer:
        assert (answer.status, answer.content_type) == (status, "text/plain")
        assert await answer.text()


async def test_a_body_past_the_limit_is_refused(engine, monkeypatch):
    async def far_too_much() -> AsyncIterator[bytes]:
        for _ in range(257):
            yield b" " * (1 << 20)

    async with engine.session.post(f"{engine.url}/v0/echo", data=far_too_much()) as answer:
        assert (answer.status, answer.content_type) == (413, "text/plain")


async def test_a_web_page_of_another_host_cannot_reach_the_engine(engine):
    async with engine.session.get(f"{engine.url}/health", headers={"Host": "evil.example:4000"}) as answer:
        assert answer.status == 403
    for page in (
        {"Origin": "null"},
        {"Origin": "http://localhost:3000"},
        *({"Sec-Fetch-Site": site} for site in SITES),
    ):
        async with engine.session.post(f"{engine.url}/v0/listGenes", json={}, headers=page) as answer:
            assert answer.status == 403
        async with engine.session.post(f"{engine.url}/reload", headers=page) as answer:
            assert answer.status == 403
    async with engine.session.get(f"{engine.url}/health/live", headers={"Sec-Fetch-Site": "none"}) as answer:
        assert answer.status == 200
    async with engine.session.get(f"{engine.url}/health", headers={"Host": "localhost:4000"}) as answer:
        assert answer.status == 200


async def test_a_large_answer_arrives_whole(engine):
    _, answer = await engine.post("big", value=5_000_000)
    assert answer == {"data": "x" * 5_000_000, "error": None}


async def test_a_file_result_is_answered_by_its_path(engine):
    _, answer = await engine.post("writeFile", value="content")
    file = Path(answer["data"])
    assert await asyncio.to_thread(file.read_text) == "content"


async def test_a_client_that_disconnects_stops_its_computation(engine, pipes, gate):
    pipe = pipes("alive")
    request = asyncio.create_task(engine.post("hold", alive=pipe.path, go=gate.path))
    await pipe.begun()
    request.cancel()
    await pipe.gone(within_s=1.0)
    assert (await engine.post("echo", value=1))[0] == 200


async def test_too_many_requests_are_answered_with_retry_after(start, monkeypatch, pipes, gate):
    monkeypatch.setattr("cellworker.engine.workers.runner.TaskRunner.__init__.__kwdefaults__", {
        **load_object("cellworker.engine.workers.runner:TaskRunner").__init__.__kwdefaults__, "waiting_limit": 0,
    })  # fmt: skip
    engine = await start()
    await engine.served.ready()
    pipe = pipes("alive")
    held = asyncio.create_task(engine.post("hold", alive=pipe.path, go=gate.path))
    await pipe.begun()
    async with engine.session.post(f"{engine.url}/v0/echo", data='{"value":1}') as answer:
        assert (answer.status, answer.content_type) == (503, "text/plain")
        assert answer.headers["Retry-After"]
    await gate.open()
    assert (await held)[0] == 200


async def test_progress_can_be_followed_by_the_requests_id(engine, gate, monkeypatch):
    asked, latest_of = asyncio.Event(), ProgressBoard.latest

    def latest_told(board, request_id, after, retry_budget_s):
        if after == 1:
            asked.set()
        return latest_of(board, request_id, after, retry_budget_s)

    monkeypatch.setattr(ProgressBoard, "latest", latest_told)
    assert (await engine.get("/v0/progress/r-1"))[0] == 404
    request = asyncio.create_task(engine.post("progress", headers={"X-Request-Id": "r-1"}, go=gate.path))
    async with asyncio.timeout(HANG_S):
        while (latest := await engine.get("/v0/progress/r-1?after=0"))[0] == 404:
            pass
    assert latest == (200, {"sequence": 1, "stage": "Counting cells", "fraction": 0.5, "finished": False})
    async with engine.session.post(f"{engine.url}/v0/echo", data="{}", headers={"X-Request-Id": "r-1"}) as answer:
        assert answer.status == 400
    waiting = asyncio.create_task(engine.get("/v0/progress/r-1?after=1"))
    async with asyncio.timeout(HANG_S):
        await asked.wait()  # or the request is over before it is asked about
    await gate.open()
    assert (await waiting)[1]["finished"]
    assert (await request)[1]["data"] == "done"
    assert (await engine.get("/v0/progress/r-1"))[0] == 404


async def test_a_bad_id_or_sequence_is_refused(engine):
    async with engine.session.post(f"{engine.url}/v0/echo", data="{}", headers={"X-Request-Id": "a b"}) as answer:
        assert answer.status == 400
    assert (await engine.get("/v0/progress/x?after=-1"))[0] == 400


async def test_before_the_first_load_everything_is_out_of_date(start, gate):
    engine = await start(f"wait {gate.path}")
    for answer in (await engine.get("/health"), await post_text(engine, "echo")):
        assert answer[0] == 409
        assert json.loads(answer[1]) == {"error": "The file is out of date and is currently being updated."}
    status, description = await engine.get("/health/ready")
    assert (status, description["status"], description["ready"]) == (503, "loading", False)
    assert (await engine.get("/health/live"))[0] == 200


async def post_text(engine: Engine, path: str) -> tuple[int, str]:
    async with engine.session.post(f"{engine.url}/v0/{path}", data='{"value":1}') as answer:
        assert answer.content_type == "text/plain"
        return answer.status, await answer.text()


@pytest.mark.parametrize(("text", "code"), [("bad", "EXPERIMENT_UNREADABLE"), ("bug", "R_WORKER_UNHANDLED_ERROR")])
async def test_a_first_load_that_fails_is_reported_and_repaired_by_a_better_file(start, text, code):
    engine = await start(text)
    description = await engine.until(status="failed")
    assert description["error"]["error_code"] == code
    assert (await engine.get("/health"))[0] == 409
    replace(engine.source, "good")
    await engine.until(status="ready", error=None)
    assert (await engine.post("echo", value=1))[1]["data"]["store"] == "good"


def replace(source: Path, text: str) -> None:
    new = source.with_name(".new")
    new.write_text(text)
    new.replace(source)


async def test_a_changed_file_is_served_without_a_gap(own_engine, gate, pipes):
    pipe = pipes("alive")
    old = asyncio.create_task(own_engine.post("holdLong", alive=pipe.path, go=gate.path))
    await pipe.begun()
    reading = gate.path.with_name("reading")
    os.mkfifo(reading)
    replace(own_engine.source, f"wait {reading}")
    await own_engine.until(status="reloading")
    assert await own_engine.get("/health") == (200, "up")
    assert (await own_engine.post("echo", value=1))[1]["data"]["store"] == "first"
    await asyncio.to_thread(reading.write_text, "second")
    await own_engine.until(status="ready", generation=2)
    assert (await own_engine.post("echo", value=1))[1]["data"]["store"] == "second"
    await gate.open()
    assert (await old)[1]["data"] == {"store": "first"}


async def test_a_reload_that_fails_leaves_the_old_content_in_service(own_engine):
    replace(own_engine.source, "bad")
    description = await own_engine.until(status="failed")
    assert description["ready"]
    assert description["error"]["user_message"] == "The file is damaged."
    assert (await own_engine.post("echo", value=1))[1]["data"]["store"] == "first"
    replace(own_engine.source, "second")
    await own_engine.until(status="ready", error=None)
    assert (await own_engine.post("echo", value=1))[1]["data"]["store"] == "second"


async def test_a_store_that_was_removed_to_make_room_is_made_again(own_engine):
    own_engine.served.runner.store.unlink()
    await own_engine.until(status="ready", generation=2)
    assert (await own_engine.post("crash", value="segfault"))[1]["error"]["error_code"] == "TASK_CRASHED"
    assert (await own_engine.post("echo", value=1))[0] == 200


async def test_connections_that_speak_no_http_do_no_harm(engine):
    with socket.create_connection(("127.0.0.1", int(engine.url.rpartition(":")[2]))) as raw:
        raw.sendall(b"\x00\xff nonsense\r\n\r\n")
        await asyncio.to_thread(raw.recv, 1000)
    assert await engine.get("/health") == (200, "up")
