"""Whoever has only raw counts asks everything that the platform's experiments answer."""

import asyncio
import hashlib
import sys
from pathlib import Path

import pytest

from cellworker.local.run import run_local, start_local
from cellworker.local.submit import submit_async
from cellworker.settings import Settings
from cellworker.tasks.catalog import find

TESTS = Path(__file__).parent.parent
if str(TESTS) not in sys.path:
    sys.path.insert(0, str(TESTS))

from model_endpoint import listening  # noqa: E402
from raw_counts import counts_of_types, write_counts  # noqa: E402

from .conftest import Listener  # noqa: E402


async def test_raw_counts_alone_answer_every_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(TESTS / "stand_ins"))
    source = write_counts(tmp_path / "raw.h5ad", counts_of_types(160, 300)[0], sample=["a", "b", "c", "d"] * 40)
    table = tmp_path / "markers.json"
    table.write_text('{"Immune system": {"positive": {"T": ["CD3D", "CD3E"], "B": ["MS4A1", "CD79A"], "M": ["LYZ"]}}}')
    with listening() as endpoint:
        settings = Settings(
            port=0, data_dir=tmp_path / "data", store_dir=tmp_path / "store", short_workers=1, long_workers=1,
            threads=1, sctype_table=f"{table}#sha256={hashlib.sha256(table.read_bytes()).hexdigest()}",
            cassia_url=endpoint.url, cassia_model="some-model",
        )  # fmt: skip
        async with start_local(source, settings) as run:
            served = await run.ready()
            platform = [body for body in served.examples.values() if not find(body["name"]).ours]
            assert len(platform) == 21
            for body in platform:
                got = await submit_async(run.url, body, folder=tmp_path)  # raises what a task refuses
                assert got.etag, body


async def test_opening_raw_counts_offers_to_prepare_them(tmp_path: Path, listener: Listener) -> None:
    source = write_counts(tmp_path / "raw.h5ad", counts_of_types(60, 120)[0])
    settings = Settings(port=0, data_dir=tmp_path / "data", store_dir=tmp_path / "store", threads=1)
    async with asyncio.timeout(120):
        await run_local(source, settings, say=listener, stop=listener.stop)
    assert any("cellworker run --prepare" in line for line in listener.said)
