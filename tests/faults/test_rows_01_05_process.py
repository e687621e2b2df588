"""Rows 1 to 5 of the fault matrix: a process ends in the midst of a request, by force or by a polite signal."""

import signal

import pytest
from world import HEATMAP, LIST_GENES, NEW_SET, TOKEN, Pod, World, eventually, until

IN_THE_QUEUE = {"JOURNAL_AFTER_S": 600}
"""A short request stays in the queue, however long it takes."""
HIDDEN_S = 31
"""Longer than a message is hidden (VISIBILITY_S)."""
SILENT_S = 120
"""Longer than the owner of a journal entry may be silent."""


async def in_journal(world: World, entries: int = 1) -> None:
    """Wait until the queue is empty and the journal holds so many requests."""

    async def holds() -> bool:
        return await world.queued() == (0, 0) and len(await world.journal()) == entries

    await eventually(holds, f"{entries} requests are in the journal")


async def counted(world: World, action: str, times: int = 1) -> None:
    """Wait until S3 or SQS was asked for an action so often."""
    service = world.sqs if "Message" in action else world.s3
    await until(lambda: service.counts().get(action, 0) >= times, f"{action} {times} times")


async def test_row_01_a_short_request_of_a_killed_gateway_comes_back_from_the_queue(world: World) -> None:
    pod = world.pod(**IN_THE_QUEUE)
    pod.fault("hold", "ListGenes")
    pod.start()
    etag = await world.send(LIST_GENES)
    await pod.began("ListGenes")
    pod.gateway.kill()
    pod.clear("hold", "ListGenes")
    pod.gateway.start()
    world.sqs.advance(HIDDEN_S)
    assert len((await world.answer(etag))["gene_names"]) == 4
    await world.settled()
    assert pod.computed("ListGenes") == 2
    (line,) = pod.gateway.said("request answered", etag=etag)
    assert (line["attempt"], line["outcome"]) == (2, "done")
    assert len(world.answers(etag)) == 1
    assert pod.leftovers() == []


async def test_row_01_a_long_request_of_a_killed_gateway_is_taken_over_when_it_starts_again(world: World) -> None:
    pod = world.pod()
    pod.fault("hold", "MarkerHeatmap")
    pod.start()
    etag = await world.send(HEATMAP)
    await pod.began("MarkerHeatmap")
    await in_journal(world)
    pod.gateway.kill()
    pod.clear("hold", "MarkerHeatmap")
    pod.gateway.start()
    assert (await world.answer(etag))["orderedGeneNames"]
    await world.settled()
    assert pod.gateway.said("request taken over", etag=etag, own=True, attempt=2)
    assert len(world.answers(etag)) == 1
    assert pod.leftovers() == []


async def destroyed_with_two_requests(world: World, pod: Pod) -> tuple[str, str]:
    """Destroys a pod while it computes a heatmap and a new cell set; returns the ETags of these requests."""
    for task in ("MarkerHeatmap", "GetExpressionCellSets"):
        pod.fault("hold", task)
    pod.start()
    picture, made = await world.send(HEATMAP), await world.send(NEW_SET)
    await pod.began("MarkerHeatmap")
    await pod.began("GetExpressionCellSets")
    await in_journal(world, entries=2)
    pod.destroy()
    world.s3.advance(SILENT_S)
    return picture, made


async def test_row_01_requests_of_a_destroyed_pod_are_answered_by_another_pod_of_the_experiment(world: World) -> None:
    shared_key = {"JOURNAL_KEY": "a-secret-that-all-pods-of-the-release-share"}
    first, second = world.pod("pod-1", **shared_key), world.pod("pod-2", **shared_key)
    picture, made = await destroyed_with_two_requests(world, first)
    second.start()
    assert (await world.answer(picture))["orderedGeneNames"]
    assert (await world.answer(made))["response"]["error"] is False
    assert (await world.scratchpad()).count("CD3D>0.5") == 1
    assert world.api.tokens == [f"Bearer {TOKEN}"], "it is patched in the name of the user who asked"
    await world.settled()


async def test_row_01_requests_of_a_destroyed_pod_are_answered_by_an_idle_pod_without_a_label(world: World) -> None:
    first, idle = world.pod("pod-1"), world.pod("pod-2", label=False, RESCUE="true")
    picture, made = await destroyed_with_two_requests(world, first)
    idle.start()
    assert (await world.answer(picture))["orderedGeneNames"]
    # Without a key that both pods share, nobody knows the user's token any more: the user is told to start again.
    assert await world.error(made) == "CELL_SETS_UPDATE_FAILED"
    assert "CD3D>0.5" not in await world.scratchpad()
    await world.settled()
    assert idle.gateway.said("finishing requests of a pod that is no more", experiment=world.experiment_id)


@pytest.mark.parametrize("lane", ["short", "long"])
async def test_row_02_a_result_that_was_stored_but_not_announced_is_announced_and_not_computed_again(
    world: World, lane: str
) -> None:
    body = LIST_GENES if lane == "short" else HEATMAP
    task = str(body["name"])
    pod = world.pod(**(IN_THE_QUEUE if lane == "short" else {}))
    pod.fault("hold", task)
    pod.start()
    etag = await world.send(body)
    await pod.began(task)
    if lane == "long":
        await in_journal(world)
    puts = world.s3.counts().get("PutObject", 0)
    world.s3.fault("PutObject", latency_s=0.3)
    pod.clear("hold", task)
    await counted(world, "PutObject", puts + 1)
    world.redis.kill()
    await eventually(lambda: world.keys(prefix=etag), "the result is stored")
    pod.gateway.kill()
    world.s3.clear()
    world.redis.start()
    await world.heeded()
    assert world.answers(etag) == []
    world.sqs.advance(HIDDEN_S)
    pod.gateway.start()
    notice = await world.answer(etag)
    assert notice["response"] == {
        "cacheable": True,
        "error": False,
        "signedUrl": world.sent[etag]["signedUrl"],
    }
    await world.settled()
    assert pod.computed(task) == 1


@pytest.mark.parametrize("lane", ["short", "long"])
async def test_row_03_an_answered_request_that_was_not_removed_is_announced_again_and_not_computed_again(
    world: World, lane: str
) -> None:
    body = LIST_GENES if lane == "short" else HEATMAP
    pod = world.pod(**(IN_THE_QUEUE if lane == "short" else {}))
    # What is answered is deleted from the queue, or removed from the journal: neither gets through.
    service, action = (world.sqs, "DeleteMessageBatch") if lane == "short" else (world.s3, "DeleteObject")
    service.fault(action, latency_s=600)
    pod.start()
    etag = await world.send(body)
    await world.answer(etag)
    await counted(world, action)
    pod.gateway.kill()
    service.clear()
    world.sqs.advance(HIDDEN_S)
    pod.gateway.start()
    notice = await world.answer(etag, times=2)
    assert notice["response"]["cacheable"] is True
    await world.settled()
    assert pod.computed(str(body["name"])) == 1


async def test_row_04_sigterm_finishes_what_fits_and_hands_the_rest_back(world: World) -> None:
    pod = world.pod("pod-1", GRACE_S=5, **IN_THE_QUEUE)
    pod.fault("hold", "MarkerHeatmap")
    pod.fault("hold", "GetDoubletScore")
    pod.start()
    fits, too_long = await world.send(HEATMAP), await world.send({"name": "GetDoubletScore"})
    await pod.began("MarkerHeatmap")
    await pod.began("GetDoubletScore")
    pod.gateway.signal(signal.SIGTERM)
    await until(lambda: pod.gateway.said("stopping"), "it begins to stop")
    late = await world.send(LIST_GENES)
    pod.clear("hold", "MarkerHeatmap")
    assert (await world.answer(fits))["orderedGeneNames"]
    # The kubelet would kill it at the end of the pod's own grace period.
    assert await pod.gateway.ended(within_s=8) == 0
    assert pod.gateway.said("stopped", handed_back=1)
    assert world.answers(too_long) == world.answers(late) == []
    assert await world.journal() == []

    world.sqs.advance(HIDDEN_S)
    successor = world.pod("pod-2")
    successor.start()
    assert len(await world.answer(too_long)) > 0
    assert len((await world.answer(late))["gene_names"]) == 4
    await world.settled()
    assert (pod.computed("ListGenes"), successor.computed("ListGenes")) == (0, 1), "it took nothing after the signal"


async def test_row_04_a_long_request_is_free_for_another_pod_as_soon_as_its_pod_has_ended(world: World) -> None:
    pod = world.pod("pod-1", GRACE_S=0)
    pod.fault("hold", "MarkerHeatmap")
    pod.start()
    etag = await world.send(HEATMAP)
    await pod.began("MarkerHeatmap")
    await in_journal(world)
    pod.gateway.signal(signal.SIGTERM)
    assert await pod.gateway.ended() == 0
    successor = world.pod("pod-2")
    successor.start()
    assert (await world.answer(etag))["orderedGeneNames"]
    assert successor.gateway.said("request taken over", etag=etag, own=False)
    await world.settled()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_row_05_a_second_signal_ends_it_at_once_and_nothing_is_lost(world: World, number: signal.Signals) -> None:
    pod = world.pod(GRACE_S=600, **IN_THE_QUEUE)
    pod.fault("hold", "MarkerHeatmap")
    pod.fault("hold", "ListGenes")
    pod.start()
    picture = await world.send(HEATMAP)
    await in_journal(world)
    genes = await world.send(LIST_GENES)
    await pod.began("MarkerHeatmap")
    await pod.began("ListGenes")
    pod.gateway.signal(number)
    await until(lambda: pod.gateway.said("stopping"), "it begins to stop")
    pod.gateway.signal(number)
    assert await pod.gateway.ended(within_s=8) == 1
    pod.clear("hold", "MarkerHeatmap")
    pod.clear("hold", "ListGenes")
    world.sqs.advance(HIDDEN_S)
    pod.gateway.start()
    assert (await world.answer(picture))["orderedGeneNames"]
    assert len((await world.answer(genes))["gene_names"]) == 4
    await world.settled()
    assert pod.leftovers() == []
