"""A small Socket.IO server for two generations of the protocol on one address.

The platform's UI has socket.io-client 2.x, which speaks Engine.IO revision 3; today's clients speak revision 4.
Node's server serves both at once (``allowEIO3``), and a worker that stands in for the platform must do the same.
No maintained Python library does: python-socketio and python-engineio tie each release to one revision. Since all that
is needed is to broadcast text events in the default namespace, this module implements the protocol by its public text.

Events of clients are read and ignored. Sizes, the number of sessions and the backlog of each are limited.
"""

import asyncio
import contextlib
import logging
import secrets
from collections import deque
from typing import Any

from aiohttp import WSMsgType, web

from cellworker.errors import WorkerError
from cellworker.local.door import engineio
from cellworker.local.door.bodies import read_body
from cellworker.local.door.engineio import Version

__all__ = ["SocketServer"]

_logger = logging.getLogger(__name__)

_VERSIONS: dict[str, Version] = {"3": 3, "4": 4}


class SocketServer:
    """Broadcasts events to every connected client.

    Parameters
    ----------
    ping_interval, ping_timeout
        Seconds between pings, and after which a silent client counts as disconnected. In revision 4 the server pings,
        in 3 the client.
    max_sessions
        Clients at a time; further ones are refused.
    max_per_origin
        Clients at a time from pages of one origin, or from programs of one machine.
    max_payload
        Largest message of a client, in bytes.
    max_backlog
        Characters that wait for one slow client before it is dropped.
    """

    def __init__(
        self,
        *,
        ping_interval: float = 25.0,
        ping_timeout: float = 20.0,
        max_sessions: int = 256,
        max_per_origin: int = 64,
        max_payload: int = 1_000_000,
        max_backlog: int = 64_000_000,
    ) -> None:
        self.ping_interval = ping_interval
        self.ping_timeout = ping_timeout
        self.max_sessions = max_sessions
        self.max_per_origin = max_per_origin
        self.max_payload = max_payload
        self.max_backlog = max_backlog
        self._sessions: dict[str, _Session] = {}

    @property
    def clients(self) -> int:
        """Number of clients in the default namespace."""
        return sum(session.joined for session in self._sessions.values())

    def attach(self, app: web.Application, path: str = "/socket.io/") -> None:
        """Serve under `path`, with or without its last slash."""
        for place in (path, path.rstrip("/")):
            app.router.add_route("GET", place, self._get)
            app.router.add_route("POST", place, self._post)

    def broadcast(self, event: str, payload: Any) -> None:  # noqa: ANN401 - any JSON value
        """Send an event to everyone in the default namespace; never waits for a client."""
        packet = engineio.event_packet(event, payload)
        for session in list(self._sessions.values()):
            if session.joined:
                session.send(packet)

    async def close(self) -> None:
        """End all sessions."""
        sessions = list(self._sessions.values())
        for session in sessions:
            session.send(engineio.CLOSE)
            session.close()
        await asyncio.gather(*(session.ended() for session in sessions), return_exceptions=True)

    async def _get(self, request: web.Request) -> web.StreamResponse:
        try:
            session = self._session(request)
        except _HandshakeError as refused:
            return refused.response()
        if request.query["transport"] == "websocket":
            return await self._websocket(request, session)
        return await session.poll()

    def _session(self, request: web.Request) -> "_Session":
        """Find the session that a request names, or open the one that it asks for."""
        query = request.query
        transport = query.get("transport")
        version = _VERSIONS.get(query.get("EIO", ""))
        if transport not in ("polling", "websocket"):
            raise _HandshakeError(0, "Transport unknown")
        if version is None:
            raise _HandshakeError(5, "Unsupported protocol version")
        if "sid" in query:
            session = self._sessions.get(query["sid"])
            if session is None or session.version != version:
                raise _HandshakeError(1, "Session ID unknown")
            return session
        if request.method != "GET":
            raise _HandshakeError(2, "Bad handshake method")
        if "j" in query:  # script tags, for browsers that no longer exist
            raise _HandshakeError(3, "Bad request")
        if len(self._sessions) >= self.max_sessions:
            raise _HandshakeError(4, "Too many sessions")
        origin = request.headers.get("Origin") or f"programs of {request.remote}"
        if sum(session.origin == origin for session in self._sessions.values()) >= self.max_per_origin:
            raise _HandshakeError(4, "Too many sessions")
        return self._open(version, transport, origin)

    async def _post(self, request: web.Request) -> web.Response:
        try:
            session = self._session(request)
        except _HandshakeError as refused:
            return refused.response()
        if request.query["transport"] != "polling" or session.socket is not None:
            return _HandshakeError(3, "Bad request").response()
        try:
            body = await read_body(request, largest=self.max_payload)
        except (web.HTTPException, WorkerError):
            session.close()
            raise
        try:
            for packet in engineio.split_payload(session.version, body.decode()):
                session.receive(packet)
        except ValueError:
            session.close()
            return _HandshakeError(3, "Bad request").response()
        return web.Response(text="ok", content_type="text/html")

    def _open(self, version: Version, transport: str, origin: str) -> "_Session":
        session = _Session(self, secrets.token_urlsafe(15), version, origin)
        self._sessions[session.sid] = session
        handshake = engineio.handshake_packet(
            version,
            session.sid,
            upgrades=["websocket"] if transport == "polling" else [],
            ping_interval=self.ping_interval,
            ping_timeout=self.ping_timeout,
            max_payload=self.max_payload,
        )
        session.send(handshake)
        if version == 3:
            session.joined = True
            session.send(engineio.CONNECT)
        return session

    def forget(self, session: "_Session") -> None:
        """Drop a session that has ended."""
        self._sessions.pop(session.sid, None)

    async def _websocket(self, request: web.Request, session: "_Session") -> web.StreamResponse:
        upgrade = "sid" in request.query
        if session.socket is not None or session.upgrading:
            return _HandshakeError(3, "Bad request").response()
        session.upgrading = upgrade
        socket = web.WebSocketResponse(max_msg_size=self.max_payload, compress=False, timeout=1.0)
        try:
            await socket.prepare(request)
            if upgrade and not await session.probed(socket):
                return socket
            session.take(socket)
            async for message in socket:
                if message.type is WSMsgType.TEXT:
                    session.receive(message.data)
        except ValueError:
            pass  # what the client sent is no packet: its session ends
        finally:
            session.upgrading = False
            if session.sends_over(socket) or not upgrade:
                session.close()
                await session.ended()
            if socket.prepared:
                await socket.close()
        return socket


class _Session:
    """One client: what waits to be sent to it, and over which transport."""

    def __init__(self, server: SocketServer, sid: str, version: Version, origin: str) -> None:
        self.server = server
        self.sid = sid
        self.version = version
        self.origin = origin
        self.joined = False
        self.upgrading = False
        self.socket: web.WebSocketResponse | None = None
        self._waiting: deque[str] = deque()
        self._backlog = 0
        self._news = asyncio.Event()
        self._heard = asyncio.Event()
        self._closed = False
        self._polling = False
        self._changing = False
        self._watcher = asyncio.create_task(self._watch())
        self._writer: asyncio.Task[None] | None = None

    def send(self, packet: str) -> None:
        """Queue a packet; a client with too large a backlog is dropped."""
        if self._closed:
            return
        if self._backlog > self.server.max_backlog:
            _logger.warning("a Socket.IO client is too slow and was dropped")
            self.close()
            return
        self._waiting.append(packet)
        self._backlog += len(packet)
        self._news.set()

    def receive(self, packet: str) -> None:
        """Take one packet of the client; raises `ValueError` for bytes that are no packet."""
        self._heard.set()
        kind, data = packet[:1], packet[1:]
        if kind == engineio.MESSAGE:
            self._receive_message(data)
        elif kind == engineio.PING and self.version == 3:
            self.send(engineio.PONG + data)
        elif kind == engineio.CLOSE:
            self.close()
        elif kind not in (engineio.PONG, engineio.UPGRADE, engineio.NOOP, "b"):
            raise ValueError("not a packet")

    def _receive_message(self, data: str) -> None:
        kind = engineio.MESSAGE + data[:1]
        namespace = data[1:].split(",", 1)[0].split("?", 1)[0] if data[1:2] == "/" else "/"
        if kind == engineio.CONNECT:
            if namespace != "/":
                reason = '{"message":"Invalid namespace"}' if self.version == 4 else '"Invalid namespace"'
                self.send(f"{engineio.CONNECT_ERROR}{namespace},{reason}")
            elif not self.joined:
                self.joined = True
                self.send(engineio.CONNECT + (f'{{"sid":"{secrets.token_urlsafe(15)}"}}' if self.version == 4 else ""))
        elif kind == engineio.DISCONNECT and namespace == "/":
            self.joined = False

    async def poll(self) -> web.Response:
        """Answer one long-polling request: wait for packets, then send all there are."""
        if self.socket is not None:
            return _HandshakeError(3, "Bad request").response()
        if self._polling:
            self.close()
            return _HandshakeError(3, "Bad request").response()
        self._polling = True
        try:
            while not (self._waiting or self._closed or self._changing):
                self._news.clear()
                await self._news.wait()
        finally:
            self._polling = False
        packets = self._drain() or [engineio.CLOSE if self._closed else engineio.NOOP]
        return web.Response(text=engineio.join_payload(self.version, packets), content_type="text/plain")

    async def probed(self, socket: web.WebSocketResponse) -> bool:
        """Change from polling to a websocket; False when the client reconnects instead."""
        try:
            async with asyncio.timeout(self.server.ping_timeout):
                if await socket.receive_str() != engineio.PING + "probe":
                    return False
                await socket.send_str(engineio.PONG + "probe")
                self._changing = (
                    True  # from now on a poll is answered at once: the client waits for that before it switches
                )
                self._news.set()
                return await socket.receive_str() == engineio.UPGRADE and not self._closed
        except (TimeoutError, TypeError, ConnectionError):  # TypeError: binary, or a closing frame
            return False
        finally:
            self._changing = False

    def take(self, socket: web.WebSocketResponse) -> None:
        """Send everything over this websocket from now on."""
        self.socket = socket
        self._writer = asyncio.create_task(self._write(socket))

    def sends_over(self, socket: web.WebSocketResponse) -> bool:
        """Whether this is the session's websocket."""
        return self.socket is socket

    async def _write(self, socket: web.WebSocketResponse) -> None:
        try:
            while True:
                for packet in self._drain():
                    await socket.send_str(packet)
                if self._waiting:
                    continue
                if self._closed:
                    break
                self._news.clear()
                await self._news.wait()
            await socket.close()
        except (ConnectionError, RuntimeError):  # RuntimeError: the socket is closing
            self.close()

    async def _watch(self) -> None:
        """End the session of a silent client."""
        budgets = self.server.ping_timeout + (0 if self.version == 4 else self.server.ping_interval)
        try:
            while not self._closed:
                if self.version == 4:
                    await asyncio.sleep(self.server.ping_interval)
                    self.send(engineio.PING)
                self._heard.clear()
                async with asyncio.timeout(budgets):
                    await self._heard.wait()
        except TimeoutError:
            self.close()

    def _drain(self) -> list[str]:
        packets = list(self._waiting)
        self._waiting.clear()
        self._backlog = 0
        return packets

    def close(self) -> None:
        """End the session; waiting packets are still sent where the transport allows."""
        if self._closed:
            return
        self._closed = True
        self.joined = False
        self._news.set()
        if self._watcher is not asyncio.current_task():
            self._watcher.cancel()
        self.server.forget(self)

    async def ended(self) -> None:
        """Wait until the session's tasks end; a client that does not read gets one second."""
        if self._writer is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await self._writer
        await asyncio.gather(self._watcher, return_exceptions=True)


class _HandshakeError(Exception):
    """A request that is no part of the protocol, with the protocol's number for the reason."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason

    def response(self) -> web.Response:
        return web.json_response({"code": self.code, "message": self.reason}, status=400)
