"""Rows 32 and 33 of the fault matrix: a store that is cut short under a running engine, and one whose bytes flip."""

import asyncio
import json
import os
import sys
from pathlib import Path

import aiohttp
import pytest
from world import Process, until

from cellworker.sample import sample_path


def engine(folder: Path) -> Process:
    environment = {
        "PATH": os.environ["PATH"], "STORE_DIR": str(folder / "stores"), "PORT": "0", "HOME": str(folder),
        "SHORT_WORKERS": "1",
    }  # fmt: skip
    command = [sys.executable, "-m", "cellworker.cli.main", "engine", str(folder / "r.rds")]
    return Process(command, environment, folder / "log")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "stores").mkdir()
    (tmp_path / "r.rds").write_bytes((sample_path() / "r.rds").read_bytes())
    return tmp_path


async def listening(process: Process, times: int) -> str:
    await until(lambda: len(process.said("experiment ready")) >= times, "the experiment is served")
    return f"http://127.0.0.1:{process.said('listening')[-1]['port']}"


async def answer(session: aiohttp.ClientSession, url: str) -> tuple[int, str]:
    async with session.post(f"{url}/v0/listGenes", json=LIST) as response:
        return response.status, await response.text()


LIST = {
    "selectFields": ["gene_names", "dispersions"], "orderBy": "dispersions", "orderDirection": "DESC",
    "offset": 0, "limit": 5, "geneNamesFilter": None,
}  # fmt: skip


async def test_row_32_a_store_cut_short_is_read_again_and_nothing_fails(folder: Path) -> None:
    process = engine(folder)
    process.start()
    try:
        url = await listening(process, 1)
        async with aiohttp.ClientSession() as session:
            status, wanted = await answer(session, url)
            assert status == 200
            (store,) = (folder / "stores").glob("*.h5ad")
            whole = store.read_bytes()
            store.chmod(0o600)
            os.truncate(store, 4096)
            statuses = set()
            async with asyncio.timeout(60):
                while True:
                    status, text = await answer(session, url)
                    statuses.add(status)
                    if status == 200 and len(process.said("experiment ready")) == 2:
                        break
                    await asyncio.sleep(0.02)
            assert text == wanted
            assert statuses <= {200, 409}, "a request that is too early is told so, and tried again by the gateway"
            assert store.read_bytes() == whole
            assert len(process.said("store damaged, to be made again")) == 1
            async with session.get(f"{url}/health") as response:
                assert response.status == 200
    finally:
        process.kill()


async def test_row_33_a_byte_that_flips_between_runs_is_found_and_the_store_made_again(folder: Path) -> None:
    process = engine(folder)
    process.start()
    try:
        await listening(process, 1)
    finally:
        process.kill()
    (store,) = (folder / "stores").glob("*.h5ad")
    whole = store.read_bytes()
    place = len(whole) // 2
    store.chmod(0o600)
    with store.open("r+b") as file:
        file.seek(place)
        file.write(bytes([whole[place] ^ 4]))
    process.start()
    try:
        await until(lambda: process.said("store damaged, to be made again"), "the damage is found")
        await until(lambda: store.exists() and store.read_bytes() == whole, "the store is made again")
        url = await listening(process, 2)
        async with aiohttp.ClientSession() as session, asyncio.timeout(60):
            while (await answer(session, url))[0] != 200:
                await asyncio.sleep(0.02)
        (line,) = process.said("store damaged, to be made again")
        assert "are not what was written" in line["reason"]
    finally:
        process.kill()
    assert json.loads((folder / "stores" / "index.json").read_text())
