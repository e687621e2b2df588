"""A queue in memory: what is not done goes back, as with the real one."""

import asyncio
import uuid
from collections.abc import AsyncIterator

from cellworker.gateway.core.ports import Delivery

__all__ = ["MemoryQueue"]


class MemoryQueue:
    """First in, first out; a message that is handed back returns with its number of attempts raised."""

    def __init__(self) -> None:
        self._messages: asyncio.Queue[tuple[bytes, int, str] | None] = asyncio.Queue()
        self._closed = False

    def submit(self, message: bytes) -> None:
        """Add a message; one that comes after `close` is dropped."""
        self._put(message, 1, str(uuid.uuid4()))

    def close(self) -> None:
        """End the iteration over deliveries."""
        self._closed = True
        self._messages.put_nowait(None)

    def offer(self, capacity: int) -> None:
        """Do nothing: messages are delivered one at a time, each to a waiting receiver."""

    async def deliveries(self) -> AsyncIterator[Delivery]:
        """Yield messages until the queue is closed."""
        while (item := await self._messages.get()) is not None and not self._closed:
            yield self._delivery(*item)

    def _put(self, message: bytes, attempt: int, message_id: str) -> None:
        if not self._closed:
            self._messages.put_nowait((message, attempt, message_id))

    def _delivery(self, message: bytes, attempt: int, message_id: str) -> Delivery:
        async def done() -> None:
            """Do nothing: the message left the queue when it was delivered."""

        async def release() -> None:
            self._put(message, attempt + 1, message_id)

        return Delivery(message, attempt, done, release, message_id)
