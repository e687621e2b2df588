"""Events to browsers over Redis, where the platform's Socket.IO servers listen.

Redis stores no events: one that is published without a subscriber is lost. So an event counts as sent only when the
primary has confirmed it, and one whose confirmation is lost is sent again: an event arrives at least once.
"""

import asyncio
import contextlib
import logging
import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote, urlsplit

from redis.asyncio.connection import Connection, SSLConnection
from redis.exceptions import NoPermissionError, ResponseError

from cellworker.errors import ErrorCode, WorkerError
from cellworker.gateway.core.cancel_tasks import end
from cellworker.logs import log
from cellworker.protocol.emitter import CHANNEL, packet
from cellworker.settings import Settings

__all__ = ["RedisBus", "RedisUnavailableError", "resolve_redis_url"]

TRY_S = 2.0
"""Seconds to try to send an event whose sender gives no deadline."""
_LISTENERS_S = 10.0
"""Seconds after an outage in which an event without a subscriber is sent again."""
_LISTENERS_EVERY_S = 0.2

_CONNECT_S = 5.0
_REPLY_S = 5.0
_PROBE_EVERY_S = 10.0
_LOOK_EVERY_S = 1.0
_CLOSE_S = 1.0
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.5  # less than TRY_S, so that an event gets at least one try
_BATCH_BYTES = 1_000_000
_DEVELOPMENT_URL = "redis://host.docker.internal:6379"
_SLOW = "no answer in time"
_HOW = "expected redis://[user:password@]host[:port] or rediss://..., special characters of a password as %XX"

_logger = logging.getLogger(__name__)


class RedisUnavailableError(ConnectionError):
    """An event could not be sent in its time; the text holds the address and the error, never the password."""


@dataclass(frozen=True, slots=True)
class _Address:
    host: str
    port: int
    tls: bool
    username: str | None
    password: str | None = field(repr=False)

    @classmethod
    def parse(cls, url: str) -> Self:
        try:
            parts = urlsplit(url.strip())
            host, port = parts.hostname, parts.port or 6379
        except ValueError:  # its text may hold a part of the password
            host, port = None, 0
        if not host or parts.scheme not in ("redis", "rediss") or parts.query or parts.fragment:
            raise WorkerError(ErrorCode.INVALID_INPUT, f"environment variable REDIS_URL: {_HOW}") from None
        # A path names a database, which publishing does not know.
        username, password = (unquote(text) if text else None for text in (parts.username, parts.password))
        return cls(host, port, parts.scheme == "rediss", username, password)

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(eq=False, slots=True)
class _Event:
    message: bytes
    sent: asyncio.Future[int]


class RedisBus:
    """Publishes events over one connection, in their order; an async context manager.

    One task owns the connection and sends all waiting events at a time. So cancelling an `emit` never leaves half a
    command behind. Entering does not wait for Redis: events that are emitted meanwhile wait.

    Parameters
    ----------
    url
        ``redis://`` or ``rediss://`` (TLS), with a password where one is needed.
    verify
        False accepts any certificate and any name in it.
    ca_file
        Certificates to trust beside the system's (those of ``SSL_CERT_FILE``, where set).

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` when `url` cannot be understood.
    """

    def __init__(self, url: str, *, verify: bool = True, ca_file: Path | None = None) -> None:
        self._address = _Address.parse(url)
        self._connection = _connection(self._address, verify=verify, ca_file=ca_file)
        self._waiting: deque[_Event] = deque()
        self._wake = asyncio.Event()
        self._sender: asyncio.Task[None] | None = None
        self._failing_since: datetime | None = None
        self._reason = "not connected yet"
        self._told = False
        self._last_look = -math.inf
        self._may_look = True
        self._listeners_until = -math.inf

    @property
    def failing_since(self) -> datetime | None:
        """Time of the first failure to reach Redis, in UTC; None while all is well.

        It is known within 10 seconds, also while nothing is sent. Before the first connection it is the time at which
        the bus was entered.
        """
        return self._failing_since

    async def __aenter__(self) -> Self:
        self._failing_since = datetime.now(UTC)
        self._sender = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._sender:
            await end(self._sender)
            self._sender = None
            await self._disconnect(wait=True)
        for event in self._waiting:
            if not event.sent.done():
                event.sent.set_exception(RedisUnavailableError("the connection to Redis is closed"))
        self._waiting.clear()

    def post(self, event: str, payload: Any, told: Callable[[bool], None]) -> None:  # noqa: ANN401
        """Send one event to everyone, without waiting for it; dropped after 2 seconds without Redis.

        Parameters
        ----------
        event, payload
            As in `cellworker.protocol.emitter.packet`.
        told
            Called with whether Redis has confirmed it.

        Raises
        ------
        TypeError, OverflowError
            When `payload` cannot be sent at all.
        """
        if self._sender is None:
            told(self._sender is not None)
            return
        loop = asyncio.get_running_loop()
        waiting = _Event(packet(event, payload), loop.create_future())
        waiting.sent.add_done_callback(lambda sent: told(not sent.cancelled() and sent.exception() is None))
        self._waiting.append(waiting)
        self._wake.set()
        loop.call_later(TRY_S, waiting.sent.cancel)

    async def emit(self, event: str, payload: Any, deadline: float | None = None) -> None:  # noqa: ANN401
        """Send one event to everyone, and return when Redis has confirmed it.

        Redis stores nothing for absent subscribers. After an outage the platform's servers reconnect a little
        later than this bus, so in the first seconds an event without a listener is sent again.

        Parameters
        ----------
        event, payload
            As in `cellworker.protocol.emitter.packet`.
        deadline
            Seconds to try; None means 2.

        Raises
        ------
        RedisUnavailableError
            When it could not be sent in that time. It may have arrived even so, when only its confirmation was lost.
        TypeError, OverflowError
            When `payload` cannot be sent at all.
        """
        if self._sender is None:
            raise RedisUnavailableError("the connection to Redis is closed")
        content = packet(event, payload)
        while True:
            waiting = _Event(content, asyncio.get_running_loop().create_future())
            self._waiting.append(waiting)
            self._wake.set()
            try:
                async with asyncio.timeout(TRY_S if deadline is None else max(0.0, deadline)):
                    listeners = await waiting.sent
            except TimeoutError:
                message = f"Redis at {self._address}: {self._reason}"
                raise RedisUnavailableError(message) from None
            if listeners or asyncio.get_running_loop().time() >= self._listeners_until:
                return
            await asyncio.sleep(_LISTENERS_EVERY_S)

    async def _run(self) -> None:
        """Send waiting events, forever; after an error, connect again."""
        failures = 0
        while True:
            try:
                self._last_look = -math.inf
                async with asyncio.timeout(_CONNECT_S):
                    await self._connection.connect()  # type: ignore[no-untyped-call]
                if self._told:
                    self._listeners_until = asyncio.get_running_loop().time() + _LISTENERS_S
                while True:
                    await self._send_waiting()
                    failures = 0
                    self._note_success()
                    await self._work_or_time_to_probe()
            except Exception as error:  # noqa: BLE001 - whatever it was, a new connection is the answer to it
                self._note_failure(error)
            await self._disconnect()
            await asyncio.sleep(_pause(failures))
            failures += 1
            self._forget_the_abandoned()

    async def _send_waiting(self) -> None:
        """Send one batch, and dequeue the confirmed events; without any event, check the connection."""
        self._wake.clear()
        self._forget_the_abandoned()
        batch = self._next_batch()
        now = asyncio.get_running_loop().time()
        look = self._may_look and (not batch or now - self._last_look > _LOOK_EVERY_S)
        commands: list[tuple[str | bytes, ...]] = [("PUBLISH", CHANNEL, event.message) for event in batch]
        if look:
            commands.insert(0, ("ROLE",))
        elif not batch:
            commands = [("PING",)]
        async with asyncio.timeout(_REPLY_S):
            await self._connection.send_packed_command(self._connection.pack_commands(commands))
            if look:
                await self._read_role()
                self._last_look = now
            elif not batch:
                await self._connection.read_response(disconnect_on_error=False)
            for event in batch:
                listeners = await self._connection.read_response(disconnect_on_error=False)
                self._waiting.popleft()
                if not event.sent.done():
                    event.sent.set_result(listeners)

    def _next_batch(self) -> list[_Event]:
        batch, size = [], 0
        for event in self._waiting:
            batch.append(event)
            size += len(event.message)
            if size >= _BATCH_BYTES:
                break
        return batch

    async def _read_role(self) -> None:
        """Refuse a replica: it accepts what is published and shows it only to its own listeners, without an error.

        A primary becomes one in a failover, and keeps its connections. The answer comes before those of the batch, so
        that nothing counts as sent that was not.
        """
        try:
            role = await self._connection.read_response(disconnect_on_error=False)
        except ResponseError as error:
            if not isinstance(error, NoPermissionError) and "unknown command" not in str(error):
                raise
            self._may_look = False
            return
        if role[0] != b"master":
            raise ConnectionError("the server is a replica")

    async def _work_or_time_to_probe(self) -> None:
        if not self._waiting:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_PROBE_EVERY_S):
                    await self._wake.wait()

    def _forget_the_abandoned(self) -> None:
        if any(event.sent.done() for event in self._waiting):
            self._waiting = deque(event for event in self._waiting if not event.sent.done())

    async def _disconnect(self, *, wait: bool = False) -> None:
        with contextlib.suppress(Exception):
            async with asyncio.timeout(_CLOSE_S):
                await self._connection.disconnect(nowait=not wait)

    def _note_failure(self, error: Exception) -> None:
        words = str(error) or (_SLOW if isinstance(error, TimeoutError) else type(error).__name__)
        password = self._address.password
        self._reason = words.replace(password, "[secret]") if password else words
        self._failing_since = self._failing_since or datetime.now(UTC)
        if not self._told:
            self._told = True
            log(_logger, logging.WARNING, "redis out of reach", redis=str(self._address), reason=self._reason)

    def _note_success(self) -> None:
        since, self._failing_since = self._failing_since, None
        if since and self._told:
            seconds = round((datetime.now(UTC) - since).total_seconds(), 1)
            log(_logger, logging.INFO, "redis is back", redis=str(self._address), seconds=seconds)
        self._told = False
        self._reason = _SLOW


def _pause(failures: int) -> float:
    """Return seconds until the next try, at random, so that not all workers come back at once."""
    longest = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2 ** min(failures, 10))
    return random.uniform(longest / 2, longest)  # noqa: S311 - no secret is made of it


def _connection(address: _Address, *, verify: bool, ca_file: Path | None) -> Connection:
    common: dict[str, Any] = {
        "host": address.host,
        "port": address.port,
        "username": address.username,
        "password": address.password,
        "protocol": 2,
        "socket_connect_timeout": _CONNECT_S,
        "socket_timeout": None,  # a batch has one timeout for all its answers
    }
    if not address.tls:
        return Connection(**common)
    return SSLConnection(
        ssl_cert_reqs="required" if verify else "none",
        ssl_check_hostname=verify,
        ssl_ca_certs=str(ca_file) if ca_file else None,
        **common,
    )


async def resolve_redis_url(settings: Settings, elasticache: Any, *, environment: str) -> str:  # noqa: ANN401
    """Return where Redis is: ``REDIS_URL``, else the platform's own.

    Parameters
    ----------
    settings
        For ``REDIS_URL``.
    elasticache
        An aiobotocore client of the service; asked only in production and staging, and only without ``REDIS_URL``.
    environment
        ``production``, ``staging``, ``development`` or ``test``.

    Returns
    -------
    str
        May hold a password.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` when ElastiCache knows no primary endpoint of ``biomage-redis-<environment>``.
    botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError
        When it cannot be asked, or says that there is no such group.
    """
    if settings.redis_url:
        return settings.redis_url
    if environment in ("development", "test"):
        return _DEVELOPMENT_URL
    group = f"biomage-redis-{environment}"
    answer = await elasticache.describe_replication_groups(ReplicationGroupId=group)
    try:
        endpoint = answer["ReplicationGroups"][0]["NodeGroups"][0]["PrimaryEndpoint"]
        return f"rediss://{endpoint['Address']}:{endpoint['Port']}"
    except (LookupError, TypeError):
        message = f"ElastiCache names no primary endpoint of {group}: set the environment variable REDIS_URL"
        raise WorkerError(ErrorCode.INVALID_INPUT, message) from None
