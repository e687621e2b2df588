"""Looking at once, and changing over: what whoever replaces an experiment's files can rely on."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from cellworker.engine.loading import ServedExperiment
from cellworker.engine.placement import AssignedExperiment
from cellworker.engine.server import make_app
from cellworker.engine.workers.worker import load_object
from cellworker.settings import Settings

from .conftest import HANG_S

FAKES = {"tasks": "fake_tasks:BY_PATH", "store_opener": "fake_tasks:open_text", "opener": "fake_tasks:open_folder"}


@dataclass
class Engine:
    """An engine over HTTP that looks at its files only when it is asked to."""

    folder: Path
    session: aiohttp.ClientSession
    url: str = ""
    assigned: Path | None = None
    served: Any = None
    stopped: list[Any] = field(default_factory=list)

    def write(self, text: str, name: str = "x1") -> None:
        """Put a file in place as a whole."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        (folder / ".new").write_text(text)
        (folder / ".new").replace(folder / "r.rds")

    async def reload(self) -> tuple[int, Any]:
        async with asyncio.timeout(HANG_S), self.session.post(f"{self.url}/reload") as answer:
            return answer.status, await answer.json()

    async def ask(self, path: str = "echo", experiment: str = "", **fields: Any) -> tuple[int, Any]:
        headers = {"Content-Type": "application/json", **({"X-Experiment-Id": experiment} if experiment else {})}
        content = json.dumps(fields or {"value": 1}, default=str)
        async with self.session.post(f"{self.url}/v0/{path}", data=content, headers=headers) as answer:
            text = await answer.text()
            return answer.status, json.loads(text)["data"] if answer.status == 200 else text

    async def described(self) -> dict[str, Any]:
        async with self.session.get(f"{self.url}/health/ready") as answer:
            return await answer.json()

    async def reading(self) -> None:
        """Wait until the file is being read."""
        async with asyncio.timeout(HANG_S):
            while (await self.described())["progress"] is None:
                pass

    async def listen(self, served: Any) -> None:
        self.served = served
        await served.__aenter__()
        app = make_app(served, load_object("fake_tasks:BY_PATH"))
        runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        self.stopped.append(runner)


@pytest.fixture
async def made(tmp_path: Path) -> AsyncIterator[Engine]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(HANG_S)) as session:
        engine = Engine(tmp_path, session)
        yield engine
        for runner in engine.stopped:
            await runner.cleanup()
        await engine.served.__aexit__(None, None, None)


def settings(folder: Path, **more: Any) -> Settings:
    return Settings(threads=1, short_workers=1, store_dir=folder / "stores", reload_poll_s=0, **more)


@pytest.fixture
async def engine(made: Engine) -> Engine:
    """An engine that was started with a folder."""
    made.write("first")
    await made.listen(ServedExperiment(made.folder / "x1", settings(made.folder), **FAKES))
    return made


@pytest.fixture
async def waiting(made: Engine) -> Engine:
    """An engine that is told its folder later, and looks only when it is asked to."""
    known = settings(made.folder)
    make = lambda folder: ServedExperiment(folder, known, **FAKES)  # noqa: E731
    await made.listen(AssignedExperiment(lambda: made.assigned, make, poll_s=1000))
    return made


async def test_it_answers_when_the_current_content_is_served(engine: Engine) -> None:
    status, first = await engine.reload()
    assert (status, first["generation"], first["experiment"]) == (200, 1, None)
    assert (await engine.ask())[1]["store"] == "first"
    engine.write("second")
    status, second = await engine.reload()
    assert (status, second["generation"], second["instance"]) == (200, 2, first["instance"])
    assert (await engine.ask())[1]["store"] == "second"


async def test_where_nothing_changed_it_takes_no_time(engine: Engine) -> None:
    await engine.reload()
    times = []
    for _ in range(20):
        started = time.perf_counter()
        assert (await engine.reload())[1]["generation"] == 1
        times.append(time.perf_counter() - started)
    assert min(times) < 0.005


async def test_many_may_ask_at_a_time(engine: Engine, gate: Any) -> None:
    await engine.reload()
    engine.write(f"wait {gate.path}")
    asking = [asyncio.create_task(engine.reload()) for _ in range(10)]
    await asyncio.to_thread(gate.path.write_text, "second")
    assert {(status, answer["generation"]) for status, answer in await asyncio.gather(*asking)} == {(200, 2)}


async def test_a_change_during_the_reading_is_waited_for_too(engine: Engine, gate: Any) -> None:
    await engine.reload()
    engine.write(f"wait {gate.path}")
    asking = asyncio.create_task(engine.reload())
    await engine.reading()
    engine.write("third")
    await asyncio.to_thread(gate.path.write_text, "second")
    assert (await asking)[1]["generation"] == 3
    assert (await engine.ask())[1]["store"] == "third"


async def test_a_file_that_cannot_be_read_is_422_each_time_and_the_old_one_stays(engine: Engine) -> None:
    await engine.reload()
    engine.write("bad")
    damaged = (422, {"error_code": "EXPERIMENT_UNREADABLE", "user_message": "The file is damaged."})
    assert [await engine.reload(), await engine.reload()] == [damaged, damaged]
    assert (await engine.ask())[1]["store"] == "first"
    engine.write("second")
    assert (await engine.reload())[0] == 200
    assert (await engine.ask())[1]["store"] == "second"


async def test_a_removed_file_is_404(engine: Engine) -> None:
    await engine.reload()
    (engine.folder / "x1" / "r.rds").unlink()
    status, answer = await engine.reload()
    assert (status, answer["error_code"]) == (404, "EXPERIMENT_NOT_FOUND")


async def test_a_removed_store_is_made_again(engine: Engine) -> None:
    await engine.reload()
    engine.served.runner.store.unlink()
    assert (await engine.reload())[1]["generation"] == 2
    assert engine.served.runner.store.exists()


async def test_while_files_are_being_replaced_nothing_is_read(engine: Engine) -> None:
    await engine.reload()
    marker = engine.folder / "x1" / ".updating"
    marker.touch()
    engine.write("half of it")
    asking = asyncio.create_task(engine.reload())
    assert not (await asyncio.wait({asking}, timeout=0.2))[0]
    engine.write("all of it")
    marker.unlink()
    assert (await asking)[1]["generation"] == 2
    assert (await engine.ask())[1]["store"] == "all of it"


async def test_requests_that_name_an_experiment_are_answered_where_there_is_a_path(engine: Engine) -> None:
    await engine.reload()
    assert (await engine.ask(experiment="whatever"))[0] == 200


async def test_until_one_is_assigned_there_is_nothing(waiting: Engine) -> None:
    assert (await waiting.ask())[0] == 409
    assert (await waiting.described())["status"] == "waiting"
    status, answer = await waiting.reload()
    assert (status, answer["user_message"]) == (404, "No experiment is assigned yet.")
    waiting.assigned = waiting.folder / "x1"
    status, answer = await waiting.reload()
    assert (status, answer["user_message"]) == (404, "No file of the experiment is here.")
    waiting.write("first")
    status, answer = await waiting.reload()
    assert (status, answer["experiment"], answer["generation"]) == (200, "x1", 1)
    assert (await waiting.ask(experiment="x1"))[1]["store"] == "first"
    assert (await waiting.ask(experiment="x2"))[0] == 409


async def test_an_assignment_is_followed_without_being_asked(made: Engine) -> None:
    made.write("first")
    known = settings(made.folder)
    make = lambda folder: ServedExperiment(folder, known, **FAKES)  # noqa: E731
    served = AssignedExperiment(lambda: made.assigned, make, poll_s=0.01)
    await made.listen(served)
    made.assigned = made.folder / "x1"
    async with asyncio.timeout(HANG_S):
        await served.first_served()
    assert (await made.ask())[1]["store"] == "first"


async def test_a_change_of_experiments_finishes_what_is_under_way(waiting: Engine, gate: Any, pipes: Any) -> None:
    waiting.write("first")
    waiting.write("other", "x2")
    waiting.assigned = waiting.folder / "x1"
    await waiting.reload()
    pipe = pipes("alive")
    old = asyncio.create_task(waiting.ask("holdLong", "x1", alive=pipe.path, go=gate.path))
    await pipe.begun()
    file = Path((await waiting.ask("writeFile", "x1", value="result"))[1])
    waiting.assigned = waiting.folder / "x2"
    assert (await waiting.reload())[1]["experiment"] == "x2"
    assert (await waiting.ask("echo", "x1", value=1))[0] == 409
    assert (await waiting.ask("echo", "x2", value=1))[1]["store"] == "other"
    await gate.open()
    assert (await old)[1] == {"store": "first"}
    assert await asyncio.to_thread(file.read_text) == "result"
    await asyncio.to_thread(file.unlink)
    async with asyncio.timeout(HANG_S):
        while await asyncio.to_thread(file.parent.exists):
            pass
    waiting.assigned = None
    assert (await waiting.reload())[1]["experiment"] == "x2"


async def test_what_takes_too_long_is_ended_after_a_change(made: Engine, gate: Any, pipes: Any) -> None:
    made.write("first")
    made.write("other", "x2")
    made.assigned = made.folder / "x1"
    known = settings(made.folder)
    make = lambda folder: ServedExperiment(folder, known, **FAKES)  # noqa: E731
    await made.listen(AssignedExperiment(lambda: made.assigned, make, poll_s=1000, retire_s=0.1))
    await made.reload()
    pipe = pipes("alive")
    old = asyncio.create_task(
        made.session.post(f"{made.url}/v0/hold", json={"alive": str(pipe.path), "go": str(gate.path)})
    )
    await pipe.begun()
    made.assigned = made.folder / "x2"
    assert (await made.reload())[0] == 200
    await pipe.gone()
    assert (await (await old).json())["error"]["error_code"] == "REQUEST_CANCELLED"


async def test_a_reload_that_waits_goes_over_to_the_new_experiment(waiting: Engine, gate: Any) -> None:
    waiting.write(f"wait {gate.path}")
    waiting.write("other", "x2")
    waiting.assigned = waiting.folder / "x1"
    asking = asyncio.create_task(waiting.reload())
    await waiting.reading()
    waiting.assigned = waiting.folder / "x2"
    assert (await waiting.reload())[1]["experiment"] == "x2"
    assert (await asking)[1]["experiment"] == "x2"
    await gate.open()
