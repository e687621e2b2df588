"""`cellworker gateway`."""

import argparse
import asyncio
from collections.abc import Coroutine
from typing import Any

from cellworker.cli.handover import drop_key, forget_secrets
from cellworker.errors import ErrorCode, WorkerError
from cellworker.extras import how_to_install
from cellworker.logs import configure
from cellworker.settings import Settings
from cellworker.tasks.catalog import TASKS, find

__all__ = ["command", "gateway", "run"]


def command(options: argparse.Namespace) -> int:  # noqa: ARG001 - everything is a setting
    """Take requests from the platform's queue until the idle timeout, or SIGTERM; the log is JSON lines."""
    drop_key()  # only the engine needs it
    settings = Settings.from_environment()
    forget_secrets()
    configure(settings.log_level)
    return run(gateway(settings))


def run(main: Coroutine[Any, Any, int]) -> int:
    """Run to the end, on uvloop where it is installed: it saves an eighth of a request's time."""
    try:
        import uvloop  # noqa: PLC0415 - part of the extra
    except ModuleNotFoundError:
        return asyncio.run(main)
    status: int = uvloop.run(main)
    return status


async def gateway(settings: Settings) -> int:
    """Run the gateway; returns the exit status.

    Raises
    ------
    WorkerError
        When a setting makes no sense, or the libraries for the platform are not installed.
    """
    try:
        from cellworker.gateway.service import run_gateway  # noqa: PLC0415 - needs the extra
    except ModuleNotFoundError as error:
        message = f"The gateway needs {error.name}: {how_to_install('platform')}."
        raise WorkerError(ErrorCode.INVALID_INPUT, message) from None
    return await run_gateway(settings, find, TASKS)
