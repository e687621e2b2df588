"""A patch of local cell sets that may have been applied already."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from cellworker.gateway.core.ports import Claim
from cellworker.local.cell_sets_files import FileCellSets
from cellworker.local.sync import NoSync

NEW = {"key": "5f0c", "name": "CD79B>0", "cellIds": [5]}
INSERT: list[dict[str, Any]] = [
    {
        "$match": {
            "query": '$[?(@.key == "scratchpad")]',
            "value": {"children": [{"$insert": {"index": "-", "value": NEW}}]},
        }
    }
]


async def _none() -> None:
    return None


async def _held() -> bool:
    return True


CLAIM = Claim(_none, _held)


@pytest.fixture
def cell_sets(tmp_path: Path, own_work: Any) -> FileCellSets:
    path = tmp_path / "cell_sets.json"
    document = {"cellSets": [{"key": "scratchpad", "name": "Custom", "children": []}]}
    path.write_text(json.dumps(document))
    return FileCellSets(path, own_work(tmp_path, document))


def keys(content: bytes) -> list[str]:
    return [child["key"] for child in json.loads(content)["cellSets"][0]["children"]]


@pytest.mark.parametrize(("again", "wanted"), [(True, ["5f0c"]), (False, ["5f0c", "5f0c"])])
async def test_a_set_that_is_there_is_not_inserted_again(
    cell_sets: FileCellSets, again: bool, wanted: list[str]
) -> None:
    await cell_sets.patch("x1", INSERT)
    await cell_sets.patch("x1", INSERT, claim=CLAIM if again else None)
    assert keys(await cell_sets.read("x1")) == wanted


async def test_a_set_that_is_not_there_is_inserted_at_the_second_attempt(cell_sets: FileCellSets) -> None:
    await cell_sets.patch("x1", INSERT, claim=CLAIM)
    assert keys(await cell_sets.read("x1")) == ["5f0c"]


async def test_a_local_run_has_nothing_to_fetch() -> None:
    told: list[object] = []

    async def hear(stage: object) -> None:
        told.append(stage)

    async with asyncio.timeout(1):
        await NoSync().sync(hear)
    assert told == []
