"""The experiment's files follow the store, and the engine follows the files."""

import asyncio
import contextlib
import errno
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from cellworker.errors import ErrorCode, WorkerError
from cellworker.gateway.engine_client.http_engine import HttpEngine
from cellworker.gateway.engine_client.syncing import ExperimentSync
from cellworker.protocol.events import Status
from cellworker.tasks.catalog import find
from cloud.ports import free_port

from .engine_process import HANG_S, EngineProcess


@dataclass(frozen=True)
class Object:
    key: str
    size: int
    etag: str
    content: bytes


class Store:
    """Objects of one experiment, with all that can go wrong."""

    def __init__(self) -> None:
        self.objects: dict[str, Object] = {}
        self.lists = 0
        self.downloads: list[str] = []
        self.list_errors: list[Exception] = []
        self.download_errors: list[Exception] = []
        self.hold_list: asyncio.Event | None = None
        self.on_download: Callable[[], None] = lambda: None
        self.cut = 0

    def put(self, name: str, content: bytes, prefix: str = "x1/") -> None:
        self.objects[prefix + name] = Object(prefix + name, len(content), f'"{hash(content)}"', content)

    async def list(self) -> Sequence[Object]:
        self.lists += 1
        if self.list_errors:
            raise self.list_errors.pop(0)
        found = list(self.objects.values())
        if self.hold_list:
            await self.hold_list.wait()
        return found

    async def download(self, item: Object, path: Path, on_bytes: Callable[[int], object]) -> None:
        self.downloads.append(item.key)
        self.on_download()
        if self.download_errors:
            raise self.download_errors.pop(0)
        content = item.content[: len(item.content) - self.cut]
        self.cut = 0
        await asyncio.to_thread(path.write_bytes, content)
        on_bytes(len(content))


class Engine:
    """Tells what lay in the folder whenever it was asked to reload."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.seen: list[dict[str, str]] = []
        self.answers: list[tuple[int, dict[str, Any]]] = []
        self.damaged = ""
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application()
        app.router.add_post("/reload", self._reload)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()

    async def stop(self) -> None:
        if self._runner:
            await self._runner.cleanup()

    async def _reload(self, request: web.Request) -> web.Response:
        self.seen.append(await asyncio.to_thread(contents, self.folder))
        if self.damaged and self.seen[-1].get("r.qs") == self.damaged:
            error = {"error_code": "EXPERIMENT_UNREADABLE", "user_message": "The file is damaged."}
            return web.json_response(error, status=422)
        known = {"generation": len(self.seen), "instance": "a", "experiment": "x1"}
        status, answer = self.answers.pop(0) if self.answers else (200, known)
        return web.json_response(answer, status=status)


def contents(folder: Path) -> dict[str, str]:
    """Return what the engine would read: files that are not hidden."""
    files = folder.rglob("*") if folder.exists() else ()
    visible = [path for path in files if path.is_file() and not str(path.relative_to(folder)).startswith(".")]
    return {str(path.relative_to(folder)): path.read_text() for path in sorted(visible)}


@dataclass
class World:
    store: Store
    engine: Engine
    folder: Path
    sync: ExperimentSync
    stages: list[Status]

    async def hear(self, stage: Status) -> None:
        self.stages.append(stage)

    async def go(self) -> list[Status]:
        """Synchronise; returns what was told meanwhile."""
        self.stages.clear()
        async with asyncio.timeout(HANG_S):
            await self.sync.sync(self.hear)
        return list(self.stages)

    async def fails(self) -> WorkerError:
        with pytest.raises(WorkerError) as caught:
            await self.go()
        return caught.value


Make = Callable[..., Awaitable[World]]


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Make]:
    async with contextlib.AsyncExitStack() as stack:
        store, engine = Store(), Engine(tmp_path / "data" / "x1")

        async def make(retry_budget_s: float = 5.0) -> World:
            sync = ExperimentSync(store, engine.url, tmp_path / "data", "x1", retry_budget_s=retry_budget_s)
            await stack.enter_async_context(sync)
            return World(store, engine, engine.folder, sync, [])

        await engine.start()
        stack.push_async_callback(engine.stop)
        yield make


@pytest.fixture
async def world(make: Make) -> World:
    world = await make()
    world.store.put("r.qs", b"object 1")
    world.store.put("matrix_dir.tar.zst", b"matrix 1")
    await world.go()
    world.engine.seen.clear()
    world.store.downloads.clear()
    world.store.lists = 0
    return world


BOTH = [Status.DOWNLOADING, Status.LOADING]
FIRST = {"matrix_dir.tar.zst": "matrix 1", "r.qs": "object 1"}


async def test_what_is_in_the_store_is_fetched_and_loaded(make: Make) -> None:
    world = await make()
    world.store.put("r.qs", b"object 1")
    world.store.put("deep/er.txt", b"nested")
    world.store.put("empty", b"")
    world.store.put("r.qs", b"of another experiment", prefix="x10/")
    for name in ("../evil", "a/../../evil", ".hidden", "a//b", "/etc/evil"):
        world.store.put(name, b"evil")
    assert await world.go() == BOTH
    assert world.engine.seen[-1] == {"r.qs": "object 1", "deep/er.txt": "nested"}
    assert (world.folder.parent / ".serve").read_text() == "x1"
    assert not list(world.folder.parent.rglob("*evil*"))
    assert sorted(path.name for path in world.folder.iterdir()) == [".sync.json", "deep", "r.qs"]


async def test_nothing_is_fetched_where_nothing_changed(world: World) -> None:
    assert await world.go() == []
    assert world.store.downloads == []
    assert world.engine.seen == [FIRST]


async def test_a_gateway_that_starts_again_knows_what_it_has(world: World, make: Make) -> None:
    another = await make()
    assert await another.go() == []
    assert world.store.downloads == []


async def test_only_what_changed_is_fetched(world: World) -> None:
    world.store.put("r.qs", b"object 2")
    assert await world.go() == BOTH
    assert world.store.downloads == ["x1/r.qs"]
    assert world.engine.seen[-1] == {**FIRST, "r.qs": "object 2"}


@pytest.mark.parametrize("harm", ["gone", "shorter", "same length"])
async def test_a_local_file_that_is_not_what_was_fetched_is_fetched_again(world: World, harm: str) -> None:
    path = world.folder / "r.qs"
    if harm == "gone":
        await asyncio.to_thread(path.unlink)
    else:
        await asyncio.to_thread(path.write_text, "short" if harm == "shorter" else "OBJECT 1")
    assert await world.go() == BOTH
    assert world.engine.seen[-1] == FIRST


async def test_files_that_left_the_store_are_removed(make: Make) -> None:
    world = await make()
    world.store.put("r.rds", b"old form")
    world.store.put("notes", b"x")
    await world.go()
    world.store.objects.clear()
    world.store.put("r.qs", b"new form")
    await world.go()
    assert world.engine.seen[-1] == {"r.qs": "new form"}


async def test_foreign_files_stay_unless_the_engine_would_read_them(make: Make) -> None:
    world = await make()
    await asyncio.to_thread(world.folder.mkdir, parents=True)
    for name in ("r.rds", "cell_sets.json"):
        await asyncio.to_thread((world.folder / name).write_text, "by hand")
    world.store.put("r.qs", b"object")
    await world.go()
    assert world.engine.seen[-1] == {"r.qs": "object", "cell_sets.json": "by hand"}


async def test_the_engine_never_sees_a_mixture(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """At each step of the replacement, either all is of one version or the folder says that it is being replaced."""
    seen: list[tuple[dict[str, str], bool]] = []
    real = Path.replace

    def replace(self: Path, target: Path) -> Path:
        out = real(self, target)
        seen.append((contents(world.folder), (world.folder / ".updating").exists()))
        return out

    monkeypatch.setattr(Path, "replace", replace)
    world.store.put("r.qs", b"object 2")
    world.store.put("matrix_dir.tar.zst", b"matrix 2")
    await world.go()
    second = {"matrix_dir.tar.zst": "matrix 2", "r.qs": "object 2"}
    assert all(updating or content in (FIRST, second) for content, updating in seen)
    mixed = [content for content, _ in seen if content not in (FIRST, second)]
    assert mixed == [{"matrix_dir.tar.zst": "matrix 2", "r.qs": "object 1"}]
    assert world.engine.seen[-1] == second
    assert not (world.folder / ".updating").exists()


async def test_a_replacement_that_was_cut_off_is_completed(world: World, make: Make) -> None:
    await asyncio.to_thread((world.folder / ".updating").touch)
    await asyncio.to_thread((world.folder / "matrix_dir.tar.zst").write_text, "of nobody knows when")
    another = await make()
    assert await another.go() == BOTH
    assert world.engine.seen[-1] == FIRST
    assert not (world.folder / ".updating").exists()


async def test_what_is_replaced_during_the_download_is_fetched_too(world: World) -> None:
    def meanwhile() -> None:
        world.store.on_download = lambda: None
        world.store.put("matrix_dir.tar.zst", b"matrix 2")

    world.store.on_download = meanwhile
    world.store.put("r.qs", b"object 2")
    await world.go()
    second = {"matrix_dir.tar.zst": "matrix 2", "r.qs": "object 2"}
    assert world.engine.seen[-1] == second
    assert all(content in (FIRST, second) for content in world.engine.seen)


async def test_a_transient_failure_is_retried(world: World) -> None:
    world.store.put("r.qs", b"object 2")
    world.store.put("matrix_dir.tar.zst", b"matrix 2")
    world.store.list_errors = [OSError("away"), TimeoutError()]
    world.store.download_errors = [ConnectionError("broken")]
    world.store.cut = 3
    assert await world.go() == BOTH
    assert world.engine.seen[-1] == {"matrix_dir.tar.zst": "matrix 2", "r.qs": "object 2"}
    assert len(world.store.downloads) == 4  # each failed once: one with an error, one was cut short


@pytest.mark.parametrize("where", ["list", "download"])
async def test_old_data_is_not_served_when_the_new_cannot_be_had(make: Make, where: str) -> None:
    world = await make(retry_budget_s=0.2)
    world.store.put("r.qs", b"object 1")
    await world.go()
    world.store.put("r.qs", b"object 2")
    errors = [OSError("secret detail") for _ in range(1000)]
    world.store.list_errors, world.store.download_errors = (errors, []) if where == "list" else ([], errors)
    error = await world.fails()
    assert error.code is ErrorCode.EXPERIMENT_OUT_OF_DATE
    assert "could not be fetched" in error.message
    assert "secret" not in error.message
    world.store.list_errors = world.store.download_errors = []
    await world.go()
    assert world.engine.seen[-1] == {"r.qs": "object 2"}


async def test_a_store_without_the_experiment_is_an_error(world: World) -> None:
    world.store.objects.clear()
    assert (await world.fails()).code is ErrorCode.EXPERIMENT_NOT_FOUND


async def test_a_definite_answer_of_the_store_is_not_retried(world: World) -> None:
    world.store.list_errors = [WorkerError(ErrorCode.EXPERIMENT_NOT_FOUND, "Access denied.")]
    assert (await world.fails()).message == "Access denied."
    assert world.store.lists == 1


async def test_a_full_disk_is_reported_at_once(world: World) -> None:
    world.store.put("r.qs", b"object 2")
    world.store.download_errors = [OSError(errno.ENOSPC, "No space left on device")]
    assert (await world.fails()).code is ErrorCode.DISK_FULL
    assert list((world.folder / ".incoming").iterdir()) == []


async def test_those_who_ask_together_share_a_look_that_began_after_they_asked(world: World) -> None:
    world.store.hold_list = asyncio.Event()
    first = asyncio.create_task(world.go())
    while not world.store.lists:
        await asyncio.sleep(0)
    world.store.put("r.qs", b"object 2")
    others = [asyncio.create_task(world.sync.sync(world.hear)) for _ in range(10)]
    await asyncio.sleep(0)
    world.store.hold_list.set()
    async with asyncio.timeout(HANG_S):
        await asyncio.gather(first, *others)
    assert world.engine.seen[-1] == {**FIRST, "r.qs": "object 2"}
    assert world.store.lists == 3  # the first look, that of all others, and one after its download
    assert world.stages.count(Status.DOWNLOADING) == 10
    assert world.stages.count(Status.LOADING) == 10


async def test_one_who_gives_up_does_not_take_the_others_along(world: World) -> None:
    world.store.hold_list = asyncio.Event()
    asking = [asyncio.create_task(world.sync.sync(world.hear)) for _ in range(2)]
    await asyncio.sleep(0)
    asking[0].cancel()
    world.store.hold_list.set()
    async with asyncio.timeout(HANG_S):
        await asking[1]
    assert asking[0].cancelled()


async def test_leaving_ends_those_who_wait(make: Make) -> None:
    world = await make()
    world.store.hold_list = asyncio.Event()
    asking = asyncio.create_task(world.sync.sync(world.hear))
    while not world.store.lists:
        await asyncio.sleep(0)
    late = asyncio.create_task(world.sync.sync(world.hear))
    await asyncio.sleep(0)
    await world.sync.__aexit__(None, None, None)
    outcomes = await asyncio.gather(asking, late, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [ConnectionAbortedError] * 2


async def test_an_engine_that_is_away_is_waited_for(world: World) -> None:
    await world.engine.stop()
    world.store.put("r.qs", b"object 2")
    going = asyncio.create_task(world.go())
    assert not (await asyncio.wait({going}, timeout=0.3))[0]
    await world.engine.start()
    assert await going == BOTH
    assert world.engine.seen[-1] == {**FIRST, "r.qs": "object 2"}


@pytest.mark.parametrize("code", ["EXPERIMENT_NOT_FOUND", "EXPERIMENT_OUT_OF_DATE", "REQUEST_CANCELLED"])
async def test_an_engine_that_has_not_caught_up_is_asked_again(world: World, code: str) -> None:
    passing = {"error_code": code, "user_message": "Not yet."}
    world.engine.answers = [(422, passing), (200, {"experiment": "other", "instance": "a"}), (500, {})]
    assert await world.go() == []
    assert len(world.engine.seen) == 4


async def test_a_file_that_the_engine_cannot_read_is_its_error_each_time(world: World) -> None:
    world.store.put("r.qs", b"object 2")
    world.engine.damaged = "object 2"
    for _ in range(2):
        error = await world.fails()
        assert (error.code, error.message) == (ErrorCode.EXPERIMENT_UNREADABLE, "The file is damaged.")
    assert world.store.downloads == ["x1/r.qs"]
    world.store.put("r.qs", b"object 3")
    assert await world.go() == BOTH


async def test_an_engine_that_does_not_come_back_is_an_error(make: Make) -> None:
    world = await make(retry_budget_s=0.2)
    world.store.put("r.qs", b"object 1")
    await world.engine.stop()
    error = await world.fails()
    assert error.code is ErrorCode.EXPERIMENT_OUT_OF_DATE
    assert "could not be reached" in error.message


@pytest.mark.parametrize("name", ["../x", "", "a/b", ".hidden"])
def test_an_id_that_is_no_folders_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(WorkerError, match="experimentId"):
        ExperimentSync(Store(), "http://localhost:4000", tmp_path, name)


async def test_a_real_engine_serves_what_the_store_holds(sample: Path, tmp_path: Path) -> None:
    store = Store()
    store.put("r.rds", await asyncio.to_thread((sample / "r.rds").read_bytes))
    process = EngineProcess(tmp_path, CLUSTER_ENV="production")
    await process.start()
    sync = ExperimentSync(store, process.url, tmp_path, "x1")
    stages: list[Status] = []

    async def hear(stage: Status) -> None:
        stages.append(stage)

    async with sync, HttpEngine(process.url, find, experiment_id="x1") as engine, asyncio.timeout(2 * HANG_S):
        await sync.sync(hear)
        cells = len(json.loads(await engine.compute("GetNUmis", b"{}")))
        assert stages[:1] + stages[-1:] == BOTH
        await process.kill()
        await process.start()
        stages.clear()
        await sync.sync(hear)
        assert len(json.loads(await engine.compute("GetNUmis", b"{}"))) == cells
        store.put("r.rds", b"no experiment at all")
        with pytest.raises(WorkerError) as caught:
            await sync.sync(hear)
        assert caught.value.code is ErrorCode.EXPERIMENT_UNREADABLE
    assert await process.stop() == 0
