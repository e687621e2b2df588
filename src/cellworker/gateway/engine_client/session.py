"""Connections to the engine."""

import socket
from typing import Any

import aiohttp

__all__ = ["engine_session"]

_CONNECT_S = 5.0


def engine_session() -> aiohttp.ClientSession:
    """Return a session for calls to the engine, without a timeout and without a limit on their number."""
    connector = aiohttp.TCPConnector(limit=0, socket_factory=_socket)
    return aiohttp.ClientSession(
        connector=connector,
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        read_bufsize=1 << 20,
        skip_auto_headers=("User-Agent", "Accept-Encoding", "Accept"),
    )


def _socket(address: Any) -> socket.socket:  # noqa: ANN401 - as `getaddrinfo` returns it
    """Make a socket that detects within a minute that the other machine is down, however long an answer takes."""
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, name):
            made.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return made
