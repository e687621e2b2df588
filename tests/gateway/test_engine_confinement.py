"""The engine cannot open network connections, and serves all the same."""

import sys
from pathlib import Path

import aiohttp
import pytest

from .engine_process import EngineProcess

FIXTURE = Path(__file__).parent.parent / "fixtures" / "pbmcsmall" / "v5"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="seccomp is Linux's")


def filters(pid: int | str) -> int:
    """How many seccomp filters a process has."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    found = [int(line.split()[1]) for line in lines if line.startswith("Seccomp_filters:")]
    if not found:
        pytest.skip("this kernel does not tell how many filters a process has")
    return found[0]


@pytest.mark.parametrize(("table", "more"), [("", 1), ("https://tables.example/ScType.xlsx", 0)])
async def test_the_engine_gives_them_up_unless_it_has_to_fetch_a_table(table: str, more: int, tmp_path: Path) -> None:
    engine = EngineProcess(tmp_path, SCTYPE_TABLE=table)
    await engine.start(str(FIXTURE))
    try:
        await engine.ready()
        assert engine.process
        assert filters(engine.process.pid) == filters("self") + more
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{engine.url}/v0/getNGenes", json={}) as answer,
        ):
            assert (answer.status, (await answer.json())["error"]) == (200, None)
    finally:
        await engine.kill()
