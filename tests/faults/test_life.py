"""How a gateway begins and ends: labels, idle time, the shutdown file, and a whole worker in one process tree."""

import os
import signal
from pathlib import Path
from typing import Any

from world import HEATMAP, LIST_GENES, Process, until


async def test_a_pod_without_a_label_waits_and_begins_when_it_has_one(world: Any) -> None:
    pod = world.pod(label=False)
    pod.start()
    asked = await world.send(LIST_GENES)
    await until(lambda: pod.gateway.said("gateway started"), "the gateway starts")
    assert world.answers(asked) == []
    pod.label(world.experiment_id)
    await world.answer(asked)
    status, _ = await pod.health("/health/started")
    assert status == 200


async def test_it_ends_by_itself_when_there_is_no_work_and_says_so_to_the_engine(world: Any) -> None:
    file = world.folder / "shutdown"
    file.touch()  # left over from an earlier process
    pod = world.pod(IDLE_TIMEOUT_S="2", SHUTDOWN_FILE=str(file))
    pod.engine.environment["SHUTDOWN_FILE"] = str(file)
    pod.start()
    await world.answer(await world.send(LIST_GENES))
    assert pod.engine.alive
    assert await pod.gateway.ended() == 0
    assert await pod.engine.ended() == 0
    assert pod.gateway.said("no work for long")


async def test_it_never_ends_by_itself_where_the_setting_says_so_and_work_delays_the_end(world: Any) -> None:
    pod = world.pod(IDLE_TIMEOUT_S="2")
    pod.start()
    pod.fault("hold", "MarkerHeatmap")
    asked = await world.send(HEATMAP)
    await pod.began("MarkerHeatmap")
    await until(lambda: "Held by a test" in [p["user_message"] for _, p in world.events], "progress is told")
    first = len(world.events)
    await until(lambda: len(world.events) > first + 1, "more progress is told")
    assert pod.gateway.alive
    pod.clear("hold", "MarkerHeatmap")
    await world.answer(asked)
    assert await pod.gateway.ended() == 0


async def test_a_whole_worker_in_one_container_restarts_its_engine_and_stops_it_at_the_end(world: Any) -> None:
    pod = world.pod()
    environment = {**pod.engine.environment, **pod.gateway.environment, "PORT": pod.engine_url.rpartition(":")[2]}
    worker = Process(
        [pod.gateway.command[0], "-m", "cellworker.cli.main", "worker"], environment, pod.folder / "worker.log"
    )
    pod.gateway = worker
    worker.start()
    await world.answer(await world.send(LIST_GENES))
    (engine,) = children(worker.pid, "engine")
    os.kill(engine, signal.SIGKILL)
    await world.answer(await world.send(LIST_GENES))
    assert worker.said("engine ended", status=-9)
    (engine,) = children(worker.pid, "engine")
    worker.signal(signal.SIGTERM)
    assert await worker.ended() == 0
    await until(lambda: not Path(f"/proc/{engine}").exists(), "the engine ends with its gateway")


def children(pid: int, command: str) -> list[int]:
    """Direct children with this in a word of their command line."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((place / "stat").read_text().rpartition(")")[2].split()[1])
            words = (place / "cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError):
            continue
        if parent == pid and any(command.encode() in word for word in words):
            found.append(int(place.name))
    return found
