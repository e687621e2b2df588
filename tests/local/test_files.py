"""What the local run writes: results and cell sets, whole or not at all."""

import asyncio
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.cell_sets import CellSets
from cellworker.formats.common.whole_files import write_whole
from cellworker.local import files
from cellworker.local.cell_sets_files import FileCellSets
from cellworker.local.results import DiskResults

TAGS = {"experimentId": "x1", "requestType": "ListGenes"}
APPEND = [{"$append": {"key": "new", "name": "New", "children": [{"key": "s", "name": "S", "cellIds": [1]}]}}]
DOCUMENT = {"cellSets": [{"key": "louvain", "name": "L", "children": []}]}


def names(folder: Path) -> list[str]:
    return sorted(item.name for item in folder.iterdir())


async def test_a_result_is_stored_under_its_etag_with_its_tags(tmp_path: Path) -> None:
    results = DiskResults(tmp_path / "r", "http://host/results/")
    assert not await results.exists("abc")
    await results.put("abc", b"content", TAGS)
    assert await results.exists("abc")
    assert results.tags("abc") == TAGS
    assert await results.url("abc") == "http://host/results/abc"
    assert names(tmp_path / "r") == ["abc", "abc.tags.json"]
    assert (tmp_path / "r" / "abc").read_bytes() == b"content"


async def test_a_file_is_moved_into_place(tmp_path: Path) -> None:
    file = tmp_path / "matrix.gz"
    file.write_bytes(b"matrix")
    results = DiskResults(tmp_path / "r")
    await results.put("abc", file, TAGS)
    found = results.find("abc")
    assert found is not None
    assert found.read_bytes() == b"matrix"
    assert not file.exists()


async def test_a_file_of_another_disk_is_copied_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "matrix.gz"
    file.write_bytes(b"matrix" * 1000)
    real = Path.replace

    def replace(self: Path, target: Path) -> Path:
        if self == file:
            raise OSError(18, "Invalid cross-device link")
        return real(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    results = DiskResults(tmp_path / "r")
    await results.put("abc", file, TAGS)
    assert (tmp_path / "r" / "abc").read_bytes() == b"matrix" * 1000
    assert not file.exists()
    assert names(tmp_path / "r") == ["abc", "abc.tags.json"]


@pytest.mark.parametrize("etag", ["../abc", "a/b", ".hidden", "", "a" * 200, "abc.tags.json", "a\x00b"])
async def test_an_etag_never_leads_to_another_file(tmp_path: Path, etag: str) -> None:
    results = DiskResults(tmp_path / "r")
    await results.put("abc", b"content", TAGS)
    assert results.find(etag) is None
    assert results.tags(etag) == {}
    with pytest.raises(ValueError):
        await results.put(etag, b"x", TAGS)


async def test_what_a_killed_run_left_half_written_is_removed(tmp_path: Path) -> None:
    folder = tmp_path / "r"
    folder.mkdir()
    (folder / ".abc.123.tmp").write_bytes(b"half")
    (folder / "whole").write_bytes(b"whole")
    DiskResults(folder)
    assert names(folder) == ["whole"]


async def test_a_full_disk_is_reported_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    results = DiskResults(tmp_path / "r")
    monkeypatch.setattr(files.Path, "replace", full)
    with pytest.raises(WorkerError) as told:
        await results.put("abc", b"content", TAGS)
    assert told.value.code is ErrorCode.DISK_FULL
    assert names(tmp_path / "r") == []


def test_written_files_have_the_usual_permissions(tmp_path: Path) -> None:
    mask = os.umask(0o022)
    try:
        write_whole(tmp_path / "a", b"1")
    finally:
        os.umask(mask)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o644


@pytest.fixture
def beside(tmp_path: Path) -> Path:
    path = tmp_path / "experiment" / "cell_sets.json"
    path.parent.mkdir()
    path.write_text(json.dumps(DOCUMENT))
    return path


def keys(content: bytes) -> list[str]:
    return [item.key for item in CellSets.parse(content).classes]


def read(path: Path) -> bytes:
    return path.read_bytes()


async def test_cell_sets_are_changed_beside_the_experiment(beside: Path, tmp_path: Path, own_work: Any) -> None:
    cell_sets = FileCellSets(beside, own_work(beside.parent, DOCUMENT))
    await cell_sets.patch("x1", APPEND)
    assert keys(await cell_sets.read("x1")) == ["louvain", "new"]
    assert keys(read(beside)) == ["louvain", "new"]
    assert names(tmp_path) == ["experiment"]


@pytest.mark.parametrize("why", ["keep", "no access", "file marked read-only", "folder marked read-only"])
async def test_cell_sets_that_may_not_be_touched_are_changed_in_ones_own_work(
    beside: Path, tmp_path: Path, why: str, monkeypatch: pytest.MonkeyPatch, own_work: Any
) -> None:
    protect(beside, why, monkeypatch)
    before = read(beside)
    keep = why == "keep"
    await FileCellSets(beside, own_work(beside.parent, DOCUMENT), keep_original=keep).patch("x1", APPEND)
    again = FileCellSets(beside, own_work(beside.parent, DOCUMENT), keep_original=keep)
    assert keys(await again.read("x1")) == ["louvain", "new"]
    assert read(beside) == before
    own = beside.parent / "r.rds.cellworker.json"
    if why in {"no access", "folder marked read-only"}:
        (own,) = (tmp_path / "user" / "home" / "cellworker").iterdir()
    assert json.loads(read(own))["own"] == [{"key": "new", "whole": True, "sets": ["s"]}]


def protect(beside: Path, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if why == "no access":
        monkeypatch.setattr(os, "access", lambda path, mode: False)
    elif why == "file marked read-only":  # for root too, who could write all the same
        beside.chmod(0o444)
    elif why == "folder marked read-only":
        beside.parent.chmod(0o555)


async def test_derived_cell_sets_hold_until_they_are_changed(tmp_path: Path, own_work: Any) -> None:
    cell_sets = FileCellSets(tmp_path / "none.json", own_work(tmp_path, DOCUMENT), keep_original=True)
    assert keys(await cell_sets.read("x1")) == ["louvain"]
    await cell_sets.patch("x1", APPEND)
    assert keys(await cell_sets.read("x1")) == ["louvain", "new"]


async def test_a_refused_patch_changes_nothing(beside: Path, own_work: Any) -> None:
    before = read(beside)
    with pytest.raises(WorkerError):
        await FileCellSets(beside, own_work(beside.parent)).patch("x1", [{"$append": {"key": "bad"}}])
    assert read(beside) == before
    assert names(beside.parent) == ["cell_sets.json"]


@pytest.mark.parametrize("keep", [False, True])
async def test_patches_at_the_same_time_do_not_lose_each_other(beside: Path, own_work: Any, keep: bool) -> None:
    # As many as there are processes with locks of their own.
    doors = [FileCellSets(beside, own_work(beside.parent, DOCUMENT), keep_original=keep) for _ in range(8)]
    patches = [[{"$append": {"key": f"k{i}", "name": "n", "children": []}}] for i in range(8)]
    await asyncio.gather(*(door.patch("x1", patch) for door, patch in zip(doors, patches, strict=True)))
    cell_sets = doors[0]
    assert sorted(keys(await cell_sets.read("x1"))) == sorted(["louvain", *(f"k{i}" for i in range(8))])
