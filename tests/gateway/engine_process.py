"""A real engine in a process of its own, that the gateway's tests talk to and kill."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import aiohttp

from cloud.ports import free_port

HANG_S = 120.0


class EngineProcess:
    """``cellworker engine`` on a port of its own, which it keeps over restarts."""

    def __init__(self, data_dir: Path, **environment: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        temporary = data_dir / ".temporary"  # what a killed engine leaves is swept with the test's folder
        temporary.mkdir(exist_ok=True)
        self._environment = {
            **os.environ,
            "TMPDIR": str(temporary),
            "DATA_DIR": str(data_dir),
            "STORE_DIR": str(data_dir / ".stores"),
            "LABELS_FILE": str(data_dir / "labels"),
            "THREADS": "1",
            "SHORT_WORKERS": "1",
            "RELOAD_POLL_S": "0",
            **environment,
        }
        self.process: asyncio.subprocess.Process | None = None

    async def start(self, *arguments: str) -> None:
        """Start it and wait until it listens."""
        command = [sys.executable, "-m", "cellworker.cli.main", "engine", *arguments, "--port", str(self.port)]
        pipe = asyncio.subprocess.PIPE
        self.process = await asyncio.create_subprocess_exec(*command, env=self._environment, stdout=pipe)
        assert "listens" in await self.line()

    async def line(self) -> str:
        """Return the next line that it says."""
        assert self.process
        assert self.process.stdout
        async with asyncio.timeout(HANG_S):
            return (await self.process.stdout.readline()).decode()

    async def kill(self) -> None:
        """End it as a crash would."""
        assert self.process
        if self.process.returncode is None:
            self.process.kill()
        await self.ended()

    async def stop(self) -> int:
        """End it in order; returns the exit status."""
        assert self.process
        self.process.send_signal(signal.SIGTERM)
        return await self.ended()

    async def ended(self) -> int:
        assert self.process
        async with asyncio.timeout(HANG_S):
            await self.process.communicate()
        assert self.process.returncode is not None
        return self.process.returncode

    async def ready(self) -> None:
        """Wait until it answers requests."""
        async with aiohttp.ClientSession() as session, asyncio.timeout(HANG_S):
            while True:
                async with session.get(f"{self.url}/health") as answer:
                    if answer.status == 200:
                        return

    async def lanes(self) -> dict[str, dict[str, int]]:
        async with aiohttp.ClientSession() as session, session.get(f"{self.url}/health/ready") as answer:
            return (await answer.json())["lanes"]
