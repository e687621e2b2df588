"""What is the local run's own about patches that come again, and about files that are not fetched."""

import asyncio
import json
from pathlib import Path
from typing import Any

from cellworker.identifiers import ExperimentId
from cellworker.local.cell_sets_files import FileCellSets
from cellworker.local.sync import NoSync
from port_suites.cell_sets import DOCUMENT, INSERT, TOKEN


async def test_a_patch_without_a_claim_is_applied_as_often_as_it_comes(tmp_path: Path, own_work: Any) -> None:
    path = tmp_path / "cell_sets.json"
    path.write_text(json.dumps(DOCUMENT))
    cell_sets = FileCellSets(path, own_work(tmp_path, DOCUMENT))
    for _ in range(2):
        await cell_sets.patch(ExperimentId("x1"), INSERT, TOKEN)
    classes = json.loads(await cell_sets.read(ExperimentId("x1")))["cellSets"]
    assert [child["key"] for child in classes[0]["children"]] == ["5f0c", "5f0c"]


async def test_a_local_run_has_nothing_to_fetch() -> None:
    told: list[object] = []

    async def hear(stage: object) -> None:
        told.append(stage)

    async with asyncio.timeout(1):
        await NoSync().sync(hear)
    assert told == []
