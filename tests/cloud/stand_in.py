"""What the stand-ins for SQS and S3 share: the door for tests at ``/_admin``, the policy, the faults, the clock.

``GET /_admin`` tells the counts per action, the policy and what the service holds. ``POST /_admin`` with a JSON object
changes what it names:

* ``allow``: list of ``service:Action[/resource]`` (``null`` for all), ``deny``: the same; both know ``*``.
* ``faults``: action (or ``*``) to the fields of `Fault`; ``null`` removes that one. ``clear``: removes all.
* ``advance_s``: seconds that the clock is moved forward.
* ``refuse_s``: resets all connections and refuses new ones for so many seconds.
* ``reset_counts``.

Who signs with the access key `TESTER` is the test itself: policy, faults and counts do not apply.
"""

import argparse
import asyncio
import contextlib
import os
import signal
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Protocol

import orjson
from aiohttp import web
from ports import free_port

TESTER = "tester"
_TESTER_SIGNED = (f"Credential={TESTER}/", f"Credential={TESTER}%2F", f"AWSAccessKeyId={TESTER}&")
_CHUNK = 1 << 18


class RefusedError(Exception):
    """The request is answered with an error of the service."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class ResetError(Exception):
    """The connection is to be reset instead of an answer."""


@dataclass
class Fault:
    """What goes wrong with one action.

    ``fail`` requests are answered with ``status`` and ``code`` and not carried out. Each waits ``latency_s`` first.
    ``bandwidth`` (bytes per second) holds for the bodies of the request and of the answer. ``times`` connections are
    reset after ``reset_after_bytes`` of the body of the request, or else of the answer. ``drop_answer`` requests are
    carried out, and the connection is reset instead of an answer.
    """

    fail: int = 0
    status: int = 503
    code: str = "SlowDown"
    message: str = "Please reduce your request rate."
    latency_s: float = 0.0
    bandwidth: float = 0.0
    reset_after_bytes: int | None = None
    times: int = 1
    drop_answer: int = 0


class Flow:
    """The bytes of one request's bodies, at the fault's speed and up to the fault's end."""

    def __init__(self, fault: Fault | None) -> None:
        self.fault = fault
        self.left = sys.maxsize
        if fault is not None and fault.reset_after_bytes is not None and fault.times > 0:
            self.left = fault.reset_after_bytes

    @property
    def chunk(self) -> int:
        """Bytes to move at once, at most."""
        bandwidth = self.fault.bandwidth if self.fault else 0.0
        return max(1, min(self.left, _CHUNK, int(bandwidth / 20) + 1 if bandwidth else _CHUNK))

    async def moved(self, size: int) -> None:
        """Account for `size` bytes that moved."""
        if self.fault is None:
            return
        if self.fault.bandwidth:
            await asyncio.sleep(size / self.fault.bandwidth)
        self.left -= size
        if self.left <= 0:
            self.fault.times -= 1
            raise ResetError


NO_FLOW = Flow(None)


class Service(Protocol):
    """What a stand-in implements beside the door."""

    name: str

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Carry out one request."""
        ...

    def report(self) -> dict[str, Any]:
        """What is in there."""
        ...

    def clock_moved(self) -> None:
        """The door's clock was moved forward."""
        ...


class Door:
    """Who may do what, what goes wrong, and what time it is."""

    def __init__(self, service: str, allow: Sequence[str] | None = None) -> None:
        self.service = service
        self.allow = None if allow is None else list(allow)
        self.deny: list[str] = []
        self.faults: dict[str, Fault] = {}
        self.counts: Counter[str] = Counter()
        self.offset = 0.0

    def now(self) -> float:
        """Seconds since 1970."""
        return time.time() + self.offset

    def permits(self, permission: str, resource: str) -> bool:
        """Whether the policy allows ``PutObject`` on ``bucket/key``."""
        name = f"{self.service}:{permission}"

        def matches(rule: str) -> bool:
            action, _, pattern = rule.partition("/")
            return fnmatchcase(name, action) and (not pattern or fnmatchcase(resource, pattern))

        if any(map(matches, self.deny)):
            return False
        return self.allow is None or any(map(matches, self.allow))

    async def enter(self, request: web.BaseRequest, action: str) -> Fault | None:
        """Count the request, and let it wait or fail as its fault says; return the fault."""
        if is_tester(request):
            return None
        self.counts[action] += 1
        fault = self.faults.get(action) or self.faults.get("*")
        if fault is None:
            return None
        if fault.latency_s:
            await asyncio.sleep(fault.latency_s)
        if fault.fail > 0:
            fault.fail -= 1
            raise RefusedError(fault.status, fault.code, fault.message)
        return fault

    @staticmethod
    def reset_before(fault: Fault | None) -> None:
        """Raise where the connection of a request without a body to count is reset: before it is carried out."""
        if fault is not None and fault.reset_after_bytes is not None and fault.times > 0:
            fault.times -= 1
            raise ResetError

    @staticmethod
    def leave(fault: Fault | None) -> None:
        """Raise where the answer of a request that was carried out gets lost."""
        if fault is not None and fault.drop_answer > 0:
            fault.drop_answer -= 1
            raise ResetError

    def change(self, change: dict[str, Any]) -> None:
        """Do what ``POST /_admin`` asks for, the clock and the listener excepted."""
        unknown = set(change) - {"allow", "deny", "faults", "clear", "advance_s", "refuse_s", "reset_counts"}
        if unknown:
            raise ValueError("unknown: " + ", ".join(sorted(unknown)))
        if change.get("clear"):
            self.faults.clear()
        for action, values in (change.get("faults") or {}).items():
            self.faults.pop(action, None)
            if values is not None:
                wrong = set(values) - {item.name for item in fields(Fault)}
                if wrong:
                    raise ValueError("unknown in a fault: " + ", ".join(sorted(wrong)))
                self.faults[action] = Fault(**values)
        if "allow" in change:
            self.allow = change["allow"]
        if "deny" in change:
            self.deny = change["deny"]
        if change.get("reset_counts"):
            self.counts.clear()


def is_tester(request: web.BaseRequest) -> bool:
    """Whether the test itself asks."""
    signed = request.headers.get("Authorization") or request.rel_url.raw_query_string + "&"
    return any(mark in signed for mark in _TESTER_SIGNED)


def reset(request: web.BaseRequest) -> web.StreamResponse:
    """Reset the connection at once; what is returned is never sent."""
    _reset_transport(request.transport)
    return web.Response()


def _reset_transport(transport: asyncio.Transport | None) -> None:
    if transport is None:
        return
    connection = transport.get_extra_info("socket")
    if connection is not None:
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


class _Listener:
    """The socket of a service, its door included."""

    def __init__(self, service: Service, door: Door, port: int) -> None:
        self.service, self.door, self.port = service, door, port
        self.http = web.Server(
            self.handle,
            request_factory=_request,
            handler_cancellation=True,
            access_log=None,
            auto_decompress=False,
            keepalive_timeout=3600.0,
        )
        self.server: asyncio.Server | None = None

    async def open(self) -> None:
        self.server = await asyncio.get_running_loop().create_server(
            self.http, "127.0.0.1", self.port, backlog=1024, reuse_address=True
        )

    def close(self, keep: web.BaseRequest | None = None) -> None:
        if self.server is not None:
            self.server.close()
            self.server = None
        for connection in self.http.connections:
            if keep is None or connection.transport is not keep.transport:
                _reset_transport(connection.transport)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/_admin":
            return await self.admin(request)
        try:
            return await self.service.answer(request)
        except ResetError:
            return reset(request)

    async def admin(self, request: web.BaseRequest) -> web.Response:
        if request.method == "POST":
            try:
                change = orjson.loads(await request.read())
                self.door.change(change)
            except (ValueError, TypeError) as error:
                return web.json_response(str(error), status=400)
            if "advance_s" in change:
                self.door.offset += change["advance_s"]
                self.service.clock_moved()
            if "refuse_s" in change:
                self.close(keep=request)
                asyncio.get_running_loop().call_later(change["refuse_s"], lambda: asyncio.ensure_future(self.open()))
        told = {"counts": self.door.counts, "allow": self.door.allow, "deny": self.door.deny, **self.service.report()}
        answer = web.Response(body=orjson.dumps(told), content_type="application/json")
        answer.force_close()
        return answer


def _request(message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
    # SQS takes bodies of 1 MiB, which JSON may write as up to six times as many bytes.
    loop = asyncio.get_running_loop()
    return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=32 << 20)


def arguments(description: str) -> argparse.ArgumentParser:
    """The options that every stand-in has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1; 0 takes a free one")
    parser.add_argument("--ready-file", type=Path, help="file that gets the URL once it answers")
    parser.add_argument("--allow", help="actions that the policy allows, with commas between; all unless given")
    return parser


def make_door(service: str, options: argparse.Namespace) -> Door:
    """The door that the options describe."""
    return Door(service, None if options.allow is None else options.allow.split(","))


def run(service: Service, door: Door, options: argparse.Namespace) -> None:
    """Serve until SIGTERM."""
    asyncio.run(_serve(service, door, options))


async def _serve(service: Service, door: Door, options: argparse.Namespace) -> None:
    port = options.port or free_port()
    listener = _Listener(service, door, port)
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    await listener.open()
    url = f"http://127.0.0.1:{port}"
    if options.ready_file:
        unfinished = options.ready_file.with_name(f"{options.ready_file.name}.{os.getpid()}")
        unfinished.write_text(url)
        unfinished.replace(options.ready_file)
    print(url, flush=True)
    await ended.wait()
    listener.close()
