"""Row 42 of the fault matrix: what a pod says to Kubernetes in each state of a rolling update."""

import signal
from typing import Any

from world import LIST_GENES, Pod, World, eventually, until


async def states(pod: Pod) -> tuple[int, int, int]:
    """What the probes for start, readiness and life get."""
    paths = ("/health/started", "/health/ready", "/health/live")
    return tuple([(await pod.health(path))[0] for path in paths])  # type: ignore[return-value]


async def becomes(pod: Pod, wanted: tuple[int, int, int], what: str) -> None:
    async def holds() -> bool:
        try:
            return await states(pod) == wanted
        except OSError:  # it does not listen yet
            return False

    await eventually(holds, what)


async def why(pod: Pod) -> dict[str, Any]:
    """The reasons for which it is not ready."""
    return dict((await pod.health("/health/ready"))[1]["reasons"])


async def test_row_42_a_pod_is_ready_when_it_waits_for_an_experiment_and_when_it_would_answer(world: World) -> None:
    pod = world.pod(label=False)
    pod.gateway.start()
    await becomes(pod, (200, 503, 200), "it is set up, and nobody computes")
    assert "engine" in await why(pod)
    pod.engine.start()
    await becomes(pod, (200, 200, 200), "unassigned: the rolling update goes on")

    world.s3.pause()
    pod.label(world.experiment_id)
    await becomes(pod, (200, 503, 200), "assigned, and loading")
    assert (await why(pod))["experiment"] == "The experiment has not been read yet."
    world.s3.resume()
    await becomes(pod, (200, 200, 200), "serving")
    assert len((await world.answer(await world.send(LIST_GENES)))["gene_names"]) == 4

    pod.fault("hold", "ListGenes")
    etag = await world.send(LIST_GENES)
    await pod.began("ListGenes", 2)
    pod.gateway.signal(signal.SIGTERM)
    await becomes(pod, (200, 503, 200), "ending: what is under way is finished")
    assert (await why(pod))["stopping"] == "The worker ends."
    pod.clear("hold", "ListGenes")
    assert len((await world.answer(etag))["gene_names"]) == 4
    assert await pod.gateway.ended() == 0


async def test_row_42_labels_that_are_no_names_end_nothing_and_are_logged_once(world: World) -> None:
    pod = world.pod(label=False)
    pod.start()
    await becomes(pod, (200, 200, 200), "unassigned")
    pod.labels.write_text('experimentId="../evil"\nsandboxId="x.evil.example/"\nworkQueueHash="../../q"\n')
    await until(lambda: len(pod.gateway.said("name passed over")) >= 1, "the label is looked at")
    assert (await states(pod)) == (200, 200, 200)
    pod.label(world.experiment_id)
    assert len((await world.answer(await world.send(LIST_GENES)))["gene_names"]) == 4
    assert len(pod.gateway.said("name passed over", name="../evil")) == 1
