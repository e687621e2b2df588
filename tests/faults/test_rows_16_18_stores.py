"""Rows 16 to 18 of the fault matrix: the object store fails, is slow or breaks off; Redis is away or is not Redis."""

import signal

import pytest
from world import FILE, LIST_GENES, PASSWORD, PLATFORM_RIGHTS, RESULTS, World, eventually, until

from cloud.servers import start_redis

HIDDEN_S = 31
"""Longer than a message is hidden (VISIBILITY_S)."""
IN_THE_QUEUE = {"JOURNAL_AFTER_S": 600}
BIG = 70_000_000
"""Bytes; such a file is stored in parts."""
FILE_TASK = "GetNormalizedExpression"


async def stored(world: World, etag: str) -> dict[str, int]:
    return await world.keys(prefix=etag)


async def test_row_16_a_result_is_stored_when_the_store_has_failed_three_times(world: World) -> None:
    pod = world.pod(**IN_THE_QUEUE)
    pod.start()
    await pod.ready()
    world.s3.fault("PutObject", fail=3, status=503, code="SlowDown")
    etag = await world.send(LIST_GENES)
    assert len((await world.answer(etag))["gene_names"]) == 4
    await world.settled()
    assert list(await stored(world, etag)) == [etag]
    assert pod.computed("ListGenes") == 1
    assert len(world.answers(etag)) == 1


async def test_row_16_a_result_that_cannot_be_stored_is_reported_and_tried_three_times(world: World) -> None:
    pod = world.pod(STORE_PATIENCE_S=0.5, **IN_THE_QUEUE)
    pod.start()
    await pod.ready()
    # Nothing but results: the record of what was given up can be written.
    world.s3.restrict(allow=PLATFORM_RIGHTS, deny=[f"s3:PutObject/{RESULTS}/[0-9a-f]*"])
    lost = await world.send(LIST_GENES)
    for time in (1, 2, 3):
        notice = await world.answer(lost, times=time)
        assert notice["response"]["errorCode"] == "RESULT_NOT_STORED"
        assert await world.queued() != (0, 0), "the request is kept"
        world.sqs.advance(HIDDEN_S)
    notice = await world.answer(lost, times=4)
    assert "given up" in notice["response"]["userMessage"]
    await world.settled()
    assert await stored(world, lost) == {}
    assert f".dead/{world.experiment_id}/{lost}" in await world.keys(prefix=".dead/")

    late = await world.send({"name": "GetDoubletScore"})
    assert await world.error(late) == "RESULT_NOT_STORED"
    world.s3.restrict(allow=PLATFORM_RIGHTS)
    world.sqs.advance(HIDDEN_S)
    assert len(await world.answer(late, times=2)) > 0
    await world.settled()
    assert list(await stored(world, late)) == [late]


async def test_row_17_a_slow_store_delays_no_other_request_and_a_broken_upload_is_repeated(world: World) -> None:
    pod = world.pod()
    pod.fault("big", FILE_TASK, "100000")
    pod.start()
    await pod.ready()
    world.s3.fault("PutObject", bandwidth=50_000)
    slow = await world.send(FILE)
    await until(lambda: "UPLOADING_DATA" in world.statuses(), "the file is being uploaded")
    quick = await world.send(LIST_GENES)
    assert len((await world.answer(quick))["gene_names"]) == 4
    assert world.answers(slow) == []
    assert await stored(world, slow) == {}, "no half object"
    assert (await world.answer(slow))["response"]["cacheable"] is True
    assert await stored(world, slow) == {slow: 100_000}

    world.s3.fault("PutObject", reset_after_bytes=50_000, times=2)
    broken = await world.send({**FILE, "subsetBy": {"louvain": ["louvain-0"]}})
    assert (await world.answer(broken))["response"]["error"] is False
    assert await stored(world, broken) == {broken: 100_000}
    await world.settled()
    assert pod.computed(FILE_TASK) == 2
    assert pod.leftovers() == []


async def test_row_17_parts_of_a_large_file_that_break_off_are_sent_again(world: World) -> None:
    pod = world.pod()
    pod.fault("big", FILE_TASK, str(BIG))
    pod.start()
    world.s3.fault("UploadPart", reset_after_bytes=1_000_000, times=2)
    etag = await world.send(FILE)
    assert (await world.answer(etag))["response"]["error"] is False
    assert await stored(world, etag) == {etag: BIG}
    assert await world.tags(etag) == {"experimentId": world.experiment_id, "requestType": FILE_TASK}
    await world.settled()
    assert world.s3.admin()["uploads"] == []
    assert pod.computed(FILE_TASK) == 1
    assert pod.leftovers() == []


@pytest.mark.parametrize("may_abort", [True, False])
async def test_row_17_a_large_file_that_cannot_be_stored_leaves_no_object_and_no_file(
    world: World, may_abort: bool
) -> None:
    if may_abort:
        world.s3.restrict(allow=[*PLATFORM_RIGHTS, "s3:AbortMultipartUpload"])
    pod = world.pod(STORE_PATIENCE_S=0.5, MAX_ATTEMPTS=1)
    pod.fault("big", FILE_TASK, str(BIG))
    pod.start()
    world.s3.fault("UploadPart", fail=1_000_000, status=403, code="AccessDenied")
    etag = await world.send(FILE)
    assert await world.error(etag) == "RESULT_NOT_STORED"
    assert await stored(world, etag) == {}
    assert (world.s3.admin()["uploads"] == []) is may_abort
    assert bool(pod.gateway.said("parts of an upload could not be removed")) is not may_abort
    assert pod.leftovers() == []
    other = await world.send(LIST_GENES)
    assert len((await world.answer(other))["gene_names"]) == 4


async def test_row_17_a_gateway_killed_while_it_uploads_a_large_file_is_followed_by_one_that_stores_it(
    world: World,
) -> None:
    pod = world.pod()
    pod.fault("big", FILE_TASK, str(BIG))
    pod.start()
    world.s3.fault("UploadPart", latency_s=600)
    etag = await world.send(FILE)
    await until(lambda: world.s3.counts().get("UploadPart", 0), "parts are being sent")
    pod.gateway.kill()
    world.s3.clear()
    assert await stored(world, etag) == {}
    pod.gateway.start()
    assert (await world.answer(etag))["response"]["error"] is False
    assert await stored(world, etag) == {etag: BIG}
    await world.settled()


async def test_row_18_an_answer_waits_until_redis_is_back(world: World) -> None:
    pod = world.pod()
    pod.fault("hold", "ListGenes")
    pod.start()
    etag = await world.send(LIST_GENES)
    await pod.began("ListGenes")
    world.redis.kill()
    pod.clear("hold", "ListGenes")
    await eventually(lambda: stored(world, etag), "the result is stored")
    await until(lambda: pod.gateway.said("redis out of reach"), "it says so")
    assert (await pod.health())[0] == 200, "a short outage is tolerated"
    # The API's servers are there again before the gateway is, as the test is here.
    pod.gateway.signal(signal.SIGSTOP)
    world.redis.start()
    await world.heeded()
    pod.gateway.signal(signal.SIGCONT)
    assert len((await world.answer(etag))["gene_names"]) == 4
    await world.settled()
    assert pod.gateway.said("redis is back")
    assert pod.computed("ListGenes") == 1


async def test_row_18_a_redis_with_a_wrong_certificate_hears_nothing(world: World) -> None:
    with start_redis(tls=True, password=PASSWORD) as bus:
        async with world.listening(bus):
            pod = world.pod(REDIS_URL=bus.url)
            pod.start()
            etag = await world.send(LIST_GENES)
            await eventually(lambda: stored(world, etag), "the result is stored")
            await until(lambda: pod.gateway.said("redis out of reach"), "it says so")
            (line,) = pod.gateway.said("redis out of reach")
            assert "certificate" in line["reason"].lower()
            assert world.events == []
            pod.gateway.kill()

            world.sqs.advance(HIDDEN_S)
            pod.gateway.environment["REDIS_CERTIFICATES"] = "do not verify"
            pod.gateway.start()
            assert (await world.answer(etag))["response"]["cacheable"] is True
            await world.settled()
            assert pod.computed("ListGenes") == 1
            pod.gateway.kill()

            # With the authority's certificate it is trusted, and checked.
            pod.gateway.environment.update({"REDIS_CERTIFICATES": "verify", "SSL_CERT_FILE": str(bus.ca_file)})
            pod.gateway.start()
            other = await world.send({"name": "GetDoubletScore"})
            assert len(await world.answer(other)) > 0
            await world.settled()
