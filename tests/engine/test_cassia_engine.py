"""The engine and the process that asks a language model: whatever ends a request ends that process, too."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cellworker.errors import ErrorCode, WorkerError

from .conftest import HANG_S, linux_only

TESTS = Path(__file__).parent.parent
if str(TESTS) not in sys.path:
    sys.path.insert(0, str(TESTS))

from model_endpoint import Endpoint, listening  # noqa: E402

pytestmark = [pytest.mark.asyncio(loop_scope="module"), linux_only]


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    for folder in ("stand_ins", "stand_ins/light"):
        monkeypatch.syspath_prepend(str(TESTS / folder))
    with listening() as endpoint:
        yield endpoint


@pytest.fixture
def askers(tmp_path: Path) -> Callable[[], list[int]]:
    """Return every process of this test that asks a model."""

    def askers() -> list[int]:
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                ours = str(tmp_path) in (folder / "environ").read_text()
                if ours and "cassia_child" in (folder / "cmdline").read_text():
                    found.append(int(folder.name))
            except OSError:
                continue
        return found

    return askers


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def until(condition) -> None:
    async with asyncio.timeout(HANG_S):
        while not condition():
            await asyncio.sleep(0.01)


async def test_it_answers_and_reports_its_progress(make_runner, endpoint: Endpoint, askers) -> None:
    runner = await make_runner(cassia_url=endpoint.url, cassia_model="some-model", cassia_key="a-key")
    told = []
    got = await runner.run("annotate", b"{}", on_progress=lambda stage, fraction: told.append((stage, fraction)))
    assert json.loads(got.data) == ["B cells (broader)", "B cells (intermediate)", "B cells (standardize)"]
    assert told[0] == ("Running CASSIA annotation (this can take several minutes)", None)
    assert askers() == []


@pytest.mark.parametrize("how", ["cancelled", "past its deadline", "crashed"])
async def test_when_the_request_ends_so_does_the_process(
    how: str, make_runner, endpoint: Endpoint, left_behind, askers
) -> None:
    endpoint.hangs = True
    runner = await make_runner(
        cassia_url=endpoint.url, cassia_model="some-model", long_timeout_s=5.0 if "deadline" in how else HANG_S
    )
    request = asyncio.create_task(runner.run("annotate", b"{}"))
    await until(endpoint.arrived.is_set)
    assert len(askers()) == 1
    if how == "cancelled":
        request.cancel()
    if how == "crashed":
        for worker in children_of(runner._zygote.pid):
            os.kill(worker, signal.SIGKILL)
    with pytest.raises((WorkerError, asyncio.CancelledError)) as ended:
        await request
    if isinstance(ended.value, WorkerError):
        assert ended.value.code in (ErrorCode.DEADLINE_EXCEEDED, ErrorCode.OUT_OF_MEMORY)
    await until(lambda: not askers())
    await until(lambda: not [path for path in left_behind() if "cassia" in path.name])
