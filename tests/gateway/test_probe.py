"""`cellworker probe`, as the kubelet runs it in the engine's container."""

import asyncio
import sys
from pathlib import Path

from .engine_process import EngineProcess

FIXTURE = Path(__file__).parent.parent / "fixtures" / "pbmcsmall" / "v5"


async def probe(port: int, *options: str) -> tuple[int | None, str]:
    command = [sys.executable, "-m", "cellworker.cli.main", "probe", "--port", str(port), *options]
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    _, said = await process.communicate()
    return process.returncode, said.decode()


async def test_an_engine_that_waits_for_its_experiment_lives_and_is_not_ready(tmp_path: Path) -> None:
    engine = EngineProcess(tmp_path)
    await engine.start()
    try:
        assert await probe(engine.port) == (0, "")
        status, said = await probe(engine.port, "--ready")
        assert status == 1
        assert said == f"the engine on port {engine.port} answers, and is not ready\n"
    finally:
        await engine.kill()
    status, said = await probe(engine.port)
    assert status == 1
    assert said.startswith(f"no engine answers on port {engine.port}")


async def test_an_engine_that_serves_is_ready(tmp_path: Path) -> None:
    engine = EngineProcess(tmp_path)
    await engine.start(str(FIXTURE))
    try:
        await engine.ready()
        assert await probe(engine.port, "--ready") == (0, "")
    finally:
        await engine.kill()
