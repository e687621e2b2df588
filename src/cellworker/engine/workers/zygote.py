"""A small process that has imported everything and makes worker processes by forking, in milliseconds.

It is single-threaded, so forking is safe, and it is the workers' parent: it collects their exit statuses, kills them by
request, and when the engine ends. Where forking is not safe (macOS) it starts them by spawn.

Run as ``python -m cellworker.engine.workers.zygote FD``; the records on the control socket are described in `RECORD`.
"""

import gc
import os
import selectors
import signal
import socket
import sys
import traceback
from contextlib import suppress
from importlib import import_module
from struct import Struct
from typing import Literal

import msgspec

from cellworker.child_processes import ChildSignals, collect, kill_group
from cellworker.confinement import hide_process

__all__ = ["ALIVE", "EXITED", "FAILED", "KILL", "RECORD", "START", "Config", "main"]

RECORD = Struct("<cIi")
"""A letter, the engine's number for the worker, and a status: signal negative, exit code positive, or an errno."""
START = b"S"
"""To the zygote, with the worker's socket attached."""
KILL = b"K"
"""To the zygote: end the worker and its descendants now."""
EXITED = b"X"
"""From the zygote: the worker has ended and is collected."""
FAILED = b"E"
"""From the zygote: the worker could not be started."""
ALIVE = b"A"
"""To the zygote, which sends it back: a sign that it runs."""


class Config(msgspec.Struct):
    """The first line on the control socket."""

    sys_path: list[str]
    preload: list[str]
    method: Literal["fork", "spawn"]


def main() -> None:
    """Serve the control socket until its other end closes."""
    hide_process()
    with socket.socket(fileno=int(sys.argv[1])) as control:
        control.setblocking(True)  # noqa: FBT003
        control.set_inheritable(False)
        config = msgspec.json.decode(_line(control), type=Config)
        sys.path[:] = config.sys_path
        if config.method == "fork":
            for name in config.preload:
                import_module(name)
            gc.collect()
            # The garbage collector skips the objects made so far, so that their pages stay shared.
            gc.freeze()
        _Zygote(control, config).run()


def _line(control: socket.socket) -> bytes:
    out = bytearray()
    while not out.endswith(b"\n"):
        piece = control.recv(1)
        if not piece:
            raise SystemExit(0)
        out += piece
    return bytes(out)


class _Zygote:
    def __init__(self, control: socket.socket, config: Config) -> None:
        self._control = control
        self._config = config
        self._pids: dict[int, int] = {}
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        self._ended = ChildSignals()
        self._selector = selectors.DefaultSelector()
        self._selector.register(control, selectors.EVENT_READ)
        self._selector.register(self._ended, selectors.EVENT_READ)

    def run(self) -> None:
        try:
            while self._step():
                pass
        except (BrokenPipeError, ConnectionResetError):
            pass
        finally:
            for pid in self._pids.values():
                kill_group(pid)
                os.waitpid(pid, 0)

    def _step(self) -> bool:
        for key, _ in self._selector.select():
            if key.fileobj is self._ended:
                self._ended.clear()
                self._collect()
            elif not self._obey():
                return False
        return True

    def _obey(self) -> bool:
        record, files, _, _ = socket.recv_fds(self._control, RECORD.size, 1)
        while record and len(record) < RECORD.size:
            more = self._control.recv(RECORD.size - len(record))
            record = record + more if more else b""
        if not record:
            return False
        letter, number, _ = RECORD.unpack(record)
        if letter == START:
            self._start(number, files[0])
        elif letter == ALIVE:
            self._control.sendall(record)
        elif number in self._pids:
            kill_group(self._pids[number])
        return True

    def _start(self, number: int, file: int) -> None:
        try:
            pid = self._fork(file) if self._config.method == "fork" else self._spawn(file)
        except OSError as error:
            self._control.sendall(RECORD.pack(FAILED, number, error.errno or 0))
            return
        finally:
            os.close(file)
        with suppress(OSError):
            os.setpgid(pid, pid)
        self._pids[number] = pid

    def _fork(self, file: int) -> int:
        pid = os.fork()
        if pid:
            return pid
        status = 70
        try:
            os.setpgid(0, 0)
            for unwanted in (self._selector, self._control, self._ended):
                unwanted.close()
            from cellworker.engine.workers import worker  # noqa: PLC0415 the zygote itself stays small until a message names what to load

            with socket.socket(fileno=os.dup(file)) as connection:
                os.close(file)
                connection.setblocking(True)  # noqa: FBT003
                worker.serve(connection)
            status = 0
        except BrokenPipeError:
            status = 0
        except BaseException:  # noqa: BLE001 nothing may return into the zygote's loop
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)

    def _spawn(self, file: int) -> int:
        os.set_inheritable(file, True)  # noqa: FBT003
        sys_path = msgspec.json.encode(self._config.sys_path).decode()
        arguments = [sys.executable, "-P", "-m", "cellworker.engine.workers.worker", str(file), sys_path]
        return os.posix_spawn(
            sys.executable, arguments, os.environ, setpgroup=0, setsigdef=[signal.SIGCHLD, signal.SIGTERM]
        )

    def _collect(self) -> None:
        for number, pid in list(self._pids.items()):
            status = collect(pid)
            if status is not None:
                del self._pids[number]
                self._control.sendall(RECORD.pack(EXITED, number, status))


if __name__ == "__main__":
    main()
