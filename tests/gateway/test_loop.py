"""The work loop: the order of events, errors in words, one computation per ETag, and nothing lost."""

import asyncio
import json
import logging
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cellworker.errors import ErrorCode, WorkerError
from cellworker.gateway.core.loop import LoopLimits
from cellworker.gateway.core.lru import LruNames
from cellworker.gateway.core.retry import RetryBudgets
from cellworker.protocol.encoding import compress, decompress
from cellworker.protocol.events import Status

GENERIC = "An unexpected error occurred while performing the work."
TOKEN = "hidden-token"
IMPATIENT = RetryBudgets(store_s=0.05, first_pause_s=0.001, last_pause_s=0.01)


def error_of(notice: dict[str, Any]) -> tuple[str, str]:
    assert notice["response"]["error"] is True
    assert notice["response"]["cacheable"] is False
    return notice["response"]["errorCode"], notice["response"]["userMessage"]


async def test_a_request_is_computed_stored_and_announced_in_the_contracts_order(world: Any) -> None:
    message = world.send()
    await world.work()
    assert world.story == ["STARTED_TASK", "COMPRESSING_DATA", "UPLOADING_DATA", "FINISHED_TASK", "WorkResponse"]
    assert world.events[0] == (
        "Heartbeat-x1",
        {
            "type": "WorkResponse",
            "status_code": "STARTED_TASK",
            "user_message": "Working on the requested task List Genes",
        },
    )
    content, tags = world.stored["e1"]
    assert json.loads(decompress(content)) == {"answer": 42}
    assert tags == {"experimentId": "x1", "requestType": "ListGenes"}
    assert world.answer() == {"answer": 42}
    assert world.done == [message]


async def test_a_broadcast_reports_everyone_before_the_result(world: Any) -> None:
    world.send(requestProps={"broadcast": True})
    await world.work()
    assert world.story[-3:] == ["ExperimentUpdates", "FINISHED_TASK", "WorkResponse"]
    name, notice = world.events[-3]
    assert name == "ExperimentUpdates-x1"
    assert notice["response"] == {"cacheable": True, "error": False, "signedUrl": "https://results.example/e1"}


async def test_a_large_result_is_announced_by_its_address(world: Any) -> None:
    source = random.Random(1)
    world.value = [source.random() for _ in range(60_000)]
    world.send()
    await world.work()
    assert world.answer()["response"] == {
        "cacheable": True,
        "error": False,
        "signedUrl": "https://results.example/e1",
    }
    assert json.loads(decompress(world.stored["e1"][0])) == world.value


async def test_the_engine_is_asked_with_fresh_cell_sets_of_the_served_experiment(world: Any) -> None:
    world.send("e1", body={"name": "MarkerHeatmap", "genes": ["A"]})
    world.send("e2", body={"name": "ListGenes", "genes": ["A"]})
    await world.work()
    assert dict(world.computed) == {
        "MarkerHeatmap": {"genes": ["A"], "classes": ["served"]},
        "ListGenes": {"genes": ["A"], "classes": []},
    }


async def test_a_task_that_builds_on_another_s_result_gets_it(world: Any) -> None:
    world.stored["e0"] = (compress(b"[1,null]"), {})
    world.get_errors = [OSError("the store is away")]
    world.send("e1", body={"name": "BuildsOnAnother", "genes": ["e0"]})
    await world.work(budgets=IMPATIENT)
    assert [asked["genes"] for _, asked in world.computed] == [["e0", "[1,null]"]]


async def test_an_earlier_result_that_is_not_there_is_asked_for_in_words(world: Any) -> None:
    world.send("e1", body={"name": "BuildsOnAnother", "genes": ["e0"]})
    await world.work()
    words = "body.genes: there is no stored result 'e0'. Request it with Other first."
    assert error_of(world.answer()) == ("INVALID_INPUT", words)
    assert world.computed == []


async def test_a_store_that_does_not_give_an_earlier_result_is_asked_again_later(world: Any) -> None:
    world.get_errors = [OSError("away")] * 9999
    world.send("e1", body={"name": "BuildsOnAnother", "genes": ["e0"]})
    await world.work_until_done(budgets=IMPATIENT)
    assert world.computed == []
    assert [code for code, _ in map(error_of, world.answers())] == ["RESULT_NOT_STORED"] * 4


async def test_a_task_has_the_last_word_on_its_result(world: Any) -> None:
    world.send(body={"name": "GeneExpression"})
    await world.work()
    assert world.answer() == {"finished": {"answer": 42}}


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Where an engine leaves files."""
    folder = tmp_path / "cellworker-scratch-ab12" / "results"
    folder.mkdir(parents=True)
    return folder


async def test_a_file_is_stored_as_it_is_and_removed_here(world: Any, results: Path) -> None:
    file = results / "request-1-matrix.csv.gz"
    file.write_bytes(b"bytes of a file")
    world.value = str(file)
    world.send(body={"name": "GetNormalizedExpression"})
    await world.work()
    assert world.story == ["STARTED_TASK", "UPLOADING_DATA", "FINISHED_TASK", "WorkResponse"]
    assert world.stored["e1"][0] == b"bytes of a file"
    assert world.answer()["response"]["cacheable"] is True
    assert not file.exists()


@pytest.mark.parametrize("named", ["kept", "results/../../kept", "cellworker-scratch-ab12/results/request-1-link", 5])
async def test_a_file_elsewhere_is_neither_stored_nor_removed(
    world: Any, results: Path, tmp_path: Path, named: object
) -> None:
    kept = tmp_path / "kept"
    kept.write_bytes(b"of somebody else")
    (results / "request-1-link").symlink_to(kept)
    world.value = f"{tmp_path}/{named}" if isinstance(named, str) else named
    world.send(body={"name": "GetNormalizedExpression"})
    await world.work()
    assert error_of(world.answer())[0] == "R_WORKER_UNHANDLED_ERROR"
    assert world.stored == {}
    assert kept.read_bytes() == b"of somebody else"


async def test_a_file_that_cannot_be_stored_is_removed_too(world: Any, results: Path) -> None:
    file = results / "request-1-matrix.csv.gz"
    file.write_bytes(b"bytes")
    world.value = str(file)
    world.put_errors = [WorkerError(ErrorCode.DISK_FULL, "There is no space left.")]
    world.send(body={"name": "GetNormalizedExpression"})
    await world.work()
    assert error_of(world.answer()) == ("DISK_FULL", "There is no space left.")
    assert not file.exists()


async def test_new_cell_sets_are_patched_in_the_users_name_and_nothing_is_stored(world: Any) -> None:
    world.send(body={"name": "ClusterCells"}, requestProps={"broadcast": True})
    await world.work()
    assert world.story == ["STARTED_TASK", "ExperimentUpdates", "FINISHED_TASK", "WorkResponse"]
    ((experiment, operations, authorization),) = world.patches
    assert experiment == "served"
    assert operations == [{"$append": {"key": "new", "made": {"answer": 42}}}]
    assert authorization.startswith("Bearer ")
    assert world.answer()["response"] == {
        "cacheable": False,
        "error": False,
        "signedUrl": "https://results.example/e1",
    }
    assert world.stored == {}


async def test_a_refused_patch_fails_the_task_with_its_reason(world: Any) -> None:
    world.patch_error = WorkerError(ErrorCode.CELL_SETS_UPDATE_FAILED, "The platform refused the new cell sets: 400.")
    world.send(body={"name": "ClusterCells"})
    await world.work()
    assert world.story == ["STARTED_TASK", "WorkResponse"]
    assert error_of(world.answer())[0] == "CELL_SETS_UPDATE_FAILED"


async def test_the_errors_of_a_task_are_reported_and_never_stored(world: Any) -> None:
    world.engine_error = WorkerError(ErrorCode.R_WORKER_EMPTY_CELL_SET, "No cells match requested filters.")
    message = world.send(requestProps={"broadcast": True})
    await world.work()
    assert world.story == ["STARTED_TASK", "ExperimentUpdates", "WorkResponse"]
    assert error_of(world.answer()) == ("R_WORKER_EMPTY_CELL_SET", "No cells match requested filters.")
    assert world.stored == {}
    assert world.done == [message]


@pytest.mark.parametrize("where", ["engine", "prepare"])
async def test_a_bug_becomes_the_generic_sentence_and_a_traceback_without_tokens(
    world: Any, where: str, caplog: pytest.LogCaptureFixture
) -> None:
    if where == "engine":
        world.engine_error = ZeroDivisionError("Bearer hidden-token-of-a-user")
    world.send(body={"name": "ListGenes", "genes": ["prepare-bug"] if where == "prepare" else []})
    with caplog.at_level(logging.INFO):
        await world.work()
    assert error_of(world.answer()) == ("PYTHON_WORKER_ERROR", GENERIC)
    logged = "\n".join(f"{record.getMessage()} {record.__dict__}" for record in caplog.records)
    assert "ZeroDivisionError" in logged
    assert TOKEN not in logged
    assert TOKEN not in json.dumps(world.events)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"body": {"name": "Nonsense"}}, "body.name"),
        ({"body": {"name": "ListGenes", "genes": 3}}, "body.genes"),
        ({"body": {"name": "ListGenes", "genes": ["A", 3]}}, "body.genes[1]"),
        ({"body": None}, "body"),
        ({"timeout": "soon"}, "timeout"),
        ({"experimentId": 3}, "experimentId"),
    ],
)
async def test_an_invalid_request_is_refused_with_the_name_of_the_field(
    world: Any, changes: dict[str, Any], field: str
) -> None:
    message = world.send(**changes)
    await world.work()
    code, sentence = error_of(world.answer())
    assert code == "INVALID_INPUT"
    assert field in sentence
    assert world.computed == []
    assert world.done == [message]
    assert TOKEN not in json.dumps(world.events)


@pytest.mark.parametrize("message", [b"", b"{not json", b"[1]", b'{"body":{}}', b'{"ETag":"../x"}', b"\xff\xfe"])
async def test_a_message_without_an_address_is_removed_and_logged(
    world: Any, message: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    world.send_text(message)
    world.send("next")
    await world.work()
    assert "message refused" in caplog.text
    assert message in world.done
    assert world.answer("next") == {"answer": 42}


async def test_an_expired_request_is_answered_not_computed(world: Any) -> None:
    world.send(timeout="2026-11-22T12:00:00Z")
    await world.work()
    code, sentence = error_of(world.answer())
    assert code == "REQUEST_EXPIRED"
    assert "2026-11-22 12:00:00 UTC" in sentence
    assert world.story == ["WorkResponse"]
    assert world.computed == []


async def test_a_stored_result_is_announced_again_without_computing(world: Any) -> None:
    world.stored["e1"] = (b"", {})
    world.send()
    await world.work()
    assert world.computed == []
    assert world.story[-1] == "WorkResponse"
    assert world.answer()["response"] == {
        "cacheable": True,
        "error": False,
        "signedUrl": "https://results.example/e1",
    }


async def test_the_same_question_from_five_at_once_is_computed_once_and_answered_five_times(world: Any) -> None:
    world.hold = asyncio.Event()
    for _ in range(5):
        world.send()
    world.send("other")
    working = asyncio.create_task(world.work())
    await world.began.wait()
    world.hold.set()
    await working
    assert len(world.computed) == 2
    assert len(world.answers()) == 5
    assert len(set(world.answers())) == 1
    assert len(world.done) == 6


async def test_the_same_failing_question_fails_for_everyone(world: Any) -> None:
    world.hold = asyncio.Event()
    world.engine_error = WorkerError(ErrorCode.OUT_OF_MEMORY, "Too much.")
    for _ in range(3):
        world.send()
    working = asyncio.create_task(world.work())
    await world.began.wait()
    world.hold.set()
    await working
    assert [error_of(answer)[0] for answer in world.answers()] == ["OUT_OF_MEMORY"] * 3
    assert len(world.computed) == 1


async def test_at_most_max_in_flight_requests_are_held(world: Any) -> None:
    world.hold = asyncio.Event()
    for i in range(7):
        world.send(f"e{i}")
    loop = world.loop(limits=LoopLimits(short_in_flight=3))
    world.messages.put_nowait(None)
    running = asyncio.create_task(loop.run())
    await world.began.wait()
    for _ in range(50):
        await asyncio.sleep(0)
    assert loop.busy == 3
    assert world.capacity == 0
    world.hold.set()
    await running
    assert world.capacity == 3
    assert len(world.done) == 7


async def test_a_store_that_fails_for_a_while_costs_neither_result_nor_computation(world: Any) -> None:
    world.put_errors = [OSError("the store is away"), OSError("the store is away")]
    world.send()
    await world.work(budgets=IMPATIENT)
    assert len(world.computed) == 1
    assert world.answer() == {"answer": 42}


async def test_a_store_that_stays_down_is_reported_and_the_message_is_kept_for_three_attempts(world: Any) -> None:
    world.put_errors = [OSError("away")] * 9999
    message = world.send()
    await world.work_until_done(budgets=IMPATIENT)
    assert len(world.computed) == len(world.released) == 3
    *tries, last = [error_of(answer) for answer in world.answers()]
    assert [code for code, _ in tries] == ["RESULT_NOT_STORED"] * 3
    assert last[0] == "RESULT_NOT_STORED"
    assert "3 times" in last[1]
    assert world.done == [message]


async def test_the_fourth_delivery_of_a_stored_result_is_still_an_answer(world: Any) -> None:
    world.stored["e1"] = (b"", {})
    world.send(attempt=4)
    await world.work()
    assert world.answer()["response"]["error"] is False


async def test_an_announcement_is_made_until_it_succeeds(world: Any) -> None:
    world.emit_errors = {"WorkResponse": [ConnectionError("redis is away")] * 3}
    world.send()
    await world.work(budgets=IMPATIENT)
    assert len(world.computed) == 1
    assert world.answer() == {"answer": 42}


async def test_an_announcement_that_never_succeeds_leaves_the_result_and_a_line_in_the_log(
    world: Any, caplog: pytest.LogCaptureFixture
) -> None:
    world.emit_errors = {"WorkResponse": [ConnectionError("redis is away")] * 9999}
    message = world.send()
    with caplog.at_level(logging.INFO):
        await world.work(budgets=replace(IMPATIENT, notify_max_s=0.05))
    assert "e1" in world.stored
    assert world.done == [message]
    assert "answer could not be announced" in [record.message for record in caplog.records]


async def test_new_cell_sets_are_not_made_twice_because_an_announcement_failed(world: Any) -> None:
    world.emit_errors = {"WorkResponse": [ConnectionError("redis is away")]}
    message = world.send(body={"name": "ClusterCells"})
    await world.work(budgets=IMPATIENT)
    assert len(world.patches) == 1
    assert (world.done, world.released) == ([message], [])


async def test_a_lost_heartbeat_does_not_lose_the_result(world: Any) -> None:
    world.emit_errors = {"Heartbeat": [ConnectionError("away")] * 99}
    world.send()
    await world.work()
    assert world.answer() == {"answer": 42}


async def test_a_long_computation_reports_its_progress(world: Any) -> None:
    world.hold = asyncio.Event()
    world.progress = [("Finding neighbours", 0.25), ("Clustering", 0.5)]
    world.send()
    running = asyncio.create_task(world.work(tick_s=0.005))
    await world.until(lambda: len(world.events) >= 2)
    world.hold.set()
    await running
    ticks = [payload for name, payload in world.events if "progress_percent" in payload]
    assert ticks[0] == {
        "type": "WorkResponse",
        "status_code": "STARTED_TASK",
        "user_message": "Clustering",
        "progress_percent": 50,
    }
    assert world.story[0] == "STARTED_TASK"
    assert world.story[len(ticks) + 1 :] == ["COMPRESSING_DATA", "UPLOADING_DATA", "FINISHED_TASK", "WorkResponse"]


async def test_a_quick_computation_has_no_ticks(world: Any) -> None:
    world.progress = [("Counting", 0.5)]
    world.send()
    await world.work()
    assert all("progress_percent" not in payload for _, payload in world.events)


async def test_stopping_hands_back_what_is_not_answered(world: Any) -> None:
    world.hold = asyncio.Event()
    first, second = world.send("a"), world.send("b")
    running = asyncio.create_task(world.loop().run())
    await world.until(lambda: len(world.computed) == 2)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert sorted(world.released) == sorted([first, second])
    assert world.done == []
    assert world.answers("a") == []


async def test_the_body_goes_back_as_it_came(world: Any) -> None:
    body = {"name": "Nonsense", "genes": ["b", "a"], "extra": {"deep": [1, None]}}
    world.send(body=body, other=[1])
    await world.work()
    notice = world.answer()
    assert notice["request"]["body"] == body
    assert notice["request"]["other"] == [1]
    assert list(notice) == ["request", "response", "type"]


async def test_an_older_object_is_replaced_before_the_computation_and_reported(world: Any) -> None:
    world.sync_stages = [Status.DOWNLOADING, Status.LOADING]
    world.send()
    await world.work()
    assert world.story[:3] == ["STARTED_TASK", "DOWNLOAD_EXPERIMENT", "LOAD_TO_MEMORY"]
    assert world.answer() == {"answer": 42}


async def test_an_experiment_that_cannot_be_served_is_an_error_with_its_reason(world: Any) -> None:
    world.sync_error = WorkerError(ErrorCode.EXPERIMENT_NOT_FOUND, "It is not there.")
    world.send()
    await world.work()
    assert error_of(world.answer()) == ("EXPERIMENT_NOT_FOUND", "It is not there.")
    assert world.computed == []


async def test_a_long_request_leaves_the_queue_as_soon_as_the_journal_has_it(world: Any) -> None:
    world.hold = asyncio.Event()
    message = world.send(body={"name": "Slow"})
    running = asyncio.create_task(world.work(journal=world.journal))
    await world.until(lambda: world.done)
    assert world.done == [message]
    assert world.answers() == []
    assert world.journal.open == {"e1": message}
    world.hold.set()
    await running
    assert world.answer() == {"answer": 42}
    assert world.journal.open == {}


async def test_a_short_request_never_sees_the_journal_when_it_is_quick(world: Any) -> None:
    message = world.send()
    await world.work(journal=world.journal, limits=LoopLimits(journal_after_s=5))
    assert (world.done, world.journal.written) == ([message], 0)


async def test_a_short_request_that_takes_its_time_goes_to_the_journal_too(world: Any) -> None:
    world.hold = asyncio.Event()
    message = world.send()
    running = asyncio.create_task(world.work(journal=world.journal, limits=LoopLimits(journal_after_s=0.01)))
    await world.until(lambda: world.done)
    assert world.journal.open == {"e1": message}
    world.hold.set()
    await running
    assert world.journal.open == {}


async def test_without_the_journal_a_request_stays_in_the_queue_until_it_is_answered(world: Any) -> None:
    world.hold = asyncio.Event()
    world.journal.error = OSError("the store is away")
    message = world.send(body={"name": "Slow"})
    running = asyncio.create_task(world.work(journal=world.journal))
    await world.began.wait()
    assert world.done == []
    world.hold.set()
    await running
    assert world.done == [message]
    assert world.answer() == {"answer": 42}


async def test_what_an_earlier_process_left_is_answered(world: Any) -> None:
    world.journal.leave(world.envelope("e7"), attempt=2)
    await world.work_until(lambda: world.answers("e7"), journal=world.journal)
    assert world.answer("e7") == {"answer": 42}
    assert world.journal.open == {}


async def test_what_ended_three_processes_is_given_up_and_buried(world: Any) -> None:
    world.journal.leave(world.envelope("e7"), attempt=4)
    await world.work_until(lambda: world.answers("e7"), journal=world.journal)
    assert error_of(world.answer("e7"))[0] == "TASK_CRASHED"
    assert world.computed == []
    assert world.journal.buried == ["e7"]
    assert world.journal.open == {}


async def test_a_message_that_comes_back_while_it_is_worked_on_is_not_computed_again(world: Any) -> None:
    world.hold = asyncio.Event()
    world.send(body={"name": "ClusterCells"}, message_id="m1")
    loop = world.loop()
    running = asyncio.create_task(loop.run())
    await world.began.wait()
    world.send(body={"name": "ClusterCells"}, message_id="m1", attempt=2)
    await world.until(lambda: loop.busy == 2)
    world.close()
    world.hold.set()
    await running
    assert len(world.computed) == len(world.patches) == 1
    assert len(world.done) == 2


async def test_a_message_that_comes_back_after_its_answer_is_only_removed(world: Any) -> None:
    loop = world.loop()
    running = asyncio.create_task(loop.run())
    world.send(body={"name": "ClusterCells"}, message_id="m1")
    await world.until(lambda: len(world.done) == 1)
    world.send(body={"name": "ClusterCells"}, message_id="m1", attempt=2)
    await world.until(lambda: len(world.done) == 2)
    world.close()
    await running
    assert len(world.computed) == len(world.patches) == 1


async def test_a_set_that_is_added_has_the_same_key_at_every_attempt_and_another_for_another_message(
    world: Any,
) -> None:
    for number, message_id in enumerate(("m1", "m1", "m2")):
        world.send(f"e{number}", body={"name": "Inserts"}, message_id=message_id, attempt=1 + number % 2)
        await world.work()
    keys = [world.inserted(operations)["key"] for _, operations, _ in world.patches]
    assert keys[0] == keys[1] != keys[2]
    assert world.again == [False, True, False]


async def test_a_change_of_cell_sets_is_in_the_journal_before_it_is_sent(world: Any) -> None:
    world.send(body={"name": "Inserts"}, message_id="m1")
    await world.work(journal=world.journal)
    assert world.journal.written == 1
    assert world.journal.open == {}
    assert len(world.patches) == 1


async def test_without_the_journal_nothing_is_changed_and_the_request_is_kept(world: Any) -> None:
    world.journal.error = OSError("S3 is away")
    message = world.send(body={"name": "Inserts"}, message_id="m1")
    await world.work(journal=world.journal, budgets=RetryBudgets(store_s=0.01, first_pause_s=0.001))
    assert world.patches == []
    assert world.released == [message]
    assert world.answer()["response"]["errorCode"] == "RESULT_NOT_STORED"


async def test_a_pod_that_lost_a_request_stays_silent_and_hands_it_back(world: Any) -> None:
    world.journal.held = False
    world.send(body={"name": "Inserts"}, message_id="m1")
    await world.work(journal=world.journal)
    assert world.patches == []
    assert world.journal.released == ["e1"]
    assert not [name for name, _ in world.events if name.startswith("WorkResponse-")]


async def test_stopping_finishes_what_fits_into_the_grace_period(world: Any) -> None:
    world.hold = asyncio.Event()
    message = world.send()
    loop = world.loop()
    running = asyncio.create_task(loop.run())
    await world.began.wait()
    loop.stop(grace_s=10)
    for _ in range(10):
        await asyncio.sleep(0)
    later = world.send("e2")
    world.hold.set()
    assert await running == 0
    assert world.done == [message]
    assert later not in world.done
    assert world.answers("e2") == []


async def test_stopping_hands_back_what_does_not_fit(world: Any) -> None:
    world.hold = asyncio.Event()
    quick, slow = world.send("e1"), world.send("e2", body={"name": "Slow"})
    loop = world.loop(journal=world.journal, limits=LoopLimits(journal_after_s=60))
    running = asyncio.create_task(loop.run())
    await world.until(lambda: slow in world.done)
    loop.stop(grace_s=0.01)
    assert await running == 2
    assert world.released == [quick]
    assert world.journal.released == ["e2"]


async def test_only_so_many_answers_are_remembered() -> None:
    recent = LruNames(2)
    for name in "abc":
        recent.add(name)
    assert [name in recent for name in "abc"] == [False, True, True]


async def test_the_upload_of_one_result_delays_no_other(world: Any) -> None:
    world.slow_uploads["e1"] = asyncio.Event()
    running = asyncio.create_task(world.loop().run())
    world.send("e1")
    await world.until(lambda: "UPLOADING_DATA" in world.story)
    for number in range(2, 12):
        world.send(f"e{number}")
    await world.until(lambda: all(world.answers(f"e{number}") for number in range(2, 12)))
    assert world.answers("e1") == []
    world.slow_uploads["e1"].set()
    await world.until(lambda: world.answers("e1"))
    world.close()
    await running
