"""Real Socket.IO clients, of the platform's generation and of today's, against the whole local run."""

import asyncio
import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cellworker.analysis.text.number_text import floats_json, ints_json
from cellworker.experiment.store.store import open_store
from cellworker.formats.opening.open import open_experiment
from cellworker.local.run import start_local
from cellworker.protocol import encoding
from cellworker.settings import Settings

pytestmark = pytest.mark.node

HERE = Path(__file__).parent
WAIT_S = 60
ORDER = ["STARTED_TASK", "COMPRESSING_DATA", "UPLOADING_DATA", "FINISHED_TASK", "WorkResponse"]

LIST_GENES = {"name": "ListGenes", "orderBy": "dispersions", "orderDirection": "DESC", "offset": 0, "limit": 4}
CASES: dict[str, dict[str, Any]] = {
    f"{generation} {' '.join(transports)}": {"generation": generation, "transports": transports, "body": LIST_GENES}
    for generation in (2, 4)
    for transports in (["polling", "websocket"], ["websocket"], ["polling"])
}
IN_THE_MIDDLE = {
    f"{generation} upgrading": {
        "generation": generation,
        "transports": ["polling", "websocket"],
        "atOnce": True,
        "body": {"name": "GetNUmis"},
    }
    for generation in (2, 4)
}


@pytest.fixture(scope="module")
def genes(stores: Path, sample: Path) -> list[str]:
    """All genes of the sample: too much to be sent inline."""
    opened = open_experiment(sample, Settings(store_dir=stores))
    return open_store(opened.store).genes.names


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stores")


@pytest.fixture(scope="module")
def heard(node: list[str], stores: Path, genes: list[str]) -> dict[str, Any]:
    """What the clients heard; all ask one worker, one after another."""
    large = {"generation": 2, "transports": ["websocket"], "body": {"name": "GeneExpression", "genes": genes}}
    cases = {**CASES, **IN_THE_MIDDLE, "large": large}
    settings = Settings(port=0, data_dir=stores / "data", store_dir=stores, short_workers=1, threads=1)
    return dict(zip(cases, asyncio.run(_ask(node, settings, list(cases.values()))), strict=True))


async def _ask(node: list[str], settings: Settings, cases: list[dict[str, Any]]) -> list[Any]:
    async with start_local(None, settings) as run:
        await run.ready()
        question = json.dumps({"url": run.url, "experimentId": run.experiment_id, "cases": cases})
        process = await asyncio.create_subprocess_exec(
            *node, str(HERE / "client.mjs"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        try:
            async with asyncio.timeout(WAIT_S):
                out, err = await process.communicate(question.encode())
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    assert process.returncode == 0, err.decode()
    answers: list[Any] = json.loads(out)
    return answers


@pytest.mark.parametrize("case", CASES)
def test_a_client_of_either_generation_hears_all_events_in_order_and_reads_the_result(
    heard: dict[str, Any], case: str
) -> None:
    seen, transports = heard[case], CASES[case]["transports"]
    assert (seen["first"], seen["last"]) == (transports[0], transports[-1])
    assert seen["story"] == ORDER
    assert (seen["kind"], seen["signedUrl"]) == ("string", None)
    assert len(seen["result"]["gene_names"]) == 4
    assert seen["result"]["dispersions"] == sorted(seen["result"]["dispersions"], reverse=True)


@pytest.mark.parametrize("case", IN_THE_MIDDLE)
def test_a_request_in_the_middle_of_an_upgrade_loses_nothing(heard: dict[str, Any], case: str) -> None:
    assert heard[case]["story"] == ORDER
    assert heard[case]["last"] == "websocket"


def test_a_large_result_is_downloaded_as_from_the_platforms_store(heard: dict[str, Any], genes: list[str]) -> None:
    seen = heard["large"]
    assert seen["kind"] == "object"
    assert seen["story"] == ORDER
    assert seen["result"]["orderedGeneNames"] == genes


def test_the_lock_names_no_registry() -> None:
    lock = (HERE / "package-lock.json").read_text()
    assert "://" not in lock
    assert '"resolved"' not in lock


@pytest.mark.parametrize("digits", [7, 2])
def test_the_platforms_decoder_reads_what_is_compressed_as_large_content(node: list[str], digits: int) -> None:
    random = np.random.default_rng(0)
    values = random.random((4, 100_000), np.float32).round(digits)
    cells = np.tile(np.arange(100_000, dtype=np.int32), 4)
    content = b'{"values":%b,"index":%b}' % (floats_json(values.ravel()), ints_json(cells))
    assert len(content) > encoding.LARGE_BYTES
    script = """
        import { createHash } from "node:crypto";
        import { readFileSync } from "node:fs";
        import { decompress } from "fzstd";
        console.log(createHash("sha256").update(decompress(readFileSync(0))).digest("hex"));
    """
    line = [*node, "--input-type=module", "--eval", script]
    done = subprocess.run(line, input=encoding.compress(content), stdout=subprocess.PIPE, check=True, cwd=HERE)
    assert done.stdout.decode().strip() == hashlib.sha256(content).hexdigest()
