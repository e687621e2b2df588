"""On its way through queue, gateway, engine and worker process, a request is decoded once at each step."""

import asyncio
import collections
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import web

from cellworker.engine.loading import ServedExperiment
from cellworker.engine.server import make_app
from cellworker.engine.workers.worker import load_object
from cellworker.gateway.core.answering import Ports
from cellworker.gateway.core.loop import WorkLoop
from cellworker.gateway.engine_client.http_engine import HttpEngine
from cellworker.protocol.envelope import WorkRequest
from cellworker.settings import Settings

from .conftest import NOW, World

HANG_S = 120.0
TASKS = '''
"""Tasks whose structs write down each time that one is made."""

import os

import msgspec

from cellworker.tasks.task import Task


def note(what):
    with open(os.environ["NOTES"], "a") as notes:
        notes.write(what + "\\n")


class Body(msgspec.Struct):
    genes: list[str]

    def __post_init__(self):
        note("body")


class Prepared(msgspec.Struct):
    genes: list[str]


class Request(msgspec.Struct):
    genes: list[str]

    def __post_init__(self):
        note("request")


class Fields(msgspec.Struct):
    genes: list[str]

    def __post_init__(self):
        note("fields that choose the lane")


def task(name, **more):
    return Task(
        name=name, path=name, about="a task of this test", body=Body, request=Request,
        prepare=lambda given: Prepared(given.body.genes),
        compute=lambda experiment, request, context: request.genes, **more,
    )


BY_PATH = {
    item.path: item
    for item in (
        task("Short"),
        task("Long", lane="long"),
        task("Either", lane="long", quick=lambda asked: len(asked.genes) < 2, glance=Fields),
    )
}
'''


@pytest_asyncio.fixture
async def loop(tmp_path: Path, world: World, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[WorkLoop]:
    (tmp_path / "counted_tasks.py").write_text(TASKS)
    monkeypatch.setenv("NOTES", str(tmp_path / "notes"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "engine"))
    monkeypatch.syspath_prepend(str(tmp_path))
    by_path = load_object("counted_tasks:BY_PATH")
    (tmp_path / "r.rds").write_text("an experiment")
    served = ServedExperiment(
        tmp_path / "r.rds",
        Settings(threads=1, store_dir=tmp_path / "stores", short_workers=1, long_workers=1),
        opener="fake_tasks:open_source",
        tasks="counted_tasks:BY_PATH",
        store_opener="fake_tasks:open_text",
    )
    runner = web.AppRunner(make_app(served, by_path), handler_cancellation=True, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with served, HttpEngine(f"http://127.0.0.1:{runner.addresses[0][1]}", by_path.__getitem__) as engine:
        ports = Ports(engine=engine, results=world, notifications=world, cell_sets=world, files=world)
        yield WorkLoop(world, ports, "served", by_path.__getitem__, journal=world.journal, now=lambda: NOW)
    await runner.cleanup()
    sys.modules.pop("counted_tasks", None)


@pytest.mark.parametrize(
    ("name", "genes", "looks"),
    [("Short", ["A"], 0), ("Long", ["A"], 0), ("Either", ["A"], 1), ("Either", ["A", "B"], 1)],
)
async def test_a_request_is_decoded_once_by_the_gateway_and_once_by_the_worker(
    loop: WorkLoop,
    world: World,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    genes: list[str],
    looks: int,
) -> None:
    envelopes = collections.Counter[str]()
    parse = WorkRequest.parse

    def counted(*args: object, **kwargs: object) -> WorkRequest:
        envelopes["parsed"] += 1
        return parse(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(WorkRequest, "parse", counted)
    world.send(body={"name": name, "genes": genes})
    world.close()
    async with asyncio.timeout(HANG_S):
        await loop.run()
    assert world.answer() == genes
    assert envelopes == {"parsed": 1}
    notes = collections.Counter((await asyncio.to_thread((tmp_path / "notes").read_text)).splitlines())
    assert notes == {"body": 1, "request": 1} | ({"fields that choose the lane": 1} if looks else {})


async def test_a_request_that_is_refused_is_decoded_once_too(loop: WorkLoop, world: World, tmp_path: Path) -> None:
    world.send(body={"name": "Short", "genes": "no list of names"})
    world.send("e2", body={"name": "Short", "genes": ["A"]})
    world.close()
    async with asyncio.timeout(HANG_S):
        await loop.run()
    assert world.answer()["response"]["errorCode"] == "INVALID_INPUT"
    notes = (await asyncio.to_thread((tmp_path / "notes").read_text)).splitlines()
    assert sorted(notes) == ["body", "request"], json.dumps(notes)
