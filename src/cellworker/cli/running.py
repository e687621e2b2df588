"""The note that a running worker leaves for `cellworker stop` and `make logs`: its process id, locked, and its log."""

import contextlib
import fcntl
import logging
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from cellworker.errors import ErrorCode, WorkerError

__all__ = ["run_note", "stop_worker"]

_WAIT_S = 20.0


@contextlib.contextmanager
def run_note(data_dir: Path, port: int) -> Iterator[Path]:
    """Keep ``DATA_DIR/.run/PORT.pid`` locked, and copy the log to ``PORT.log``, which is returned.

    The lock, not the file, shows that a worker runs: the system drops it when the process ends, so a process id that
    the system has given to another process never gets a signal.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` when a worker of the same folder has the port already.
    """
    folder = data_dir / ".run"
    folder.mkdir(parents=True, exist_ok=True)
    with _lock(folder / f"{port}.pid") as note:
        if note is None:
            advice = "stop it with 'cellworker stop' or 'make kill', or choose another port"
            raise WorkerError(ErrorCode.INVALID_INPUT, f"a worker runs on port {port} already: {advice}")
        note.truncate(0)
        note.write(f"{os.getpid()}\n")
        note.flush()
        root = logging.getLogger()
        handler = logging.FileHandler(folder / f"{port}.log", mode="w", encoding="utf-8")
        if root.handlers:
            handler.setFormatter(root.handlers[0].formatter)
        root.addHandler(handler)
        try:
            yield folder / f"{port}.log"
        finally:
            root.removeHandler(handler)
            handler.close()
            note.truncate(0)


def stop_worker(data_dir: Path, port: int) -> bool:
    """Ask the worker on a port to end, and wait until it has.

    Returns
    -------
    bool
        False when none runs there.

    Raises
    ------
    WorkerError
        ``DEADLINE_EXCEEDED`` when it does not end.
    """
    path = data_dir / ".run" / f"{port}.pid"
    if not path.exists() or not _runs(path):
        return False
    pid = int(path.read_text(encoding="ascii"))
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + _WAIT_S
    while _runs(path):
        if time.monotonic() > deadline:
            message = f"the worker on port {port} (process {pid}) does not end; 'kill -9 {pid}' ends it at once"
            raise WorkerError(ErrorCode.DEADLINE_EXCEEDED, message)
        time.sleep(0.05)
    return True


def _runs(path: Path) -> bool:
    with _lock(path) as note:
        return note is None


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[IO[str] | None]:
    with path.open("a+", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
            return
        yield file
