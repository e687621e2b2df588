"""The engine's side of the zygote: starts it, asks it for worker processes, receives their exit statuses."""

import asyncio
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from itertools import count
from typing import Literal

import msgspec

from cellworker.child_processes import end_process
from cellworker.engine.workers import zygote
from cellworker.logs import log

__all__ = ["ZYGOTE_LOST", "StartMethod", "ZygoteClient"]

StartMethod = Literal["fork", "spawn"]

ZYGOTE_LOST = -256
"""Neither signal nor exit code: the worker process ended only because the zygote did."""
_CLOSE_TIMEOUT_S = 5.0
_LOOK_EVERY_S = 5.0
"""Seconds between two pings of the zygote."""
_MAX_UNANSWERED = 6
"""Max unanswered pings: a zygote with more hangs, which is noticed within 35 seconds."""
_MAX_UNANSWERED_AT_START = 24
"""While it imports the workers' modules, it answers nothing."""

_logger = logging.getLogger(__name__)


class ZygoteClient:
    """Makes processes through a zygote, and restarts the zygote if it dies.

    Parameters
    ----------
    preload
        Modules that every worker needs.
    method
        How processes are made: forked from the zygote, or started by spawn where forking is not safe.
    """

    def __init__(self, preload: Sequence[str], method: StartMethod | None = None) -> None:
        self._preload = list(preload)
        self._method: StartMethod = method or ("fork" if sys.platform == "linux" else "spawn")
        self._numbers = count(1)
        self._exits: dict[int, asyncio.Future[int]] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._held = b""
        self._closing = False
        self._look_every_s = _LOOK_EVERY_S
        self._looking: asyncio.TimerHandle | None = None
        self._unanswered = 0
        self._has_answered = False

    @property
    def pid(self) -> int | None:
        """The zygote's process id, once it runs."""
        return self._process.pid if self._process else None

    def start_process(self, connection: socket.socket) -> tuple[int, asyncio.Future[int]]:
        """Make a worker that serves `connection`, which is closed here.

        Returns
        -------
        int
            The number to give to `kill`.
        asyncio.Future
            Done when the process has ended: minus the signal, or the exit code.
        """
        with connection:
            number = next(self._numbers)
            record = zygote.RECORD.pack(zygote.START, number, 0)
            try:
                socket.send_fds(self._control or self._start_zygote(), [record], [connection.fileno()])
            except (BrokenPipeError, ConnectionResetError):
                self._lose_zygote()
                socket.send_fds(self._start_zygote(), [record], [connection.fileno()])
            exited = self._exits[number] = asyncio.get_running_loop().create_future()
        return number, exited

    def kill(self, number: int) -> None:
        """End a process and its descendants now; nothing happens if it has ended already."""
        if number in self._exits and self._control and not self._closing:
            try:
                self._control.send(zygote.RECORD.pack(zygote.KILL, number, 0))
            except (BrokenPipeError, ConnectionResetError):
                self._lose_zygote()

    async def close(self) -> None:
        """End the zygote and all its processes, and wait until they have ended."""
        self._closing = True
        if self._control:
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._control)
            self._control.shutdown(socket.SHUT_WR)
            with suppress(TimeoutError, ConnectionResetError):
                async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                    while await loop.sock_recv(self._control, 4096):
                        pass
        self._lose_zygote()

    def _start_zygote(self) -> socket.socket:
        control, other_end = socket.socketpair()
        environment = {
            **os.environ,
            # numpy's own thread pool would only cost memory; our kernels use threads of their own.
            "OPENBLAS_NUM_THREADS": os.environ.get("OPENBLAS_NUM_THREADS", "1"),
            "MALLOC_ARENA_MAX": os.environ.get("MALLOC_ARENA_MAX", "2"),
        }
        with other_end:
            self._process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-P", "-m", "cellworker.engine.workers.zygote", str(other_end.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=sys.stderr.fileno() if _has_file(sys.stderr) else subprocess.DEVNULL,
                pass_fds=[other_end.fileno()],
                env=environment,
                start_new_session=True,
            )
        control.sendall(
            msgspec.json.encode(zygote.Config([str(entry) for entry in sys.path], self._preload, self._method)) + b"\n"
        )
        control.setblocking(False)  # noqa: FBT003
        loop = asyncio.get_running_loop()
        loop.add_reader(control, self._hear)
        self._control = control
        self._unanswered, self._has_answered = 0, False
        self._looking = loop.call_later(self._look_every_s, self._look)
        return control

    def _look(self) -> None:
        """Ping the zygote; one that does not answer is killed, and the next worker process starts another.

        Pings are counted, not seconds: after a pause of this process the zygote still has time to answer.
        """
        if self._control is None or self._closing:
            return
        if self._looking:
            self._looking.cancel()  # one series of pings, whatever the caller
        allowed = _MAX_UNANSWERED if self._has_answered else _MAX_UNANSWERED_AT_START
        if self._unanswered >= allowed:
            log(_logger, logging.ERROR, "zygote hangs", unanswered=self._unanswered, workers=len(self._exits))
            self._lose_zygote(hangs=True)
            return
        self._unanswered += 1
        try:
            self._control.send(zygote.RECORD.pack(zygote.ALIVE, 0, 0))
        except BlockingIOError:
            pass
        except (BrokenPipeError, ConnectionResetError):
            self._lose_zygote()
            return
        self._looking = asyncio.get_running_loop().call_later(self._look_every_s, self._look)

    def _hear(self) -> None:
        if self._control is None:
            return
        try:
            news = self._control.recv(4096)
        except BlockingIOError:
            return
        except ConnectionResetError:
            news = b""
        if not news:
            self._lose_zygote()
            return
        self._held += news
        self._unanswered, self._has_answered = 0, True
        size = zygote.RECORD.size
        while len(self._held) >= size:
            letter, number, status = zygote.RECORD.unpack(self._held[:size])
            self._held = self._held[size:]
            exited = self._exits.pop(number, None)
            if exited and not exited.done():
                exited.set_result(status if letter == zygote.EXITED else 71)

    def _lose_zygote(self, *, hangs: bool = False) -> None:
        """Forget the zygote; its workers die with it."""
        if self._looking:
            self._looking.cancel()
            self._looking = None
        if self._control:
            asyncio.get_running_loop().remove_reader(self._control)
            self._control.close()
            self._control = None
        if self._process:
            if hangs:
                self._process.kill()  # a stopped zygote does not see that the connection is closed
            end_process(self._process)
            self._process = None
        self._held = b""
        for exited in self._exits.values():
            if not exited.done():
                exited.set_result(ZYGOTE_LOST)
        self._exits.clear()


def _has_file(stream: object) -> bool:
    try:
        return isinstance(stream.fileno(), int)  # type: ignore[attr-defined]
    except (AttributeError, OSError, ValueError):
        return False
