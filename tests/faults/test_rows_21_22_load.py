"""Rows 21 and 22 of the fault matrix: many short requests behind a long one, and a client that has gone away."""

import asyncio
import time
from pathlib import Path

import aiohttp
import pytest
from world import HEATMAP, LIST_GENES, Pod, World, eventually, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

FETCHES = 1000
PER_SECOND = 100


GENES = ["CD3D", "MS4A1", "MKI67", "LYZ", "NKG7"]


async def test_row_21_a_thousand_gene_fetches_are_answered_while_a_long_computation_runs(
    shared_world: World, pod: Pod
) -> None:
    world = shared_world
    sent: dict[str, float] = {}

    async def fetch(number: int) -> None:
        await asyncio.sleep(began + number / PER_SECOND - time.perf_counter())
        sent[f"fetch-{number}"] = time.perf_counter()
        body = {"name": "GeneExpression", "genes": [GENES[number % len(GENES)]]}
        await world.send(body, etag=f"fetch-{number}")

    with pod.faulty("hold", "MarkerHeatmap"):
        long = await world.send(HEATMAP)
        await pod.began("MarkerHeatmap")
        await eventually(world.journal, "the long request is in the journal")
        began = time.perf_counter()
        await asyncio.gather(*map(fetch, range(FETCHES)))
        for etag in sent:
            await world.answer(etag)
        seconds = time.perf_counter() - began
        assert world.answers(long) == []
    assert (await world.answer(long))["orderedGeneNames"]
    waits = sorted(world.first_heard[f"WorkResponse-{etag}"] - moment for etag, moment in sent.items())
    p50, p95 = waits[FETCHES // 2], waits[FETCHES * 95 // 100]
    print(f"from sending to hearing: p50 {p50:.3f} s, p95 {p95:.3f} s; {FETCHES} in {seconds:.1f} s")
    await world.settled()


async def test_row_21_at_most_the_capacity_is_taken_from_the_queue(shared_world: World, pod: Pod) -> None:
    world, limit = shared_world, 32  # of SHORT_IN_FLIGHT
    with pod.faulty("hold", "GetDoubletScore"):
        etags = [await world.send({"name": "GetDoubletScore"}, etag=f"score-{number}") for number in range(limit + 8)]

        async def full() -> bool:
            return await pod.metric('cellworker_in_flight{lane="short"}') == limit

        await eventually(full, "as many are held as may be")
        assert await _backlog(pod), "it says so"
        assert sum(await world.queued()) >= 8
    for etag in etags:
        await world.answer(etag)
    await world.settled()
    assert not await _backlog(pod)


async def _backlog(pod: Pod) -> bool:
    _, health = await pod.health("/health")
    return bool(health["conditions"]["backlog"]["trouble"])


@pytest.mark.parametrize("way", ["hold", "spin"])
async def test_row_22_a_computation_without_waiting_clients_is_cancelled(
    shared_world: World, pod: Pod, way: str
) -> None:
    """It notices where it tells of its progress, and where it does not its process is ended."""
    task = "GetMitochondrialContent"
    began = pod.computed(task)
    with pod.faulty(way, task):
        asking = asyncio.create_task(pod.ask_engine("getMitochondrialContent", {}))
        process = await pod.began(task, began + 1)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        gone = time.perf_counter()
        await eventually(lambda: _idle(pod), "the engine computes nothing")
        seconds = time.perf_counter() - gone
        print(f"over {seconds:.2f} s after the client had gone")
        assert seconds < 5.0
        if way == "spin":
            await until(lambda: not _lives(process), "its process is gone")
    etag = await shared_world.send(LIST_GENES)
    assert len((await shared_world.answer(etag))["gene_names"]) == 4
    await shared_world.settled()


async def _idle(pod: Pod) -> bool:
    async with aiohttp.ClientSession() as session, session.get(f"{pod.engine_url}/health/ready") as answer:
        return all(lane["running"] == 0 for lane in (await answer.json())["lanes"].values())


def _lives(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
