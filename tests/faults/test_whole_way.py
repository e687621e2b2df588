"""The way of requests through the real processes, and what they leave behind."""

import gzip
import json
import signal
from pathlib import Path
from typing import Any

from world import (
    CELL_SETS,
    EVERY_TASK,
    GENE_EXPRESSION,
    HEATMAP,
    LIST_GENES,
    NEW_SET,
    PASSWORD,
    RESULTS,
    SECRET_KEY,
    TOKEN,
    World,
    eventually,
)

from secret_scan import assert_no_secrets, find_secrets

SECRETS = {"token": TOKEN, "AWS key": SECRET_KEY, "password of Redis": PASSWORD}


async def test_requests_of_every_kind_are_answered_and_nothing_is_left(world: World) -> None:
    pod = world.pod()
    pod.start()
    genes = await world.send(LIST_GENES)
    values = await world.send(GENE_EXPRESSION)
    picture = await world.send(HEATMAP)
    made = await world.send(NEW_SET, requestProps={"broadcast": True})
    assert len((await world.answer(genes))["gene_names"]) == 4
    assert await world.answer(values)
    assert await world.answer(picture)
    assert (await world.answer(made))["response"] == {
        "cacheable": False,
        "error": False,
        "signedUrl": world.sent[made]["signedUrl"],
    }
    assert (await world.scratchpad())[-1] == "CD3D>0.5"
    assert world.api.tokens == [f"Bearer {TOKEN}"]
    assert await world.tags(genes) == {"experimentId": world.experiment_id, "requestType": "ListGenes"}
    await world.settled()
    assert TOKEN not in json.dumps(world.events)
    assert pod.gateway.said("request answered", outcome="done", task="MarkerHeatmap")


async def test_every_task_is_answered(world: World) -> None:
    pod = world.pod()
    pod.start()
    etags = {str(body["name"]): await world.send(body) for body in EVERY_TASK}
    for name, etag in etags.items():
        answer = await world.answer(etag)
        assert answer, name
        assert "response" not in answer or not answer["response"]["error"], answer
    await world.settled()
    table = gzip.decompress(await world.object(RESULTS, etags["GetNormalizedExpression"]))
    assert table.startswith(b", ,")
    assert pod.leftovers() == []


async def test_no_secret_is_left_anywhere(world: World, tmp_path: Path) -> None:
    pod = world.pod(GRACE_S=0, LOG_LEVEL="DEBUG", engine={"LOG_LEVEL": "DEBUG"})
    pod.start()
    await world.answer(await world.send(HEATMAP))
    await world.answer(await world.send(NEW_SET, requestProps={"broadcast": True, "authJWT": TOKEN}))
    world.api.fail = [401, 401]
    refused = await world.send({**NEW_SET, "name": "GetExpressionCellSets"}, etag="refused")
    assert await world.error(refused) == "CELL_SETS_UPDATE_FAILED"
    assert await world.error(await world.send({"name": "Nothing", "authJWT": TOKEN})) == "INVALID_INPUT"
    await world.send_text(json.dumps({"ETag": "odd", "Authorization": f"Bearer {TOKEN}", "timeout": 5}))
    assert await world.error("odd") == "INVALID_INPUT"
    await world.send_text(f'{{"Authorization": "Bearer {TOKEN}"')
    world.s3.fault("PutObject", fail=1)
    world.redis.kill()
    world.redis.start()
    await world.heeded()
    await world.answer(await world.send(GENE_EXPRESSION), times=1)
    pod.fault("abort", "GetDoubletScore")
    assert await world.error(await world.send({"name": "GetDoubletScore"})) == "TASK_CRASHED"

    # One request lies in the journal, whose process is killed; it is taken over, and lies there again at the end.
    pod.fault("hold", "GetExpressionCellSets")
    held = await world.send({**NEW_SET, "authJWT": TOKEN}, etag="held")
    await eventually(world.journal, "the request is in the journal")
    await pod.began("GetExpressionCellSets", 3)
    pod.gateway.kill()
    pod.gateway.start()
    await pod.began("GetExpressionCellSets", 4)
    _, metrics = await pod.health("/metrics")
    _, health = await pod.health("/health")
    pod.gateway.signal(signal.SIGTERM)
    assert await pod.gateway.ended() == 0
    assert await world.journal()
    assert world.answers(held) == []

    (pod.data / world.experiment_id / "r.rds").unlink()  # the experiment: large, and the same as in the store
    left: dict[str, Any] = {
        "gateway's log": pod.gateway.log,
        "engine's log": pod.engine.log,
        "events": world.raw_events,
        "results": world.platform.s3_folder / RESULTS,
        "cell sets": world.platform.s3_folder / CELL_SETS,
        "data": pod.data,
        "temporary files": pod.tmp,
        "metrics": metrics,
        "health": health,
    }
    assert_no_secrets(SECRETS, left)
    assert find_secrets(SECRETS, {"what was sent": json.dumps(world.sent)}), "the search itself finds what is there"
