"""Limits connections without a complete request head, and logs them, for every port."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, cast

from aiohttp import web
from aiohttp.http import HttpProcessingError

from cellworker.logs import log

__all__ = ["Connections", "GuardedRunner"]

_HEADERS_S = 15.0
_IDLE_S = 60.0
_MAX_WAITING = 128
_MAX = 512

_logger = logging.getLogger(__name__)


class Connections:
    """The connections of one server.

    Parameters
    ----------
    headers_s
        Max seconds from connecting to the end of the first request's headers; the idle time of a connection applies to
        later requests.
    max_waiting
        Max connections that wait for their first request; with more, the one that waits longest is closed, so that fast
        clients get in.
    max_open
        Max connections; further ones are closed at once.
    """

    def __init__(self, *, headers_s: float = _HEADERS_S, max_waiting: int = _MAX_WAITING, max_open: int = _MAX) -> None:
        self._headers_s = headers_s
        self._max_waiting = max_waiting
        self._max_open = max_open
        self._open: set[asyncio.BaseTransport | None] = set()
        self._waiting: dict[asyncio.Transport, asyncio.TimerHandle] = {}

    @property
    def waiting(self) -> int:
        """Connections without a request so far."""
        return len(self._waiting)

    def watched(self, make: Callable[[], asyncio.Protocol]) -> Callable[[], asyncio.Protocol]:
        """Return a factory of protocols that report their connections here."""
        return lambda: _Watched(make(), self)

    def begun(self, transport: asyncio.BaseTransport | None) -> None:
        """Note that a complete request head has arrived."""
        timer = self._waiting.pop(cast("asyncio.Transport", transport), None)
        if timer is not None:
            timer.cancel()

    def enter(self, transport: asyncio.Transport) -> None:
        """Note a new connection."""
        if len(self._open) >= self._max_open:
            transport.abort()
            return
        self._open.add(transport)
        if len(self._waiting) >= self._max_waiting:
            self._end(next(iter(self._waiting)))
        self._waiting[transport] = asyncio.get_running_loop().call_later(self._headers_s, self._end, transport)

    def leave(self, transport: asyncio.BaseTransport | None) -> None:
        """Note that a connection is closed."""
        self.begun(transport)
        self._open.discard(transport)

    def _end(self, transport: asyncio.Transport) -> None:
        self.begun(transport)
        transport.abort()


class GuardedRunner(web.AppRunner):
    """A runner with limited connections, whose log has no traceback for clients' mistakes.

    Parameters
    ----------
    app
        The application; it gets one more middleware.
    connections
        The limits.
    idle_s
        Seconds for which a connection may stay open between two requests.
    options
        More for `aiohttp.web.AppRunner`.
    """

    def __init__(
        self,
        app: web.Application,
        connections: Connections,
        *,
        idle_s: float = _IDLE_S,
        **options: Any,  # noqa: ANN401
    ) -> None:
        @web.middleware
        async def begun(
            request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
        ) -> web.StreamResponse:
            connections.begun(request.transport)
            return await handler(request)

        app.middlewares.insert(0, begun)
        super().__init__(app, access_log=None, keepalive_timeout=idle_s, logger=_http_logger(), **options)
        self._connections = connections

    @property
    def server(self) -> Any:  # noqa: ANN401 - what makes protocols
        """The factory of a site's connections."""
        made = super().server
        return None if made is None else self._connections.watched(made)


class _Watched(asyncio.Protocol):
    """Passes all calls on."""

    def __init__(self, inner: asyncio.Protocol, connections: Connections) -> None:
        self._inner = inner
        self._connections = connections
        self._transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._inner.connection_made(transport)
        self._connections.enter(cast("asyncio.Transport", transport))

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.leave(self._transport)
        self._inner.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        return self._inner.eof_received()

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()


def _http_logger() -> logging.Logger:
    logger = logging.getLogger(f"{__name__}.http")
    if not logger.filters:
        logger.addFilter(_is_ours)
    return logger


def _is_ours(record: logging.LogRecord) -> bool:
    """Keep tracebacks only of our own errors; a client's errors and disconnects are at most one line."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, HttpProcessingError | web.RequestPayloadError):
        log(_logger, logging.INFO, "a request that is no HTTP was refused", reason=type(error).__name__)
        return False
    return not isinstance(error, ConnectionError | TimeoutError)
