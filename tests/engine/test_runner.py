"""Requests run isolated: what goes wrong in one stays in one."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from cellworker.engine.workers.runner import MalformedBodyError, TaskRunner
from cellworker.engine.workers.scratch import ScratchFolder
from cellworker.errors import ErrorCode, WorkerError
from cellworker.settings import Settings

from .conftest import FAKES, HANG_S, linux_only, processes_of_session

pytestmark = pytest.mark.asyncio(loop_scope="module")

GENERIC = "An unexpected error occurred while performing the work."


def body(**fields: Any) -> bytes:
    return json.dumps(fields, default=str).encode()


async def ask(runner: TaskRunner, path: str, **fields: Any) -> Any:
    async with asyncio.timeout(HANG_S):
        return json.loads((await runner.run(path, body(**fields))).data)


async def refusal(runner: TaskRunner, path: str, **fields: Any) -> WorkerError:
    with pytest.raises(WorkerError) as caught:
        await ask(runner, path, **fields)
    return caught.value


async def test_a_request_is_answered_by_another_process(runner):
    assert await ask(runner, "echo", value=5) == {"value": 5, "store": "first", "threads": 3}
    assert (await ask(runner, "processId"))["pid"] != os.getpid()


async def test_where_forking_is_unsafe_processes_are_started_afresh(make_runner):
    runner = await make_runner(method="spawn")
    assert (await ask(runner, "echo", value=5))["value"] == 5
    assert (await refusal(runner, "crash", value="segfault")).code is ErrorCode.TASK_CRASHED
    assert (await ask(runner, "echo", value=6))["value"] == 6


async def test_what_one_process_kept_another_finds_and_nothing_is_left(make_runner, left_behind):
    runner = await make_runner()
    first = await ask(runner, "keep", value="k")
    assert (await refusal(runner, "crash", value="exit")).code is ErrorCode.TASK_CRASHED
    again = await ask(runner, "keep", value="k")
    assert first["maker"] == first["pid"] == again["maker"] != again["pid"]
    assert [path for path in left_behind() if path.suffix == ".npz"] == [Path(first["folder"], "k.npz")]
    await runner.close()
    assert left_behind() == []


async def test_a_body_that_breaks_the_rules_is_refused_by_the_name_of_its_field(runner):
    error = await refusal(runner, "echo", value="five")
    assert error.code is ErrorCode.INVALID_INPUT
    assert "value" in error.message


@pytest.mark.parametrize("text", [b"", b"{", b"\xff", b"nonsense"])
async def test_a_body_that_is_not_json_is_distinguished(runner, text):
    with pytest.raises(MalformedBodyError, match="not JSON"):
        await runner.run("echo", text)


async def test_a_tasks_own_error_reaches_the_caller(runner):
    error = await refusal(runner, "workerError", value="R_WORKER_EMPTY_CELL_SET")
    assert (error.code, error.message) == (ErrorCode.R_WORKER_EMPTY_CELL_SET, "The sentence of the task.")


@pytest.mark.parametrize(
    ("how", "code"),
    [
        ("segfault", ErrorCode.TASK_CRASHED),
        ("exit", ErrorCode.TASK_CRASHED),
        ("kill", ErrorCode.OUT_OF_MEMORY),
        ("sys.exit", ErrorCode.R_WORKER_UNHANDLED_ERROR),
        ("bug", ErrorCode.R_WORKER_UNHANDLED_ERROR),
    ],
)
async def test_a_request_that_crashes_fails_alone(runner, pipes, gate, how, code):
    pipe = pipes("alive")
    other = asyncio.create_task(ask(runner, "hold", alive=pipe.path, go=gate.path))
    await pipe.begun()
    assert (await refusal(runner, "crash", value=how)).code is code
    assert (await ask(runner, "echo", value=1))["value"] == 1
    await gate.open()
    assert await other == {"store": "first"}


async def test_a_bug_goes_to_the_log_and_not_to_the_user(runner, caplog):
    error = await refusal(runner, "crash", value="the detail")
    assert error.message == GENERIC
    assert "ZeroDivisionError: the detail" in caplog.records[-1].facts["traceback"]


async def test_where_a_process_crashed_is_in_the_log(runner, caplog):
    error = await refusal(runner, "crash", value="segfault")
    assert "SIGSEGV" in error.message
    assert "fake_tasks.py" in caplog.records[-1].facts["fault"]


@linux_only
async def test_the_error_of_exhausted_memory_names_the_budget_and_the_setting(runner):
    assert await ask(runner, "allocate", value=100) == 100
    error = await refusal(runner, "allocate", value=300)
    assert error.code is ErrorCode.OUT_OF_MEMORY
    assert "0.25 GB" in error.message
    assert "TASK_MEMORY_GB" in error.message
    assert await ask(runner, "allocate", value=100) == 100


@linux_only
async def test_a_process_that_keeps_much_memory_after_its_answer_is_replaced(make_runner):
    runner = await make_runner()
    process = await ask(runner, "hoard", value=20)
    assert (await ask(runner, "processId"))["pid"] == process
    assert await ask(runner, "hoard", value=100) == process
    assert (await ask(runner, "processId"))["pid"] != process


async def test_after_its_end_a_runner_answers_that_it_has_ended(make_runner):
    runner = await make_runner()
    await runner.close()
    assert (await refusal(runner, "echo", value=1)).code is ErrorCode.REQUEST_CANCELLED


async def test_a_request_past_its_deadline_is_cancelled_and_its_error_names_the_setting(make_runner, pipes, gate):
    runner = await make_runner(short_timeout_s=0.5)
    pipe = pipes("alive")
    error = await refusal(runner, "hold", alive=pipe.path, go=gate.path)
    assert error.code is ErrorCode.DEADLINE_EXCEEDED
    assert "SHORT_TIMEOUT_S" in error.message
    await pipe.begun()
    await pipe.gone()
    assert (await ask(runner, "echo", value=1))["value"] == 1


async def test_cancelling_ends_a_stuck_computation_within_a_second(make_runner, pipes, gate, left_behind):
    runner = await make_runner()
    pipe = pipes("alive")
    request = asyncio.create_task(ask(runner, "hold", alive=pipe.path, go=gate.path))
    await pipe.begun()
    assert any(path.name == "half-written" for path in left_behind())
    request.cancel()
    await pipe.gone(within_s=1.0)
    assert (await ask(runner, "echo", value=1))["value"] == 1
    async with asyncio.timeout(HANG_S):
        while any(path.name == "half-written" for path in left_behind()):
            await asyncio.sleep(0)


async def test_a_computation_that_reports_progress_hears_of_its_cancellation_and_its_process_lives_on(
    make_runner, pipes
):
    runner = await make_runner()
    before = (await ask(runner, "processId"))["pid"]
    pipe = pipes("alive")
    request = asyncio.create_task(ask(runner, "hold", alive=pipe.path, steps=True))
    await pipe.begun()
    request.cancel()
    assert (await ask(runner, "processId"))["pid"] == before


async def test_a_long_request_holds_up_no_short_one(runner, pipes, gate):
    pipe = pipes("alive")
    long = asyncio.create_task(ask(runner, "holdLong", alive=pipe.path, go=gate.path))
    await pipe.begun()
    for value in range(20):
        assert (await ask(runner, "echo", value=value))["value"] == value
    assert runner.loads["long"].running == 1
    assert runner.loads["short"].running == 0
    await gate.open()
    await long


async def test_a_task_of_the_long_lane_may_have_quick_requests(runner, pipes, gate):
    pipe = pipes("alive")
    long = asyncio.create_task(ask(runner, "holdWithoutSteps", alive=pipe.path, go=gate.path))
    await pipe.begun()
    assert runner.loads["long"].running == runner.loads["long"].size
    assert await ask(runner, "holdWithoutSteps") == {"store": "first"}
    assert (await refusal(runner, "holdWithoutSteps", go=5)).code is ErrorCode.INVALID_INPUT
    await gate.open()
    await long


async def until_waiting(runner: TaskRunner, count: int) -> None:
    async with asyncio.timeout(HANG_S):
        while runner.loads["short"].waiting != count:
            await asyncio.sleep(0)


async def test_requests_wait_their_turn_in_order_and_too_many_are_refused(make_runner, pipes, gate):
    runner = await make_runner(waiting_limit=2)
    pipe = pipes("alive")
    first = asyncio.create_task(ask(runner, "hold", alive=pipe.path, go=gate.path))
    await pipe.begun()
    order: list[int] = []

    async def wait_for(value: int) -> None:
        order.append((await ask(runner, "echo", value=value))["value"])

    waiting = [asyncio.create_task(wait_for(value)) for value in (1, 2)]
    await until_waiting(runner, 2)
    assert (await refusal(runner, "echo", value=3)).code is ErrorCode.ENGINE_BUSY
    waiting[0].cancel()
    await until_waiting(runner, 1)
    waiting.append(asyncio.create_task(wait_for(4)))
    await gate.open()
    await asyncio.gather(first, *waiting[1:])
    assert order == [2, 4]


async def test_a_reload_lets_requests_finish_on_the_old_store_and_answers_new_ones_from_the_new(
    make_runner, pipes, gate, tmp_path
):
    runner = await make_runner(short_workers=2)
    pipe = pipes("alive")
    old = asyncio.create_task(ask(runner, "hold", alive=pipe.path, go=gate.path))
    await pipe.begun()
    new_store = tmp_path / "new-store"
    new_store.write_text("second")
    await runner.reload(new_store)
    for _ in range(10):
        assert (await ask(runner, "echo", value=1))["store"] == "second"
    await gate.open()
    assert await old == {"store": "first"}
    answers = await asyncio.gather(*(ask(runner, "echo", value=value) for value in range(20)))
    assert {answer["store"] for answer in answers} == {"second"}
    assert runner.loads["short"].running == 0


@pytest.mark.parametrize("is_busy", [False, True])
async def test_a_reload_leaves_every_lane_able(make_runner, pipes, gate, tmp_path, is_busy):
    runner = await make_runner()
    if is_busy:
        pipe = pipes("alive")
        old = asyncio.create_task(ask(runner, "holdLong", alive=pipe.path, go=gate.path))
        await pipe.begun()
    new_store = tmp_path / "new-store"
    new_store.write_text("second")
    await runner.reload(new_store)
    assert runner.able
    if is_busy:
        await gate.open()
        assert await old == {"store": "first"}
        assert runner.able
    assert await ask(runner, "holdLong") == {"store": "second"}


async def test_a_lane_whose_new_process_cannot_be_started_is_not_able_until_one_can(make_runner, tmp_path):
    runner = await make_runner()
    new_store = tmp_path / "new-store"
    new_store.write_text("second")
    await runner.reload(new_store)
    new_store.unlink()  # before the long lane has opened it
    async with asyncio.timeout(HANG_S):
        while runner.able:
            await asyncio.sleep(0)
        new_store.write_text("second")
        while not runner.able:
            await asyncio.sleep(0)


async def test_a_store_that_cannot_be_opened_leaves_the_old_one_in_service(make_runner, tmp_path):
    runner = await make_runner()
    with pytest.raises(WorkerError, match="There is no store"):
        await runner.reload(tmp_path / "missing")
    assert (await ask(runner, "echo", value=1))["store"] == "first"


async def test_a_runner_without_a_store_says_so_and_leaves_nothing(tmp_path, left_behind):
    with pytest.raises(WorkerError, match="There is no store"):
        async with TaskRunner(tmp_path / "missing", Settings(), **FAKES):
            pass
    assert left_behind() == []


async def test_an_answer_larger_than_any_buffer_arrives_whole(runner):
    answer = await runner.run("big", body(value=20_000_000))
    assert answer.data == b'"' + b"x" * 20_000_000 + b'"'


async def test_many_requests_at_once_get_each_its_own_answer(runner):
    answers = await asyncio.gather(*(ask(runner, "echo", value=value) for value in range(300)))
    assert [answer["value"] for answer in answers] == list(range(300))


async def test_progress_is_reported_while_the_computation_runs(runner, gate):
    heard: list[tuple[str, float | None]] = []
    told = asyncio.Event()

    async def listen(stage: str, fraction: float | None) -> None:
        heard.append((stage, fraction))
        told.set()

    request = asyncio.create_task(runner.run("progress", body(go=gate.path), listen))
    async with asyncio.timeout(HANG_S):
        await told.wait()
    assert heard == [("Counting cells", 0.5)]
    assert not request.done()
    await gate.open()
    assert (await request).data == b'"done"'


async def test_a_listener_that_fails_does_not_harm_the_request(runner, gate):
    told = asyncio.Event()

    def listen(stage: str, fraction: float | None) -> None:
        told.set()
        raise ConnectionError(stage)

    request = asyncio.create_task(runner.run("progress", body(go=gate.path), listen))
    async with asyncio.timeout(HANG_S):
        await told.wait()
    await gate.open()
    assert (await request).data == b'"done"'


async def test_a_file_result_is_a_file_of_its_own_and_removing_it_leaves_nothing(make_runner, left_behind):
    runner = await make_runner()
    answers = [await runner.run("writeFile", body(value=text)) for text in ("one", "two")]
    assert [answer.file.read_text() for answer in answers] == ["one", "two"]
    for answer in answers:
        answer.file.unlink()
    assert not any("request" in path.name for path in left_behind())


@linux_only
async def test_closing_leaves_no_process_and_no_file(make_runner, pipes, gate, left_behind):
    runner = await make_runner(short_workers=2)
    session = runner._zygote.pid
    await runner.run("writeFile", body(value="nobody fetches this"))
    pipe = pipes("alive")
    request = asyncio.create_task(ask(runner, "hold", alive=pipe.path, go=gate.path))
    waiting = [asyncio.create_task(ask(runner, "holdLong", go=gate.path)) for _ in range(3)]
    await pipe.begun()
    assert len(processes_of_session(session)) == 4
    await runner.close()
    assert processes_of_session(session) == []
    assert left_behind() == []
    for outcome in await asyncio.gather(request, *waiting, return_exceptions=True):
        assert isinstance(outcome, WorkerError)
        assert outcome.code is ErrorCode.REQUEST_CANCELLED


@linux_only
async def test_should_the_parent_of_all_workers_die_what_was_computed_is_computed_again(make_runner, pipes, gate):
    runner = await make_runner()
    pipe = pipes("alive")
    request = asyncio.create_task(ask(runner, "hold", alive=pipe.path, go=gate.path))
    await pipe.begun()
    os.kill(runner._zygote.pid, signal.SIGKILL)
    await pipe.gone()
    await gate.open()
    assert (await request)["store"] == "first"
    assert (await ask(runner, "echo", value=1))["value"] == 1


@linux_only
async def test_a_request_during_which_the_parent_of_all_workers_dies_twice_is_refused(make_runner):
    runner = await make_runner()
    error = await refusal(runner, "endParent", value="")
    assert error.code is ErrorCode.TASK_CRASHED
    assert "starts it" in error.message
    assert (await ask(runner, "echo", value=1))["value"] == 1


@linux_only
async def test_a_parent_of_all_workers_that_hangs_is_noticed_and_what_was_computed_is_computed_again(
    make_runner, pipes, gate
):
    runner = await make_runner()
    pipe = pipes("alive")
    request = asyncio.create_task(ask(runner, "hold", alive=pipe.path, go=gate.path))
    await pipe.begun()
    hanging = runner._zygote.pid
    os.kill(hanging, signal.SIGSTOP)
    # The questions are asked here, not by the clock: the zygote that comes next may take its time to start.
    while runner._zygote.pid == hanging:
        runner._zygote._look()
    await pipe.gone()
    await gate.open()
    assert (await request)["store"] == "first"
    assert runner._zygote.pid != hanging
    with pytest.raises(ProcessLookupError):
        os.kill(hanging, 0)


@linux_only
async def test_killing_the_engine_takes_its_workers_along_and_the_next_engine_sweeps(
    store, pipes, tmp_path, left_behind
):
    pipe = pipes("alive")
    os.mkfifo(tmp_path / "never")
    program = f"""
import asyncio, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from cellworker.engine.workers.runner import TaskRunner
from cellworker.settings import Settings
async def main():
    async with TaskRunner(Path({str(store)!r}), Settings(), **{FAKES!r}) as runner:
        await runner.run("hold", {body(alive=pipe.path, go=tmp_path / "never")!r})
asyncio.run(main())
"""
    engine = await asyncio.create_subprocess_exec(sys.executable, "-c", program)
    await pipe.begun()
    engine.kill()
    await engine.wait()
    await pipe.gone()
    assert left_behind() != []
    with ScratchFolder() as scratch:
        assert [path for path in left_behind() if path.parent == scratch.path.parent] == [scratch.path]
        with ScratchFolder():
            assert scratch.path.exists()
    assert left_behind() == []


async def test_workers_import_nothing_that_they_do_not_need(runner):
    modules = set((await ask(runner, "processId"))["modules"])
    assert modules.isdisjoint({"aiohttp", "asyncio", "scipy", "pandas", "cellworker.engine.workers.runner"})
