"""The engine over HTTP: a real one on the bundled sample, and one that plays tricks."""

import asyncio
import contextlib
import json
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from aiohttp import web

from cellworker.errors import ErrorCode, WorkerError
from cellworker.gateway.engine_client.http_engine import HttpEngine
from cellworker.protocol.validation import convert
from cellworker.tasks.catalog import find
from cellworker.tasks.task import PrepareInput
from cloud.ports import free_port

from .engine_process import HANG_S, EngineProcess

pytestmark = pytest.mark.asyncio(loop_scope="module")

LIST = (
    b'{"selectFields":["gene_names","dispersions"],"orderBy":"dispersions","orderDecreasing":true,"offset":0,"limit":3}'
)


def request_of(task: str, cell_sets: Any = None, **body: Any) -> bytes:
    from cellworker.experiment.cell_sets import CellSets

    found = find(task)
    given = PrepareInput(convert({"name": task, **body}, found.body, "body"), None, cell_sets or CellSets.empty())
    return msgspec.json.encode(found.prepare(given))


# --- a real engine -----------------------------------------------------------------------------------------------


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def process(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EngineProcess]:
    process = EngineProcess(tmp_path_factory.mktemp("data"))
    await process.start(str(sample))
    await process.ready()
    yield process
    await process.kill()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(process: EngineProcess) -> AsyncIterator[HttpEngine]:
    async with HttpEngine(process.url, find) as engine:
        yield engine


async def test_a_value_comes_without_its_envelope(engine: HttpEngine) -> None:
    value = json.loads(await engine.compute("GetNUmis", request_of("GetNUmis")))
    assert len(value) > 10
    assert all(isinstance(item, (int, float, type(None))) for item in value)


async def test_a_bare_value_comes_as_it_is_and_its_error_as_an_error(engine: HttpEngine, sample: Path) -> None:
    body = {"downsampled": False, "genes": ["MS4A1"]}
    value = json.loads(await engine.compute("GeneExpression", request_of("GeneExpression", **body)))
    assert value["orderedGeneNames"] == ["MS4A1"]
    with pytest.raises(WorkerError) as caught:
        await engine.compute("GeneExpression", request_of("GeneExpression", **{**body, "genes": ["NO-SUCH-GENE"]}))
    assert caught.value.code is ErrorCode.R_WORKER_GENE_NOT_FOUND


async def test_a_file_result_is_the_path_of_a_file(engine: HttpEngine, sample: Path) -> None:
    from cellworker.experiment.cell_sets import CellSets

    content = await asyncio.to_thread((sample / "cell_sets.json").read_bytes)
    request = request_of("GetNormalizedExpression", CellSets.parse(content), subsetBy={"louvain": []})
    path = Path(json.loads(await engine.compute("GetNormalizedExpression", request)))
    assert (await asyncio.to_thread(path.read_bytes)).startswith(b"\x1f\x8b")
    await asyncio.to_thread(path.unlink)


async def test_an_error_of_the_engine_is_that_error(engine: HttpEngine) -> None:
    with pytest.raises(WorkerError) as caught:
        await engine.compute("GetNUmis", b"[]")
    assert caught.value.code is ErrorCode.INVALID_INPUT


async def test_what_the_engine_cannot_read_at_all_is_a_bug_of_ours(engine: HttpEngine) -> None:
    with pytest.raises(WorkerError) as caught:
        await engine.compute("GetNUmis", b"{")
    assert caught.value.code is ErrorCode.R_WORKER_UNHANDLED_ERROR


async def test_an_engine_that_starts_late_is_waited_for(sample: Path, tmp_path: Path) -> None:
    process = EngineProcess(tmp_path)
    async with HttpEngine(process.url, find) as engine:
        asking = asyncio.create_task(engine.compute("GetNUmis", request_of("GetNUmis")))
        assert not (await asyncio.wait({asking}, timeout=0.2))[0]
        await process.start(str(sample))
        async with asyncio.timeout(HANG_S):
            assert json.loads(await asking)
        await process.kill()
        asking = asyncio.create_task(engine.compute("GetNUmis", request_of("GetNUmis")))
        await process.start(str(sample))
        async with asyncio.timeout(HANG_S):
            assert json.loads(await asking)
    await process.kill()


async def test_an_engine_for_another_experiment_does_not_answer(sample: Path, tmp_path: Path) -> None:
    for name in ("mine", "other"):
        await asyncio.to_thread(shutil.copytree, sample, tmp_path / name)
    await asyncio.to_thread((tmp_path / "labels").write_text, 'experimentId="other"\n')
    process = EngineProcess(tmp_path)
    await process.start()
    await process.ready()
    async with (
        HttpEngine(process.url, find, experiment_id="mine") as mine,
        HttpEngine(process.url, find, experiment_id="other") as other,
    ):
        assert await other.compute("GetNUmis", request_of("GetNUmis"))
        asking = asyncio.create_task(mine.compute("GetNUmis", request_of("GetNUmis")))
        assert not (await asyncio.wait({asking}, timeout=0.3))[0]
        await asyncio.to_thread((tmp_path / "labels").write_text, 'experimentId="mine"\n')
        async with asyncio.timeout(HANG_S):
            assert await asking
    await process.kill()


# --- one that plays tricks ---------------------------------------------------------------------------------------

Trick = Callable[["Tricks", web.Request], Awaitable[web.StreamResponse]]


class Tricks:
    """Does what it is told, one trick a request; the last one for all that follow."""

    def __init__(self) -> None:
        self.url = ""
        self.tricks: list[Trick] = []
        self.asked: list[tuple[str, Mapping[str, str], bytes]] = []
        self.began = asyncio.Event()
        self.ended = asyncio.Event()
        self.release = asyncio.Event()
        self.progress: list[dict[str, Any]] = []
        self.followed: list[str] = []

    async def post(self, request: web.Request) -> web.StreamResponse:
        self.asked.append((request.path, request.headers, await request.read()))
        trick = self.tricks.pop(0) if len(self.tricks) > 1 else self.tricks[0]
        return await trick(self, request)

    async def follow(self, request: web.Request) -> web.StreamResponse:
        self.followed.append(f"{request.match_info['id']} after {request.query['after']}")
        if not self.progress:
            self.release.set()
            return web.Response(status=404)
        return web.json_response(self.progress.pop(0))

    async def ready(self, request: web.Request) -> web.StreamResponse:
        error = {"error_code": "EXPERIMENT_UNREADABLE", "user_message": "The file is damaged."}
        return web.json_response({"status": "failed", "error": error}, status=503)


def answers(content: bytes, status: int = 200, **headers: str) -> Trick:
    async def trick(tricks: Tricks, request: web.Request) -> web.StreamResponse:
        return web.Response(body=content, status=status, headers=headers)

    return trick


async def breaks(tricks: Tricks, request: web.Request) -> web.StreamResponse:
    assert request.transport
    request.transport.abort()
    return web.Response()


async def breaks_in_the_middle(tricks: Tricks, request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    response.content_length = 100
    await response.prepare(request)
    await response.write(b'{"data":')
    assert request.transport
    request.transport.abort()
    return response


async def holds(tricks: Tricks, request: web.Request) -> web.StreamResponse:
    tricks.began.set()
    try:
        await tricks.release.wait()
    finally:
        tricks.ended.set()
    return web.Response(body=b'{"data":7,"error":null}')


SEVEN = answers(b'{"data":7,"error":null}')


@contextlib.asynccontextmanager
async def tricky(*tricks: Trick, **options: Any) -> AsyncIterator[tuple[Tricks, HttpEngine]]:
    playing = Tricks()
    playing.tricks = list(tricks)
    app = web.Application(client_max_size=1 << 24)
    app.router.add_post("/v0/{path}", playing.post)
    app.router.add_get("/v0/progress/{id}", playing.follow)
    app.router.add_get("/health/ready", playing.ready)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    playing.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    async with HttpEngine(playing.url, find, **options) as engine, asyncio.timeout(HANG_S):
        yield playing, engine
    await runner.cleanup()


async def failure(engine: HttpEngine, task: str = "ListGenes") -> WorkerError:
    with pytest.raises(WorkerError) as caught:
        await engine.compute(task, LIST)
    return caught.value


async def test_one_call_is_one_request_of_the_tasks_path() -> None:
    async with tricky(SEVEN, experiment_id="x1") as (tricks, engine):
        assert await engine.compute("MarkerHeatmap", LIST, none) == b"7"
        assert await engine.compute("ListGenes", LIST, none) == b"7"
    (first, headers, body), (second, more, _) = tricks.asked
    assert (first, second, body) == ("/v0/runMarkerHeatmap", "/v0/listGenes", LIST)
    assert headers["Content-Type"] == "application/json"
    assert headers["X-Experiment-Id"] == "x1"
    assert headers["X-Request-Id"] != more["X-Request-Id"]
    assert tricks.followed == []


async def test_a_large_request_arrives_whole_with_its_length() -> None:
    large = b"[" + b"7," * (3 << 19) + b"7]"
    async with tricky(SEVEN, SEVEN) as (tricks, engine):
        assert await engine.compute("ListGenes", large, none) == b"7"
        assert await engine.compute("ListGenes", LIST, none) == b"7"
    (_, headers, body), (_, _, second) = tricks.asked
    assert body == large
    assert headers["Content-Length"] == str(len(large))
    assert second == LIST


async def none(stage: str, fraction: float | None) -> None:
    raise AssertionError("no progress was expected")


@pytest.mark.parametrize(
    ("content", "value"),
    [
        (b'{"data":{"a":"\\",\\"error\\":null}"},"error":null}', {"a": '","error":null}'}),
        (b'{"data": [1, 2], "error": []}', [1, 2]),
        (b'{"error":null,"data":null}', None),
    ],
)
async def test_values_of_other_engines_are_read_too(content: bytes, value: Any) -> None:
    async with tricky(answers(content)) as (_, engine):
        assert json.loads(await engine.compute("ListGenes", LIST)) == value


@pytest.mark.parametrize("task", ["ListGenes", "GeneExpression"])
async def test_an_unknown_error_becomes_the_generic_one(task: str) -> None:
    content = b'{"data":[],"error":{"error_code":"NEW","user_message":"Words.","error":null}}'
    async with tricky(answers(content)) as (_, engine):
        error = await failure(engine, task)
    assert (error.code, error.message) == (ErrorCode.R_WORKER_UNHANDLED_ERROR, "Words.")


@pytest.mark.parametrize("content", [b"", b"[]", b"<html>", b'{"data":1}', b'{"data":1,"error":{"x":2}}'])
async def test_what_is_no_answer_is_a_bug(content: bytes) -> None:
    async with tricky(answers(content)) as (_, engine):
        assert (await failure(engine)).code is ErrorCode.R_WORKER_UNHANDLED_ERROR


async def test_an_engine_that_is_not_ready_is_waited_for() -> None:
    cancelled = b'{"data":[],"error":{"error_code":"REQUEST_CANCELLED","user_message":"The engine ends."}}'
    tricks = [answers(b"x", 409), answers(b"x", 503), answers(cancelled), SEVEN]
    async with tricky(*tricks) as (playing, engine):
        assert await engine.compute("ListGenes", LIST) == b"7"
    assert len(playing.asked) == 4


async def test_a_busy_engine_says_when_to_come_back() -> None:
    async with tricky(answers(b"x", 503, **{"Retry-After": "2"}), SEVEN) as (_, engine):
        started = asyncio.get_running_loop().time()
        assert await engine.compute("ListGenes", LIST) == b"7"
        assert asyncio.get_running_loop().time() - started > 1.9


@pytest.mark.parametrize(
    ("trick", "code", "words"),
    [
        (answers(b"x", 503), ErrorCode.ENGINE_BUSY, "Too many"),
        (answers(b"x", 409), ErrorCode.EXPERIMENT_UNREADABLE, "damaged"),
    ],
)
async def test_patience_ends_with_the_reason(trick: Trick, code: ErrorCode, words: str) -> None:
    async with tricky(trick, retry_budget_s=0.2) as (_, engine):
        error = await failure(engine)
    assert error.code is code
    assert words in error.message


async def test_patience_with_an_engine_that_is_not_there_ends() -> None:
    async with HttpEngine(f"http://127.0.0.1:{free_port()}", find, retry_budget_s=0.2) as engine:
        error = await failure(engine)
    assert error.code is ErrorCode.TASK_CRASHED
    assert "could not be reached" in error.message


@pytest.mark.parametrize("trick", [breaks, breaks_in_the_middle])
async def test_a_request_that_breaks_the_engine_is_given_up(trick: Trick) -> None:
    async with tricky(trick) as (tricks, engine):
        error = await failure(engine)
        assert error.code is ErrorCode.TASK_CRASHED
        assert "ended 3 times" in error.message
        assert len(tricks.asked) == 3
        tricks.tricks = [trick, trick, SEVEN]
        assert await engine.compute("ListGenes", LIST) == b"7"


async def test_progress_of_a_long_request_is_passed_on() -> None:
    heard: list[tuple[str, float | None]] = []

    async def hear(stage: str, fraction: float | None) -> None:
        heard.append((stage, fraction))

    async with tricky(holds) as (tricks, engine):
        steps = [(1, "Counting", 0.25), (1, "Counting", 0.25), (3, "Testing", None)]
        tricks.progress = [
            {"sequence": sequence, "stage": stage, "fraction": fraction, "finished": False}
            for sequence, stage, fraction in steps
        ]
        assert await engine.compute("ListGenes", LIST, hear) == b"7"
    request_id = tricks.asked[0][1]["X-Request-Id"]
    assert heard == [("Counting", 0.25), ("Testing", None)]
    assert tricks.followed == [f"{request_id} after {sequence}" for sequence in (0, 1, 1, 3)]


async def test_cancelling_closes_the_connection() -> None:
    async with tricky(holds) as (tricks, engine):
        asking = asyncio.create_task(engine.compute("ListGenes", LIST, none))
        await tricks.began.wait()
        asking.cancel()
        await tricks.ended.wait()
        with pytest.raises(asyncio.CancelledError):
            await asking
        tricks.tricks = [SEVEN]
        assert await engine.compute("ListGenes", LIST) == b"7"


async def test_many_requests_are_under_way_at_a_time() -> None:
    async with tricky(holds) as (tricks, engine):
        asking = [asyncio.create_task(engine.compute("ListGenes", LIST)) for _ in range(150)]
        while len(tricks.asked) < 150:
            await asyncio.sleep(0)
        tricks.release.set()
        assert await asyncio.gather(*asking) == [b"7"] * 150
