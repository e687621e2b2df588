"""Rows 27 to 31 of the fault matrix: hostile names, killed readers, and processes that are paused, slow or hang."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

from test_life import children
from world import HEATMAP, LIST_GENES, NEW_SET, RESULTS, SMALL_EXPERIMENT, Pod, Process, World, eventually, until

from cellworker.sample import sample_path
from memory import who_knows

SILENT_S = 120
"""Longer than the owner of a journal entry may be silent."""
HANGS_S = 6
"""An engine that is silent for so long hangs, in these tests."""
HOSTILE_KEYS = [
    ".journal/../evil/0",
    ".journal/./evil/0",
    ".journal/../../0",
    ".journal//evil/0",
    ".journal/.stores/evil/0",
    ".journal/a\\..\\b/evil/0",
    ".journal/experiment/../0",
    ".journal/experiment/evil/\u0663",
    ".journal/experiment/evil/007",
    f".journal/experiment/evil/{'9' * 200}",
    f".journal/{'x' * 300}/evil/0",
]
KEY = "sesame-of-a-language-model-0123456789"
TRUE_KEY = ".journal/data/evil/0"
"""A name as any other, but of a folder that is somebody else's."""


async def test_row_27_hostile_names_in_the_bucket_are_logged_once_and_touch_nothing(world: World) -> None:
    pod = world.pod(label=False, RESCUE="true")
    kept = [pod.folder / "beside", pod.data / "data" / "kept", pod.data / ".stores" / "kept"]
    for path in kept:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    for key in [*HOSTILE_KEYS, TRUE_KEY]:
        await world.put(RESULTS, key, b"no entry")
    world.s3.advance(SILENT_S)
    pod.start()
    await until(lambda: pod.gateway.said("journal entry unreadable", key=TRUE_KEY), "what is left is looked at")
    pod.label(world.experiment_id)
    assert len((await world.answer(await world.send(LIST_GENES)))["gene_names"]) == 4
    assert all(path.exists() for path in kept)
    passed_over = [line["name"] for line in pod.gateway.said("name passed over")]
    assert len(passed_over) == len(set(passed_over)) == len(HOSTILE_KEYS)


def reader(store_dir: Path, path: Path, log: Path) -> Process:
    """An engine that reads a file."""
    environment = {"PATH": os.environ["PATH"], "STORE_DIR": str(store_dir), "PORT": "0", "HOME": str(store_dir)}
    return Process([sys.executable, "-m", "cellworker.cli.main", "engine", str(path)], environment, log)


async def test_row_28_of_readers_that_are_killed_in_the_midst_of_a_store_nothing_is_left(tmp_path: Path) -> None:
    stores = tmp_path / "stores"
    stores.mkdir()
    (source := tmp_path / "r.rds").write_bytes((sample_path() / "r.rds").read_bytes())
    engine = reader(stores, source, tmp_path / "log")
    for _ in range(3):
        engine.start()
        try:
            await until(lambda: [*stores.glob("build-*.spool/.*.h5ad.*")], "it writes")
        finally:
            engine.kill()
        assert [*stores.glob("build-*.spool")], "what it wrote is still there"
        assert not [*stores.glob("*.h5ad")]
    other = reader(stores, SMALL_EXPERIMENT, tmp_path / "other.log")
    other.start()
    try:
        await until(lambda: other.said("experiment ready"), "another one is served")
    finally:
        other.kill()
    left = sorted(path.name for path in stores.iterdir() if path.name not in (".locks", "index.json"))
    assert len([name for name in left if name.endswith(".h5ad")]) == 1
    assert len([name for name in left if not name.endswith((".h5ad", ".cell_sets.json"))]) == 0, left


async def test_row_29_a_gateway_that_was_paused_before_its_patch_does_not_send_it(world: World) -> None:
    shared_key = {"JOURNAL_KEY": "a-secret-that-all-pods-of-the-release-share"}
    first, second = world.pod("pod-1", **shared_key), world.pod("pod-2", **shared_key)
    first.fault("hold", "GetExpressionCellSets")
    first.start()
    etag = await world.send(NEW_SET)
    await first.began("GetExpressionCellSets")
    await eventually(world.journal, "the request is in the journal")
    first.gateway.signal(signal.SIGSTOP)
    first.clear("hold", "GetExpressionCellSets")
    world.s3.advance(SILENT_S)
    second.start()
    assert (await world.answer(etag))["response"]["error"] is False
    first.gateway.signal(signal.SIGCONT)
    await until(
        lambda: (
            first.gateway.said("cell sets had been changed already")
            or first.gateway.said("request was taken over by another process")
        ),
        "the first gateway goes on",
    )
    assert len(world.api.patches) == world.api.arrived == 1
    assert (await world.scratchpad()).count("CD3D>0.5") == 1
    await world.settled()


async def test_row_30_what_the_api_is_still_at_work_on_is_not_sent_again(world: World) -> None:
    pod = world.pod()
    pod.start()
    world.api.goes_on.clear()
    etag = await world.send(NEW_SET)
    await until(lambda: world.api.arrived, "the API has it")
    pod.gateway.kill()
    pod.gateway.start()
    await until(lambda: pod.gateway.said("waiting for an earlier change of the cell sets"), "it waits")
    world.api.goes_on.set()
    assert (await world.answer(etag))["response"]["error"] is False
    assert world.api.arrived == 1
    assert (await world.scratchpad()).count("CD3D>0.5") == 1
    await world.settled()


async def probe(pod: Pod) -> int:
    """Ask as the kubelet does whether the engine lives."""
    port = pod.engine_url.rpartition(":")[2]
    command = [sys.executable, "-m", "cellworker.cli.main", "probe", "--port", port]
    asking = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.DEVNULL)
    return await asking.wait()


async def test_row_31_an_engine_that_hangs_is_noticed_and_its_requests_are_answered_by_the_next(world: World) -> None:
    pod = world.pod(ENGINE_SILENT_S=HANGS_S)
    pod.fault("hold", "MarkerHeatmap")
    pod.start()
    await world.answer(await world.send(LIST_GENES))
    await eventually(lambda: is_ready(pod), "it is ready")
    etag = await world.send(HEATMAP)
    await pod.began("MarkerHeatmap")
    await until(
        lambda: "Held by a test" in [p.get("user_message") for _, p in world.events if isinstance(p, dict)],
        "progress is told",
    )
    pod.engine.signal(signal.SIGSTOP)
    events = len(world.events)
    unanswered = await world.send(LIST_GENES)
    await until(lambda: pod.gateway.said("engine hangs"), "it is noticed")
    status, reasons = await pod.health("/health/ready")
    assert status == 503
    assert reasons["reasons"]["engine"] == "The engine hangs."
    assert (await pod.health("/health/live"))[0] == 200, "to restart the gateway would not help"
    beats = [json.dumps(payload) for name, payload in world.events[events:] if name.startswith("Heartbeat-")]
    assert len(beats) == len(set(beats)), "no heartbeat says again what was said"
    assert await probe(pod) == 1
    pod.clear("hold", "MarkerHeatmap")
    pod.engine.kill()
    pod.engine.start()
    assert (await world.answer(etag))["orderedGeneNames"]
    assert len((await world.answer(unanswered))["gene_names"]) == 4
    await eventually(lambda: is_ready(pod), "it is ready again")
    await world.settled()


async def is_ready(pod: Pod) -> bool:
    return (await pod.health("/health/ready"))[0] == 200


async def test_row_31_a_whole_worker_starts_its_engine_again_when_it_hangs(world: World) -> None:
    pod = world.pod(ENGINE_SILENT_S=HANGS_S)
    environment = {
        **pod.engine.environment, **pod.gateway.environment, "PORT": pod.engine_url.rpartition(":")[2],
        "CASSIA_KEY": KEY,
    }  # fmt: skip
    worker = Process([sys.executable, "-m", "cellworker.cli.main", "worker"], environment, pod.folder / "worker.log")
    pod.gateway = worker
    worker.start()
    await world.answer(await world.send(LIST_GENES))
    (hanging,), (keeper,) = children(worker.pid, "cellworker.cli.main"), children(worker.pid, "annotators.keeper")
    (zygote,) = children(hanging, "zygote")
    assert who_knows(KEY, [worker.pid, hanging, keeper, zygote, *children(zygote, "")]) == {keeper}
    os.kill(hanging, signal.SIGSTOP)
    etag = await world.send(HEATMAP)
    assert (await world.answer(etag))["orderedGeneNames"]
    assert worker.said("engine hangs")
    assert worker.said("engine ended", status=-9)
    (engine,) = children(worker.pid, "cellworker.cli.main")
    assert engine != hanging
    assert who_knows(KEY, [worker.pid, engine, keeper]) == {keeper}, "the next engine asks the same keeper"
    await world.settled()


async def test_row_31_the_process_that_makes_workers_hangs_and_what_it_took_along_is_computed_again(
    world: World,
) -> None:
    pod = world.pod(engine={"LOOK_EVERY_S": "0.5"})
    pod.fault("hold", "MarkerHeatmap")
    pod.start()
    await world.answer(await world.send(LIST_GENES))
    etag = await world.send(HEATMAP)
    await pod.began("MarkerHeatmap")
    (hanging,) = children(pod.engine.pid, "zygote")
    os.kill(hanging, signal.SIGSTOP)
    await until(lambda: pod.engine.said("zygote hangs"), "it is noticed")
    pod.clear("hold", "MarkerHeatmap")
    assert (await world.answer(etag))["orderedGeneNames"]
    assert len((await world.answer(await world.send(LIST_GENES)))["gene_names"]) == 4
    assert hanging not in children(pod.engine.pid, "zygote")
    assert len(pod.engine.said("experiment ready")) == 1, "the experiment was not loaded again"
    await world.settled()
