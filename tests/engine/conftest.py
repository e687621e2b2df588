"""What the engine's tests share: tasks that misbehave, pipes to wait on, and a look at what is left behind."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from cellworker.engine.workers.runner import TaskRunner
from cellworker.settings import Settings

HANG_S = 120.0
"""No event takes this long, also on a machine with ten times the load; a held request waits for other events too."""


class Pipe:
    """A named pipe whose reading end is here: hears a task begin, and the end of its process."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = path
        self._end = os.open(path, os.O_RDONLY | os.O_NONBLOCK)

    async def begun(self) -> None:
        assert await self._read() == b"!"

    async def gone(self, within_s: float = HANG_S) -> None:
        assert await self._read(within_s) == b""

    async def _read(self, within_s: float = HANG_S) -> bytes:
        loop = asyncio.get_running_loop()
        readable = asyncio.Event()
        loop.add_reader(self._end, readable.set)
        try:
            async with asyncio.timeout(within_s):
                await readable.wait()
        finally:
            loop.remove_reader(self._end)
        return os.read(self._end, 1)

    def close(self) -> None:
        os.close(self._end)


class Gate:
    """A named pipe that a task waits at until it is opened."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = path

    async def open(self, within_s: float = HANG_S) -> None:
        opening = asyncio.create_task(asyncio.to_thread(self.path.write_bytes, b""))
        try:
            await asyncio.wait_for(asyncio.shield(opening), within_s)
        except TimeoutError:
            os.close(os.open(self.path, os.O_RDONLY | os.O_NONBLOCK))  # lets the thread go on that waits for a reader
            raise


@pytest.fixture(scope="session", autouse=True)
def fakes() -> Iterator[None]:
    """Worker processes see the modules that this process sees."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parent))
        yield


@pytest.fixture(autouse=True)
def temporary(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Temporary files go where the test can count them."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr("tempfile.tempdir", None)


@pytest.fixture
def left_behind(tmp_path: Path) -> Callable[[], list[Path]]:
    """Return the files and folders that are left among the temporary ones."""
    return lambda: sorted((tmp_path / "temporary").rglob("*"))


@pytest.fixture
def pipes(tmp_path: Path) -> Any:
    made: list[Pipe] = []

    def make(name: str) -> Pipe:
        made.append(Pipe(tmp_path / name))
        return made[-1]

    yield make
    for pipe in made:
        pipe.close()


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path / "gate")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "store"
    path.write_text("first")
    return path


MakeRunner = Callable[..., Awaitable[TaskRunner]]
FAKES = {"tasks": "fake_tasks:BY_PATH", "opener": "fake_tasks:open_text"}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def runner(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[TaskRunner]:
    """Return a runner that many tests use: what goes wrong in one request harms no other."""
    store = tmp_path_factory.mktemp("runner") / "store"
    store.write_text("first")
    settings = Settings(threads=3, short_workers=2, long_workers=1, task_memory_gb=0.25)
    async with TaskRunner(store, settings, **FAKES) as runner:
        yield runner


@pytest_asyncio.fixture(loop_scope="module")
async def make_runner(store: Path) -> AsyncIterator[MakeRunner]:
    runners: list[TaskRunner] = []

    async def make(*, method: str | None = None, waiting_limit: int = 1000, **settings: Any) -> TaskRunner:
        settings = {"threads": 1, "short_workers": 1, "long_workers": 1, **settings}
        runner = TaskRunner(store, Settings(**settings), method=method, waiting_limit=waiting_limit, **FAKES)
        runners.append(runner)
        return await runner.__aenter__()

    yield make
    for runner in runners:
        await runner.close()


def processes_of_session(session: int) -> list[str]:
    """Return the command lines of all processes of a session, zombies included."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == session:
                found.append((folder / "cmdline").read_text())
        except OSError:
            continue
    return found


linux_only = pytest.mark.skipif(
    sys.platform != "linux", reason="looks into /proc, or needs limits that only Linux keeps"
)
