"""Progress of requests, for clients that ask over HTTP while the request is under way."""

import asyncio
import re
from dataclasses import dataclass, field
from typing import Any

__all__ = ["ProgressBoard"]

_ID = re.compile(r"[\w.:-]{1,128}")


@dataclass(slots=True)
class _Entry:
    sequence: int = 0
    stage: str = ""
    fraction: float | None = None
    finished: bool = False
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def describe(self) -> dict[str, Any]:
        return {"sequence": self.sequence, "stage": self.stage, "fraction": self.fraction, "finished": self.finished}

    def wake(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()


class ProgressBoard:
    """The latest progress of each request that has an id and is under way."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}

    def begin(self, request_id: str) -> bool:
        """Open an entry; False for a malformed id, or that of a request under way."""
        if not _ID.fullmatch(request_id) or request_id in self._entries:
            return False
        self._entries[request_id] = _Entry()
        return True

    def report(self, request_id: str, stage: str, fraction: float | None) -> None:
        """Store the latest progress and wake the clients that wait for it."""
        entry = self._entries.get(request_id)
        if entry:
            entry.sequence += 1
            entry.stage, entry.fraction = stage, fraction
            entry.wake()

    def end(self, request_id: str) -> None:
        """Close an entry, which wakes the clients that wait for it."""
        entry = self._entries.pop(request_id, None)
        if entry:
            entry.finished = True
            entry.wake()

    async def latest(self, request_id: str, after: int | None, wait_s: float) -> dict[str, Any] | None:
        """Return the progress of a request, None if there is no such request.

        Parameters
        ----------
        request_id
            As given to `begin`.
        after
            Wait for news later than this sequence number; None returns the current state.
        wait_s
            Max seconds to wait for news.
        """
        entry = self._entries.get(request_id)
        if entry is None:
            return None
        if after is not None and entry.sequence <= after:
            try:
                async with asyncio.timeout(wait_s):
                    await entry.changed.wait()
            except TimeoutError:
                pass
        return entry.describe()
