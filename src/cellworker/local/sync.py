"""The experiment's files of a local run: they stay in place, and the engine follows them by itself."""

from collections.abc import Awaitable, Callable

from cellworker.protocol.events import Status

__all__ = ["NoSync"]


class NoSync:
    """Has nothing to fetch."""

    async def sync(self, on_stage: Callable[[Status], Awaitable[None]]) -> None:
        """Return at once."""
