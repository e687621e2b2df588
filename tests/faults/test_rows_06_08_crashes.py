"""Rows 6 to 8 of the fault matrix: requests that need too much memory, or end what works on them."""

import json
from typing import Any

import pytest
from world import HEATMAP, LIST_GENES, RESULTS, TOKEN, World, eventually, until

HIDDEN_S = 31
"""Longer than a message is hidden (VISIBILITY_S)."""


async def dead_record(world: World, etag: str) -> dict[str, Any]:
    """What is kept of a request that was given up."""
    text = (await world.object(RESULTS, f".dead/{world.experiment_id}/{etag}")).decode()
    assert TOKEN not in text
    return json.loads(text)  # type: ignore[no-any-return]


async def test_row_06_a_computation_that_needs_too_much_memory_fails_alone(world: World) -> None:
    pod = world.pod(engine={"TASK_MEMORY_GB": "0.3"})
    pod.fault("eat", "GetDoubletScore")
    pod.start()
    greedy, modest = await world.send({"name": "GetDoubletScore"}), await world.send(LIST_GENES)
    assert await world.error(greedy) == "OUT_OF_MEMORY"
    message = world.answers(greedy)[0]["response"]["userMessage"]
    assert "0.3 GB" in message
    assert len((await world.answer(modest))["gene_names"]) == 4
    await world.settled()
    assert pod.computed("GetDoubletScore") == 1, "asking again would not help"
    assert len(pod.engine.said("experiment ready")) == 1, "the experiment was not loaded again"
    assert pod.leftovers() == []


async def test_row_06_a_computation_whose_process_aborts_fails_alone(world: World) -> None:
    pod = world.pod()
    pod.fault("abort", "GetDoubletScore")
    pod.start()
    broken, sound = await world.send({"name": "GetDoubletScore"}), await world.send(LIST_GENES)
    assert await world.error(broken) == "TASK_CRASHED"
    assert len((await world.answer(sound))["gene_names"]) == 4
    await world.settled()
    assert pod.computed("GetDoubletScore") == 1
    assert len(pod.engine.said("experiment ready")) == 1
    assert pod.leftovers() == []


async def test_row_07_a_request_during_which_the_whole_pod_is_killed_is_given_up_after_three_attempts(
    world: World,
) -> None:
    pod = world.pod()
    pod.fault("hold", "MarkerHeatmap")
    etag = await world.send(HEATMAP)
    for attempt in (1, 2, 3):
        pod.start()
        await pod.began("MarkerHeatmap", attempt)
        await eventually(world.journal, "the request is in the journal")
        pod.kill()
        assert world.answers(etag) == []
    pod.start()
    assert await world.error(etag) == "TASK_CRASHED"
    await world.settled()
    assert pod.computed("MarkerHeatmap") == 3
    record = await dead_record(world, etag)
    assert record["request"]["body"] == HEATMAP
    assert record["reason"] == world.answers(etag)[0]["response"]["userMessage"]
    other = await world.send(LIST_GENES)
    assert len((await world.answer(other))["gene_names"]) == 4
    assert pod.leftovers() == []


async def test_row_08_a_request_that_kills_the_engine_each_time_is_given_up_after_three_attempts(world: World) -> None:
    pod = world.pod()
    pod.fault("ill", "GetDoubletScore")
    pod.start()
    async with pod.engine.kept_alive() as ends:
        etag = await world.send({"name": "GetDoubletScore"})
        assert await world.error(etag) == "TASK_CRASHED"
        await until(lambda: len(ends) == 3, "the engine was killed for the third time")
        other = await world.send(LIST_GENES)
        assert len((await world.answer(other))["gene_names"]) == 4
        await world.settled()
        assert ends == [-9, -9, -9]
    assert pod.computed("GetDoubletScore") == 3
    assert pod.leftovers() == []


@pytest.mark.parametrize("lane", ["short", "long"])
async def test_row_08_a_request_that_kills_the_gateway_each_time_is_given_up_after_three_attempts(
    world: World, lane: str
) -> None:
    body, settings = (LIST_GENES, {"JOURNAL_AFTER_S": 600}) if lane == "short" else (HEATMAP, {})
    task = str(body["name"])
    pod = world.pod(**settings)
    pod.fault("hold", task)
    pod.engine.start()
    etag = await world.send(body)
    for attempt in (1, 2, 3):
        pod.gateway.start()
        await pod.began(task, attempt)
        if lane == "long":
            await eventually(world.journal, "the request is in the journal")
        pod.gateway.kill()
        world.sqs.advance(HIDDEN_S)
    pod.gateway.start()
    assert await world.error(etag) == "TASK_CRASHED"
    await world.settled()
    assert pod.computed(task) == 3
    assert (await dead_record(world, etag))["request"]["body"] == body
    pod.clear("hold", task)
    other = await world.send({"name": "GetDoubletScore"})
    assert len(await world.answer(other)) > 0
    assert pod.leftovers() == []
