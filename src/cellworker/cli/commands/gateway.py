"""`cellworker gateway`."""

import argparse
import asyncio
from collections.abc import Coroutine
from typing import Any

from cellworker.cli.handover import drop_key, forget_secrets
from cellworker.errors import ErrorCode, WorkerError
from cellworker.logs import configure
from cellworker.settings import Settings
from cellworker.tasks.catalog import TASKS, find

__all__ = ["command", "gateway", "run"]


def command(options: argparse.Namespace) -> int:  # noqa: ARG001 - everything is a setting
    """Take requests from the platform's queue until there is no work for long, or SIGTERM; the log is JSON lines."""
    drop_key()  # which is the engine's business
    settings = Settings.from_environment()
    forget_secrets()
    configure(settings.log_level)
    return run(gateway(settings))


def run(main: Coroutine[Any, Any, int]) -> int:
    """Run to the end, on uvloop where it is installed: a request costs an eighth less then."""
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
        message = f"The gateway needs {error.name}: pip install 'cellworker[platform]'."
        raise WorkerError(ErrorCode.INVALID_INPUT, message) from None
    return await run_gateway(settings, find, TASKS)
