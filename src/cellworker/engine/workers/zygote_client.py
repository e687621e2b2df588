"""The engine's side of the zygote: starts it, asks it for worker processes, receives their exit statuses."""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from itertools import count
from typing import Literal

import msgspec

from cellworker.engine.workers import zygote

__all__ = ["StartMethod", "ZygoteClient"]

StartMethod = Literal["fork", "spawn"]

_ZYGOTE_KILLED = -9
_CLOSE_TIMEOUT_S = 5.0


class ZygoteClient:
    """Makes processes through a zygote, which is started again if it dies.

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
            Done when the process is gone: minus the signal, or the exit code.
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
        """End a process and its descendants now; nothing happens if it is gone already."""
        if number in self._exits and self._control and not self._closing:
            try:
                self._control.send(zygote.RECORD.pack(zygote.KILL, number, 0))
            except (BrokenPipeError, ConnectionResetError):
                self._lose_zygote()

    async def close(self) -> None:
        """End the zygote and all its processes, and wait until they are gone."""
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
            # numpy's own thread pool is not used while its threads would only cost memory; kernels bring their own.
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
        asyncio.get_running_loop().add_reader(control, self._hear)
        self._control = control
        return control

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
        size = zygote.RECORD.size
        while len(self._held) >= size:
            letter, number, status = zygote.RECORD.unpack(self._held[:size])
            self._held = self._held[size:]
            exited = self._exits.pop(number, None)
            if exited and not exited.done():
                exited.set_result(status if letter == zygote.EXITED else 71)

    def _lose_zygote(self) -> None:
        """Forget the zygote; its workers die with it."""
        if self._control:
            asyncio.get_running_loop().remove_reader(self._control)
            self._control.close()
            self._control = None
        status = _ZYGOTE_KILLED
        if self._process:
            try:
                status = self._process.wait(1) or status
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        self._held = b""
        for exited in self._exits.values():
            if not exited.done():
                exited.set_result(status)
        self._exits.clear()


def _has_file(stream: object) -> bool:
    try:
        return isinstance(stream.fileno(), int)  # type: ignore[attr-defined]
    except (AttributeError, OSError, ValueError):
        return False
