"""The end of tasks that are no longer wanted."""

import asyncio
from typing import Any

__all__ = ["end"]


async def end(*tasks: "asyncio.Future[Any] | None") -> None:
    """Cancel tasks and wait until they end, with any result; None is skipped."""
    wanted = [task for task in tasks if task is not None]
    for task in wanted:
        task.cancel()
    await asyncio.gather(*wanted, return_exceptions=True)
