"""DEBUG_STEP and `cellworker replay`: a request to an engine, once more in a process that can be looked into."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from cellworker.engine.saved_requests import read_saved
from cellworker.errors import WorkerError

from .engine_process import EngineProcess

FIXTURE = Path(__file__).parent.parent / "fixtures" / "pbmcsmall" / "v5"
GENES = {
    "selectFields": ["gene_names", "dispersions"],
    "orderBy": "dispersions",
    "orderDirection": "DESC",
    "offset": 0,
    "limit": 4,
}
SECRET = "Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abcdefghijk"


async def asked(tmp_path: Path, step: str) -> tuple[dict[str, Any], list[Path]]:
    """What the engine answered, and what it saved."""
    engine = EngineProcess(tmp_path, DEBUG_STEP=step)
    await engine.start(str(FIXTURE))
    try:
        await engine.ready()
        async with aiohttp.ClientSession() as session:
            async with session.post(f"{engine.url}/v0/getNGenes", json={}) as answer:
                assert answer.status == 200
            request = {**GENES, "Authorization": SECRET}
            async with session.post(f"{engine.url}/v0/listGenes", json=request) as answer:
                answered = await answer.json()
    finally:
        await engine.kill()
    return answered["data"], sorted((tmp_path / "debug").glob("*.json"))


async def replayed(tmp_path: Path, file: Path, *options: str) -> tuple[int | None, bytes, bytes]:
    command = [sys.executable, "-m", "cellworker.cli.main", "replay", str(file), "--quiet", *options]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe, cwd=tmp_path)
    output, errors = await process.communicate()
    return process.returncode, output, errors


@pytest.mark.parametrize("step", ["listGenes", "ListGenes"])
async def test_a_saved_request_gives_the_same_answer_once_more(step: str, tmp_path: Path) -> None:
    answered, files = await asked(tmp_path, step)
    (file,) = files
    status, output, errors = await replayed(tmp_path, file)
    assert status == 0, errors
    # As the platform's clients get it, not as the engine hands it to the gateway.
    assert json.loads(output) == {"total": answered["full_count"], **answered["gene_results"]}
    assert len(answered["gene_results"]["gene_names"]) == 4


async def test_all_saves_all_and_secrets_are_blanked(tmp_path: Path) -> None:
    _, files = await asked(tmp_path, "all")
    assert [file.name.rpartition("-")[2] for file in files] == ["GetNGenes.json", "ListGenes.json"]
    saved = json.loads(files[1].read_text())
    assert saved["request"] == {**GENES, "Authorization": "[redacted]"}
    assert saved["experiment"] == str(FIXTURE)
    assert SECRET.split()[1] not in files[1].read_text()


async def test_nothing_is_saved_unless_it_is_asked_for(tmp_path: Path) -> None:
    _, files = await asked(tmp_path, "")
    assert files == []
    assert not (tmp_path / "debug").exists()


async def test_another_experiment_can_be_asked(tmp_path: Path, sample: Path) -> None:
    _, (file,) = await asked(tmp_path, "listGenes")
    status, output, errors = await replayed(tmp_path, file, "--experiment", str(sample))
    assert status == 0, errors
    assert json.loads(output)["gene_names"][0] == "FABP4"


@pytest.mark.parametrize("content", ["", "[]", '{"task": 1, "request": {}, "experiment": "x", "likeOriginal": false}'])
def test_another_file_is_refused_in_words(content: str, tmp_path: Path) -> None:
    file = tmp_path / "other.json"
    file.write_text(content)
    with pytest.raises(WorkerError, match=r"other\.json"):
        read_saved(file)
