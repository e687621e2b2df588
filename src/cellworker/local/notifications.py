"""Events to browsers through the embedded Socket.IO server."""

import asyncio
from collections.abc import Callable
from typing import Any

from cellworker.local.door.socketio import SocketServer
from cellworker.protocol.events import result_event

__all__ = ["SocketNotifications"]


class SocketNotifications:
    """Broadcasts events; a result waits until its client can know its ETag.

    Clients of the platform begin to listen for ``WorkResponse-<ETag>`` when the answer to their POST arrives, and an
    answer of a few milliseconds would go out before they do.

    Parameters
    ----------
    sockets
        The server.
    grace_s
        Seconds between the answer to a POST and the first event that may carry its result.
    """

    def __init__(self, sockets: SocketServer, grace_s: float = 0.025) -> None:
        self._sockets = sockets
        self._grace_s = grace_s
        self._not_before: dict[str, float] = {}

    def asked(self, etag: str) -> None:
        """Note that a client has just received the ETag of its result."""
        now = asyncio.get_running_loop().time()
        self._not_before = {event: time for event, time in self._not_before.items() if time > now}
        self._not_before[result_event(etag)] = now + self._grace_s

    def post(self, event: str, payload: Any, told: Callable[[bool], None]) -> None:  # noqa: ANN401
        """Send one event, which is not the result, to everyone."""
        self._sockets.broadcast(event, payload)
        sent = True
        told(sent)

    async def emit(self, event: str, payload: Any) -> None:  # noqa: ANN401
        """Send one event to everyone."""
        now = asyncio.get_running_loop().time
        while (wait := self._not_before.get(event, 0.0) - now()) > 0:  # noqa: ASYNC110 - it is a time that is waited for
            await asyncio.sleep(wait)
        self._sockets.broadcast(event, payload)
