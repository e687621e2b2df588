"""Rows 19 and 20 of the fault matrix: the disk is full or read-only; the experiment is replaced in the midst of it."""

import asyncio
import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from world import EXPERIMENTS, FILE, HEATMAP, LIST_GENES, SMALL_EXPERIMENT, Pod, World, eventually, until

FILE_TASK = "GetNormalizedExpression"
MB = 1 << 20


class OwnDisks:
    """What only the processes of one pod see."""

    def __init__(self, holder: "subprocess.Popen[bytes]") -> None:
        self.enter = ["nsenter", f"--target={holder.pid}", "--user", "--mount", "--preserve-credentials", "--"]
        self._root = Path(f"/proc/{holder.pid}/root")

    def files(self, folder: Path) -> dict[str, int]:
        """Names and sizes of the files in a folder, as the pod sees it."""
        seen = Path(f"{self._root}{folder}")
        return {str(path.relative_to(seen)): path.stat().st_size for path in seen.rglob("*") if path.is_file()}


@contextlib.contextmanager
def own_disks(pod: Pod, script: str, *words: object) -> Iterator[OwnDisks]:
    """Let a pod's processes see mounts of their own, those of a script; skips the test where that is not allowed."""
    if not (shutil.which("unshare") and shutil.which("nsenter")):
        pytest.skip("unshare and nsenter are not installed")
    pod.data.mkdir()
    command = [
        "unshare",
        "--user",
        "--map-root-user",
        "--mount",
        "sh",
        "-ec",
        f"{script}\necho mounted; exec sleep 600",
    ]
    with subprocess.Popen([*command, "sh", *map(str, words)], stdout=subprocess.PIPE) as holder:
        try:
            assert holder.stdout
            if holder.stdout.readline() != b"mounted\n":
                pytest.skip("this system lets nobody mount file systems of their own")
            disks = OwnDisks(holder)
            for process in (pod.gateway, pod.engine):
                process.command = [*disks.enter, *process.command]
            yield disks
        finally:
            pod.kill()
            holder.kill()


SMALL_DISK = 'mount -t tmpfs -o "size=$1" tmpfs "$2"'
ALL_READ_ONLY_BUT = 'for folder in "$@"; do mount --bind "$folder" "$folder"; done; mount -o remount,bind,ro /'


async def test_row_19_a_full_disk_is_reported_and_cleaned_and_the_worker_goes_on(world: World) -> None:
    pod = world.pod()
    with own_disks(pod, SMALL_DISK, 8 * MB, pod.tmp) as disks:
        pod.fault("big", FILE_TASK, str(20 * MB))
        pod.start()
        await pod.ready()
        before = disks.files(pod.tmp)
        etag = await world.send(FILE)
        assert await world.error(etag) == "DISK_FULL"
        await world.settled()
        assert disks.files(pod.tmp) == before
        pod.fault("big", FILE_TASK, str(1 * MB))
        smaller = await world.send({**FILE, "subsetBy": {"louvain": ["louvain-0"]}})
        assert (await world.answer(smaller))["response"]["error"] is False
        assert await world.keys(prefix=smaller) == {smaller: 1 * MB}
        await world.settled()
        assert disks.files(pod.tmp) == before
        assert len(pod.engine.said("experiment ready")) == 1


async def test_row_19_without_a_folder_for_temporary_files_each_request_is_answered_by_what_to_do(
    world: World,
) -> None:
    pod = world.pod()
    world.platform.stores.mkdir(exist_ok=True)
    with own_disks(pod, ALL_READ_ONLY_BUT, pod.data, pod.faults, world.platform.stores):
        pod.start()
        etag = await world.send(LIST_GENES)
        assert await world.error(etag) == "DISK_FULL"
        message = world.answers(etag)[0]["response"]["userMessage"]
        assert "TMPDIR" in message
        assert str(pod.tmp) not in message
        await world.settled()
        assert pod.gateway.alive
        assert pod.engine.alive


async def test_row_19_an_experiment_that_does_not_fit_on_the_disk_is_reported_and_cleaned(world: World) -> None:
    pod = world.pod()
    with own_disks(pod, SMALL_DISK, 1 * MB, pod.data) as disks:
        pod.start()
        etag = await world.send(LIST_GENES)
        assert await world.error(etag) == "DISK_FULL"
        await world.settled()
        assert not [name for name, size in disks.files(pod.data).items() if size > 10_000]
        await world.upload_experiment(SMALL_EXPERIMENT)
        other = await world.send({**LIST_GENES, "limit": 3})
        assert len((await world.answer(other))["gene_names"]) == 3
        assert pod.gateway.alive


async def test_row_20_a_request_under_way_finishes_on_the_experiment_with_which_it_began(world: World) -> None:
    pod = world.pod()
    pod.fault("hold", "MarkerHeatmap")
    pod.start()
    before = await world.send({**LIST_GENES, "limit": 1_000_000})
    large = set((await world.answer(before))["gene_names"])
    old = await world.send(HEATMAP)
    await pod.began("MarkerHeatmap")
    await world.upload_experiment(SMALL_EXPERIMENT)
    after = await world.send({**LIST_GENES, "limit": 1_000_000})
    small = set((await world.answer(after))["gene_names"])
    assert len(small) < len(large)
    assert not large <= small
    assert world.answers(old) == []
    pod.clear("hold", "MarkerHeatmap")
    found = (await world.answer(old))["orderedGeneNames"]
    assert len(found) == 12, "two genes of each of the six clusters that the older experiment had"
    assert set(found) <= large
    await world.settled()
    assert pod.computed("MarkerHeatmap") == 1
    new = await world.send({**HEATMAP, "nGenes": 3})
    assert set((await world.answer(new))["orderedGeneNames"]) <= small


async def test_row_20_an_interrupted_download_is_resumed_and_read_once(world: World) -> None:
    pod = world.pod()
    world.s3.fault("GetObject", reset_after_bytes=1_000_000, times=3)
    pod.start()
    etag = await world.send(LIST_GENES)
    assert len((await world.answer(etag))["gene_names"]) == 4
    assert len(pod.engine.said("experiment loading")) == 1
    stored = await world.object(EXPERIMENTS, f"{world.experiment_id}/r.rds")
    assert (pod.data / world.experiment_id / "r.rds").read_bytes() == stored
    assert pod.leftovers() == []


async def test_row_20_what_was_fetched_by_half_when_the_gateway_was_killed_is_never_served(world: World) -> None:
    pod = world.pod()
    pod.start()
    first = await world.send({**LIST_GENES, "limit": 1_000_000})
    large = (await world.answer(first))["gene_names"]
    await world.settled()
    served = pod.data / world.experiment_id / "r.rds"
    old = served.read_bytes()
    await world.upload_experiment(SMALL_EXPERIMENT)
    world.s3.fault("GetObject", bandwidth=20_000)
    etag = await world.send({**LIST_GENES, "limit": 1_000_000})
    await until(lambda: _incoming(pod), "it is on the way")
    pod.gateway.kill()
    assert served.read_bytes() == old
    request = {"orderBy": "dispersions", "orderDirection": "DESC", "offset": 0, "limit": 1_000_000}
    assert (await pod.ask_engine("listGenes", request))["data"]["gene_results"]["gene_names"] == large
    world.s3.clear()
    world.sqs.advance(31)
    pod.gateway.start()
    small = (await world.answer(etag))["gene_names"]
    assert len(small) < len(large)
    assert len(pod.engine.said("experiment ready")) == 2
    assert not pod.engine.said("experiment not loaded")
    await eventually(lambda: _tidy(pod), "nothing is left behind")


def _incoming(pod: Pod) -> list[Path]:
    return [path for path in pod.data.rglob("*") if ".incoming" in str(path) and path.is_file()]


async def _tidy(pod: Pod) -> bool:
    return await asyncio.to_thread(pod.leftovers) == []
