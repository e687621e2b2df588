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


@pytest.mark.parametrize(("egress", "more"), [("false", 1), ("true", 0)])
async def test_the_engine_confines_itself_where_the_setting_says_so(egress: str, more: int, tmp_path: Path) -> None:
    engine = EngineProcess(tmp_path, EGRESS=egress)
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


async def test_a_table_at_an_address_is_then_refused_in_words(tmp_path: Path) -> None:
    engine = EngineProcess(tmp_path, EGRESS="false", SCTYPE_TABLE="https://192.0.2.1/ScType.xlsx")
    await engine.start(str(FIXTURE))
    clusters = {"key": "louvain-0", "name": "Cluster 0", "rootNode": False, "type": "cellSets", "cellIds": [41, 81, 29]}
    louvain = {
        "key": "louvain",
        "name": "louvain clusters",
        "rootNode": True,
        "type": "cellSets",
        "children": [clusters],
    }
    request = {"species": "human", "tissue": "Liver", "cellSets": {"louvain": louvain}}
    try:
        await engine.ready()
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{engine.url}/v0/ScTypeAnnotate", json=request) as answer,
        ):
            said = (await answer.json())["error"]
    finally:
        await engine.kill()
    assert "EGRESS is false" in said["user_message"], said
