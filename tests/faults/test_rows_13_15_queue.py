"""Rows 13 to 15 of the fault matrix: the queue gives a message out again, forbids something, or is away."""

from typing import Any

import pytest
from world import LIST_GENES, PLATFORM_RIGHTS, RESULTS, World, eventually, open_world, until

AGAIN = 'cellworker_deliveries_total{attempt="2"}'
DEGRADED = "cellworker_visibility_extension_denied"


async def test_row_13_a_message_that_comes_back_while_it_is_worked_on_is_not_computed_twice(world: World) -> None:
    # The journal, which would take the message out of the queue, cannot be written.
    world.s3.restrict(allow=PLATFORM_RIGHTS, deny=[f"s3:PutObject/{RESULTS}/.journal/*"])
    pod = world.pod()
    pod.fault("hold", "ListGenes")
    pod.start()
    etag = await world.send(LIST_GENES)
    await pod.began("ListGenes")
    await until(lambda: pod.gateway.said("request could not be journalled"), "the journal is tried")
    world.sqs.advance(31)

    async def came_back() -> bool:
        return await pod.metric(AGAIN) == 1

    await eventually(came_back, "the message is delivered again")
    pod.clear("hold", "ListGenes")
    assert len((await world.answer(etag))["gene_names"]) == 4
    await world.settled()
    assert pod.computed("ListGenes") == 1
    assert pod.gateway.alive
    assert not pod.gateway.said("answered request could not be removed")


async def test_row_14_without_the_right_to_hide_messages_it_says_so_once_and_works(world: World) -> None:
    pod = world.pod(VISIBILITY_S=1, JOURNAL_AFTER_S=600)
    pod.fault("hold", "ListGenes")
    pod.start()
    first = await world.send(LIST_GENES)
    await pod.began("ListGenes")

    async def came_back() -> bool:
        return await pod.metric('cellworker_deliveries_total{attempt="3+"}') >= 1

    await eventually(came_back, "the message comes back, and again")
    assert await pod.metric(DEGRADED) == 1
    pod.clear("hold", "ListGenes")
    assert len((await world.answer(first))["gene_names"]) == 4
    second = await world.send({"name": "GetDoubletScore"})
    assert len(await world.answer(second)) > 0
    await world.settled()
    (line,) = pod.gateway.said("messages cannot be kept hidden")
    assert (line["right"], line["level"]) == ("sqs:ChangeMessageVisibility", "WARNING")
    assert pod.computed("ListGenes") == 1
    assert (await pod.health())[0] == 200


async def test_row_14_with_the_right_to_hide_messages_they_stay_hidden(world: World) -> None:
    world.sqs.restrict(allow=[*PLATFORM_RIGHTS, "sqs:ChangeMessageVisibility"])
    pod = world.pod(VISIBILITY_S=1, JOURNAL_AFTER_S=600)
    pod.fault("hold", "ListGenes")
    pod.start()
    etag = await world.send(LIST_GENES)
    await pod.began("ListGenes")
    await until(lambda: world.sqs.counts().get("ChangeMessageVisibilityBatch", 0) >= 4, "it is extended, and again")
    pod.clear("hold", "ListGenes")
    assert len((await world.answer(etag))["gene_names"]) == 4
    await world.settled()
    assert await pod.metric(AGAIN) == 0
    assert await pod.metric(DEGRADED) == 0
    assert not pod.gateway.said("messages cannot be kept hidden")


async def test_row_15_work_begins_when_the_queue_is_made(tmp_path: Any, platform: Any) -> None:
    async with open_world(tmp_path, platform, queue=False) as world:
        pod = world.pod()
        pod.start()
        await pod.ready()
        await until(lambda: world.sqs.counts().get("GetQueueUrl", 0) >= 2, "it looks for the queue, and again")
        await eventually(lambda: _ready(pod), "a queue that is not there yet is no trouble")
        await world.create_queue()
        etag = await world.send(LIST_GENES)
        assert len((await world.answer(etag))["gene_names"]) == 4
        assert not pod.gateway.said("queue cannot be reached")


async def test_row_15_work_goes_on_after_the_queue_was_away(world: World) -> None:
    pod = world.pod()
    pod.start()
    await pod.ready()

    async def answered() -> None:
        etag = await world.send({**LIST_GENES, "limit": 3})
        assert len((await world.answer(etag))["gene_names"]) == 3

    await answered()
    faults = [{"status": 503, "code": "ServiceUnavailable"}, {"status": 400, "code": "ThrottlingException"}]
    for troubles, fault in enumerate(faults, 1):
        world.sqs.fault("ReceiveMessage", fail=4, **fault)
        await world.send({"name": "GetDoubletScore"})  # ends the wait of the last receive that is all right
        await until(lambda n=troubles: len(pod.gateway.said("queue can be reached again")) == n, "it is back")
        await answered()
    world.sqs.fault("DeleteMessageBatch", fail=3)
    await answered()
    world.sqs.refuse(1.5)
    await until(lambda: len(pod.gateway.said("queue cannot be reached")) == 3, "it is away")
    assert await _ready(pod), "a short outage is tolerated"
    _, health = await pod.health("/health")
    assert health["conditions"]["queue"]["trouble"]
    await until(lambda: len(pod.gateway.said("queue can be reached again")) == 3, "it is back")
    world.sqs.kill()
    await until(lambda: len(pod.gateway.said("queue cannot be reached")) == 4, "it is away")
    world.sqs.start()
    await until(lambda: len(pod.gateway.said("queue can be reached again")) == 4, "it is back")
    await answered()
    await world.settled()
    assert await _ready(pod)
    _, health = await pod.health("/health")
    assert health["conditions"]["queue"]["trouble"] is None


async def _ready(pod: Any) -> bool:
    return (await pod.health())[0] == 200


@pytest.mark.parametrize("after", ["receive", "delete"])
async def test_row_15_an_answer_of_the_queue_that_gets_lost_loses_nothing(world: World, after: str) -> None:
    pod = world.pod()
    pod.start()
    await pod.ready()
    world.sqs.fault("ReceiveMessage" if after == "receive" else "DeleteMessageBatch", drop_answer=1)
    etag = await world.send(LIST_GENES)
    assert len((await world.answer(etag))["gene_names"]) == 4
    await world.settled()
    assert pod.computed("ListGenes") == 1
