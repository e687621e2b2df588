"""A process that has imported what reading takes, and forks a child for each file, in milliseconds.

It has the clean environment of the children (`reader_processes` starts it), one thread, and no file open but its
sockets. It is the children's parent: it collects their exit statuses and kills them when their callers go away. It ends
with the process that started it, or when nobody has asked for a while.

All children have the same addresses in memory as this process. A file that finds them out in one child could use them
in the next; what a child may do at all is what `confine_reader` leaves it.
"""

import gc
import os
import selectors
import signal
import socket
import sys
from contextlib import suppress
from importlib import import_module
from struct import Struct
from typing import Final

from cellworker.child_processes import ChildSignals, collect, kill_group

__all__ = ["DESCRIPTORS", "IDLE_S", "STARTED", "STATUS", "main"]

DESCRIPTORS: Final = 5
"""With each request: its order, where the replies go, the caller's life, standard error, and the call's own socket."""
STARTED: Final = b"started"
"""The first message on the call's socket."""
STATUS: Final = Struct("<i")
"""The last one: how the child ended, a signal negative."""
IDLE_S: Final = 600.0
_MAX_MODULE_NAME: Final = 200
_OWN: Final = "cellworker."
_LATER: Final = {
    "cellworker.formats.opening.loading": (
        "cellworker.experiment.store.write",
        "cellworker.formats.anndata.containers.opening",
        "cellworker.formats.anndata.reader",
        "cellworker.formats.completing.complete",
        "cellworker.formats.completing.making",
        "h5py",
        "scipy.sparse",
    )
}
"""What a module imports when it meets a file that takes it: once it is here, no child imports it again."""


def main() -> None:
    """Serve the socket whose number is the last argument until its other end closes."""
    control = socket.socket(fileno=int(sys.argv.pop()))
    for name in (signal.SIGINT, signal.SIGTERM):  # Ctrl-C goes to the caller, which then closes the socket
        signal.signal(name, signal.SIG_IGN)
    _Nursery(control).run()
    os._exit(0)


class _Nursery:
    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._calls: dict[int, socket.socket] = {}
        """The socket of the call of each child, by the child's process id."""
        self._ended = ChildSignals()
        self._selector = selectors.DefaultSelector()
        self._selector.register(control, selectors.EVENT_READ)
        self._selector.register(self._ended, selectors.EVENT_READ)

    def run(self) -> None:
        try:
            while self._step():
                pass
        finally:
            for pid in self._calls:
                kill_group(pid)

    def _step(self) -> bool:
        ready = self._selector.select(IDLE_S)
        for key, _ in ready:
            if key.fileobj is self._control:
                if not self._obey():
                    return False
            elif key.fileobj is self._ended:
                self._ended.clear()
                self._collect()
            elif key.data in self._calls:  # the caller has closed its end, or says that it will
                kill_group(key.data)
                self._selector.unregister(key.fileobj)
        return bool(ready) or bool(self._calls)

    def _obey(self) -> bool:
        name, files, _, _ = socket.recv_fds(self._control, _MAX_MODULE_NAME, DESCRIPTORS, socket.MSG_CMSG_CLOEXEC)
        if len(files) != DESCRIPTORS:
            return False
        _prepare(name.decode())
        *for_child, call = files
        connection = socket.socket(fileno=call)
        own = os.getpid()
        try:
            pid = os.fork()
        except OSError:  # the caller sees that the socket is closed, and starts a child by itself
            connection.close()
        else:
            if pid == 0:
                _be_child(for_child, own, self._ended)
            self._calls[pid] = connection
            self._selector.register(connection, selectors.EVENT_READ, pid)
            with suppress(OSError):
                connection.send(STARTED)
        for file in for_child:
            os.close(file)
        return True

    def _collect(self) -> None:
        for pid in list(self._calls):
            status = collect(pid)
            if status is None:
                continue
            connection = self._calls.pop(pid)
            with suppress(KeyError):
                self._selector.unregister(connection)
            with suppress(OSError):
                connection.send(STATUS.pack(status))
            connection.close()


def _prepare(module: str) -> None:
    """Import a module of ours, so that this child and all later ones have it; others are the child's business."""
    if module.startswith(_OWN) and module not in sys.modules:
        with suppress(Exception):  # the child meets it again, and reports it
            for name in (module, *_LATER.get(module, ())):
                import_module(name)
        gc.collect()
        # What exists now is never looked at by the collector again, so that its pages stay shared.
        gc.freeze()


def _be_child(files: list[int], parent: int, ended: ChildSignals) -> None:
    """Become the child: nothing of this process stays open in it, and it never returns."""
    try:
        os.setsid()
        ended.close()
        for name in (signal.SIGINT, signal.SIGTERM):
            signal.signal(name, signal.SIG_DFL)
        order, replies, life, errors = files
        os.dup2(order, 0)
        os.dup2(errors, 2)
        for file in map(int, os.listdir("/proc/self/fd")):  # noqa: PTH208 - numbers
            if file > 2 and file not in {replies, life}:
                with suppress(OSError):
                    os.close(file)
        from cellworker.formats.opening.sandbox_child import main as carry_out  # noqa: PLC0415 - imported already

        carry_out(replies=replies, life=life, parent=parent)
    finally:
        os._exit(70)
