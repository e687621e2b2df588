"""`cellworker worker`."""

import argparse
import asyncio
import contextlib
import ctypes
import logging
import os
import signal
import sys
from dataclasses import replace

from cellworker.cli.commands.gateway import gateway, run
from cellworker.cli.handover import forget_secrets, keep_key, keeper_of
from cellworker.gateway.core.cancel_tasks import end
from cellworker.gateway.engine_client.engine_watch import EngineWatch
from cellworker.logs import configure, log
from cellworker.settings import Settings

__all__ = ["command"]

_PR_SET_PDEATHSIG = 1
_FIRST_PAUSE_S = 0.5
_LAST_PAUSE_S = 30.0
_START_S = 60.0
"""An engine that does not listen after this many seconds hangs."""
_STEADY_S = 60.0
"""An engine that has run for this many seconds does not end because of its arguments or environment."""

_logger = logging.getLogger(__name__)


def command(options: argparse.Namespace) -> int:  # noqa: ARG001 - everything is a setting
    """Run the gateway, and the engine as its child: a worker in one container."""
    keep_key()
    settings = Settings.from_environment()
    forget_secrets()
    configure(settings.log_level)
    return run(_worker(settings))


async def _worker(settings: Settings) -> int:
    settings = replace(settings, engine_url=f"http://127.0.0.1:{settings.port}")
    engine = asyncio.create_task(_keep_engine(settings))
    try:
        return await gateway(settings)
    finally:
        engine.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await engine


async def _keep_engine(settings: Settings) -> None:
    """Start the engine, and start it again when it dies; cancelling ends it."""
    loop = asyncio.get_running_loop()
    pause = _FIRST_PAUSE_S
    # The engine gets neither the gateway's cloud credentials nor its keys for tokens.
    environment = {name: value for name, value in os.environ.items() if not _is_credential(name)}
    environment |= {"PORT": str(settings.port), "HOST": "127.0.0.1"}
    while True:
        started = loop.time()
        descriptors, told = keeper_of()
        engine = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "cellworker.cli.main",
            "engine",
            env=environment | told,
            pass_fds=descriptors,
            stdout=asyncio.subprocess.DEVNULL,
            preexec_fn=_die_with_parent,
            start_new_session=True,  # signals of the terminal reach the engine through us, in order
        )
        try:
            status = await _until_ended(engine, settings)
        except asyncio.CancelledError:
            await _end(engine, settings.grace_s)
            raise
        if loop.time() - started > _STEADY_S:
            pause = _FIRST_PAUSE_S
        log(_logger, logging.ERROR, "engine ended", status=status, again_in_s=pause)
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LAST_PAUSE_S)


async def _until_ended(engine: asyncio.subprocess.Process, settings: Settings) -> int:
    """Wait until the engine ends, and kill it when it hangs; return its status."""
    async with EngineWatch(settings.engine_url, silent_s=settings.engine_silent_s, start_s=_START_S) as watch:
        waiting = asyncio.create_task(engine.wait())
        hanging = asyncio.create_task(watch.hung.wait())
        try:
            await asyncio.wait({waiting, hanging}, return_when=asyncio.FIRST_COMPLETED)
            if not waiting.done():
                # A stopped process (SIGSTOP) reacts to no other signal.
                with contextlib.suppress(ProcessLookupError):
                    engine.kill()
            return await waiting
        finally:
            await end(waiting, hanging)


async def _end(engine: asyncio.subprocess.Process, grace_s: float) -> None:
    with contextlib.suppress(ProcessLookupError):
        engine.send_signal(signal.SIGTERM)
        # The gateway's requests are finished; a second signal is for an engine that ignored the first.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(engine.wait(), min(grace_s, 3.0))
            return
        engine.kill()
        await engine.wait()


def _is_credential(name: str) -> bool:
    if name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        return False
    return name.startswith(("AWS_", "OTEL_")) or name in ("REDIS_URL", "JOURNAL_KEY")


def _die_with_parent() -> None:
    """Have Linux end this process when its parent is killed: no engine keeps running without a gateway."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
