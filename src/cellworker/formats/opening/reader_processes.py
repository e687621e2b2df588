"""How a child that reads files comes to be: started anew, or forked from a process that has everything imported.

The first child of a process is started: a command that opens one file needs no more. From the second on they are forked
(Linux), which saves the fifth of a second that Python takes to import NumPy and the readers. Where forking fails, they
are started as the first one.
"""

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from cellworker.child_processes import end_process
from cellworker.formats.opening import reader_nursery

__all__ = ["Order", "ReaderProcess", "make_reader"]

_KEPT: Final = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
_ONE_THREAD: Final = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
_START: Final = (
    "import sys, json; sys.path[:] = json.loads(sys.argv.pop()); from cellworker.formats.opening.{} import main; main()"
)
_MAX_ANSWER_S: Final = 30.0
"""Seconds within which the nursery must have started a child: it may have to import the readers on a busy machine."""
_MAX_END_S: Final = 10.0


class ReaderProcess(Protocol):
    """A child that reads files."""

    @property
    def errors(self) -> int:
        """The descriptor from which its standard error is read."""

    def status(self, within_s: float) -> int | None:
        """Return how it ended, a signal negative; None if it goes on after these seconds."""

    def end(self) -> None:
        """Kill what is left of it and of the processes it started, and wait until they are gone."""


@dataclass(frozen=True)
class Order:
    """What a child is to do, and the pipes it needs.

    Parameters
    ----------
    text
        For the child, JSON; without what depends on how it is made.
    module
        The module of the function it calls.
    replies, life
        Descriptors: where it writes its replies, and the pipe whose end tells it that the caller has ended.
    """

    text: dict[str, object]
    module: str
    replies: int
    life: int


def make_reader(order: Order) -> ReaderProcess:
    """Make a child that carries out an order."""
    return _nursery.fork(order) or _Started(order)


def _environment() -> dict[str, str]:
    return {name: os.environ[name] for name in _KEPT if name in os.environ} | dict.fromkeys(_ONE_THREAD, "1")


def _path() -> list[str]:
    return [entry for entry in sys.path if entry]


def _command(module: str, *arguments: str) -> list[str]:
    code = _START.format(module)
    return [sys.executable, "-I", "-X", "utf8", "-c", code, *arguments, json.dumps(_path())]


class _Started:
    """A child by itself."""

    def __init__(self, order: Order) -> None:
        with _file_of({**order.text, "replies": order.replies, "life": order.life, "parent": os.getpid()}) as stdin:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and our own words
                _command("sandbox_child"),
                stdin=stdin,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env=_environment(),
                pass_fds=(order.replies, order.life),
                start_new_session=True,
            )

    @property
    def errors(self) -> int:
        assert self._process.stderr is not None
        return self._process.stderr.fileno()

    def status(self, within_s: float) -> int | None:
        with suppress(subprocess.TimeoutExpired):
            return self._process.wait(within_s)
        return None

    def end(self) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        if self._process.stderr is not None:
            self._process.stderr.close()


@dataclass(frozen=True)
class _Forked:
    """A child of the nursery, which tells on the call's socket how it ended and kills it when this end closes."""

    errors: int
    call: socket.socket

    def status(self, within_s: float) -> int | None:
        self.call.settimeout(within_s)
        with suppress(TimeoutError, ConnectionError):
            if message := self.call.recv(reader_nursery.STATUS.size):
                status: int = reader_nursery.STATUS.unpack(message)[0]
                return status
            return -signal.SIGKILL  # the nursery was killed, and its children with it
        return None

    def end(self) -> None:
        os.close(self.errors)
        with self.call:
            self.call.settimeout(_MAX_END_S)
            try:
                self.call.shutdown(socket.SHUT_WR)
                while self.call.recv(64):
                    pass
            except TimeoutError:
                _nursery.close()  # it hangs: it goes, and its children die with it
            except OSError:
                pass  # it has gone already


class _Nursery:
    """The caller's side of the process that forks: it is started with the second child, and again when it is gone."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._control: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._is_first = True

    def fork(self, order: Order) -> ReaderProcess | None:
        """Return a forked child; None for the first one, and where it cannot be had."""
        if sys.platform != "linux":
            return None
        with self._lock:
            if self._is_first:
                self._is_first = False
                return None
        with ExitStack() as stack:
            mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            stack.callback(mine.close)
            errors, childs_errors = os.pipe()
            stack.callback(os.close, errors)
            try:
                text = {**order.text, "environ": _environment(), "path": _path(), "folder": str(Path.cwd())}
                with theirs, _file_of(text) as stdin:
                    files = [stdin, order.replies, order.life, childs_errors, theirs.fileno()]
                    self._send(order.module.encode(), files)
            except OSError:
                return None
            finally:
                os.close(childs_errors)
            mine.settimeout(_MAX_ANSWER_S)
            try:
                answer = mine.recv(len(reader_nursery.STARTED))
            except OSError:
                answer = b""
                self.close()
            if answer != reader_nursery.STARTED:
                return None
            stack.pop_all()
            return _Forked(errors, mine)

    def _send(self, message: bytes, files: list[int]) -> None:
        with self._lock:
            for control in (self._control, None):
                with suppress(BrokenPipeError, ConnectionResetError):
                    socket.send_fds(control or self._start(), [message], files)
                    return
        raise BrokenPipeError

    def _start(self) -> socket.socket:
        self._let_go()
        self._control, its_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with its_end:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and our own words
                _command("reader_nursery", str(its_end.fileno())),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=_environment(),
                pass_fds=(its_end.fileno(),),
                start_new_session=True,
            )
        return self._control

    def _let_go(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._process is not None:
            end_process(self._process)
            self._process = None

    def close(self) -> None:
        """End the process; the next child starts another."""
        with self._lock:
            self._let_go()

    def forget(self) -> None:
        """In a process that was forked from this one: what runs belongs to the parent."""
        self._lock = threading.Lock()
        if self._control is not None:
            self._control.close()
            self._control = None
        self._process = None


@contextmanager
def _file_of(text: dict[str, object]) -> Iterator[int]:
    """Yield the descriptor of a file without a name that holds this as JSON, at its begin."""
    with tempfile.TemporaryFile() as file:
        file.write(json.dumps(text).encode())
        file.seek(0)
        yield file.fileno()


_nursery: Final = _Nursery()


def _in_forked_process() -> None:
    _nursery.forget()


atexit.register(_nursery.close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_forked_process)
