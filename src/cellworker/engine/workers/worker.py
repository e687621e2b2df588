"""A worker process: opens the store, then answers one request after the other until the engine closes the connection.

It has no server and no event loop. A request affects no other process.
"""

import ctypes
import errno
import faulthandler
import os
import resource
import select
import shutil
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec

from cellworker.confinement import hide_process, show_process
from cellworker.engine.workers.frames import (
    Answered,
    FrameKind,
    ProblemFrame,
    ProgressFrame,
    RequestFrame,
    WorkerInit,
    receive,
    send,
)
from cellworker.errors import UNEXPECTED, ErrorCode, WorkerError
from cellworker.experiment.model import Experiment
from cellworker.native.heap import return_free_memory
from cellworker.protocol.validation import NotJsonError
from cellworker.tasks.context import ClusterQuestion, Context, Progress
from cellworker.tasks.steps import compute
from cellworker.tasks.task import Task

__all__ = ["load_object", "main", "serve"]

_PROGRESS_INTERVAL_S = 0.05
_PAGE_BYTES = resource.getpagesize()
_KEPT_BYTES = 96 << 20
"""A worker process that holds this much more private memory than at its start is replaced: idle memory stays small."""

_json = msgspec.json.Encoder()


class _Cancelled(BaseException):
    """The request was cancelled; not an Exception, so that a task's own handlers let it through."""


def load_object(name: str) -> Any:  # noqa: ANN401
    """Import ``module:attribute``."""
    module, _, attribute = name.partition(":")
    return getattr(import_module(module), attribute)


def serve(connection: socket.socket) -> None:
    """Answer requests on `connection` until it ends."""
    _prepare_process()
    first = receive(connection)
    if first is None:
        return
    init = msgspec.json.decode(first[1], type=WorkerInit)
    with suppress(OSError):
        os.nice(init.nice)
    with Path(init.fault_file).open("w") as fault_file:
        faulthandler.enable(fault_file)
        try:
            tasks: Mapping[str, Task] = load_object(init.tasks)
            experiment: Experiment = load_object(init.opener)(Path(init.store))
        except Exception as error:  # noqa: BLE001 any reason why a store cannot be opened is reported
            send(connection, FrameKind.PROBLEM, _json.encode(_problem(error, init)))
            return
        send(connection, FrameKind.READY)
        worker = _Worker(connection, init, tasks, experiment)
        while worker.answer_next():
            pass


def main() -> None:
    """Run as ``python -m cellworker.engine.workers.worker FD SYS_PATH_JSON``, where forking is not safe."""
    sys.path[:] = msgspec.json.decode(sys.argv[2], type=list[str])
    with socket.socket(fileno=int(sys.argv[1])) as connection:
        connection.setblocking(True)  # noqa: FBT003
        serve(connection)


def _prepare_process() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
        show_process()  # the file below belongs to root otherwise, where the zygote is hidden
        with suppress(OSError):
            # When the machine runs out of memory, the kernel kills the computation, not the engine.
            Path("/proc/self/oom_score_adj").write_text("500")
        hide_process()


class _Worker:
    def __init__(
        self, connection: socket.socket, init: WorkerInit, tasks: Mapping[str, Task], experiment: Experiment
    ) -> None:
        self._connection = connection
        self._init = init
        self._tasks = tasks
        self._experiment = experiment
        self._first_private = _private_bytes()
        self._lock = threading.Lock()
        self._computing = False
        self._cancelled = False
        self._last_progress = 0.0
        self._poll = select.poll()
        self._poll.register(connection, select.POLLIN)

    def answer_next(self) -> bool:
        """Wait for a request and answer it; False when the engine has closed the connection."""
        frame = receive(self._connection)
        if frame is None:
            return False
        if frame[0] is not FrameKind.REQUEST:
            # A cancellation that was sent before the answer arrived.
            return True
        body = receive(self._connection)
        if body is None:
            return False
        request = msgspec.json.decode(frame[1], type=RequestFrame)
        self._computing, self._cancelled, self._last_progress = True, False, 0.0
        kind, payload = self._outcome(request, body[1])
        with self._lock:
            self._computing = False
        if kind is not FrameKind.FILE:
            _remove_folder(request.scratch)
        if self._is_bloated():
            send(self._connection, FrameKind.RETIRE)
        send(self._connection, kind, payload)
        return True

    def _outcome(self, request: RequestFrame, body: bytearray) -> tuple[FrameKind, bytes]:
        try:
            os.mkdir(request.scratch)  # noqa: PTH102 the shorter way, on the path of every request
            _limit_memory(self._init.memory_bytes)
            value = self._compute(self._tasks[request.path], request, body)
            return (FrameKind.FILE, str(value).encode()) if isinstance(value, Path) else (FrameKind.ANSWER, value)
        except _Cancelled:
            _limit_memory(None)
            return FrameKind.PROBLEM, _json.encode(
                ProblemFrame(ErrorCode.REQUEST_CANCELLED, "The request was cancelled.", cancelled=True)
            )
        except BaseException as error:  # noqa: BLE001 SystemExit of a library must not end the process either
            _limit_memory(None)
            return FrameKind.PROBLEM, _json.encode(_problem(error, self._init))

    def _compute(self, task: Task, request: RequestFrame, body: bytearray) -> bytes | Path:
        checked = task.read_request(body)
        context = Context(
            progress=self._progress,
            scratch=Path(request.scratch),
            threads=self._init.threads,
            like_original=self._init.like_original,
            marker_table=self._marker_table,
            annotate=self._annotate,
            kept=Path(self._init.kept) if self._init.kept else None,
        )
        # orjson reserves eight times a text's length and crashes when it does not get it; what fitted the budget is
        # encoded without one.
        return compute(
            task,
            checked,
            self._experiment,
            context,
            before_encoding=lambda: _limit_memory(None),
            columns=request.columns,
        )

    def _marker_table(self) -> bytes:
        from cellworker.engine.annotators.marker_table import read_table  # noqa: PLC0415 one task in 21 needs it

        return read_table(*self._init.marker_table)

    def _annotate(self, question: ClusterQuestion, tell: Progress, scratch: Path) -> list[dict[int, str]]:  # noqa: ARG002
        """Have the engine ask the model: this process knows neither its key nor how to reach it."""
        send(self._connection, FrameKind.ASK, msgspec.msgpack.encode(question))
        frame = receive(self._connection)
        if frame is None:
            os._exit(0)
        if frame[0] is not FrameKind.ANSWERED:
            # While a request is under way, the engine sends nothing but its cancellation.
            self._cancelled = True
            raise _Cancelled
        answered = msgspec.json.decode(frame[1], type=Answered)
        if answered.code:
            raise WorkerError(ErrorCode(answered.code), answered.message)
        return answered.groupings

    def _progress(self, stage: str, fraction: float | None = None) -> None:
        with self._lock:
            now = time.monotonic()
            if self._cancelled:
                raise _Cancelled
            if not self._computing or (now - self._last_progress < _PROGRESS_INTERVAL_S and fraction != 1):
                return
            self._last_progress = now
            if self._poll.poll(0):
                # While a request is under way, the engine sends nothing but its cancellation, or closes the connection.
                if receive(self._connection) is None:
                    os._exit(0)
                self._cancelled = True
                raise _Cancelled
            send(self._connection, FrameKind.PROGRESS, _json.encode(ProgressFrame(stage, fraction)))

    def _is_bloated(self) -> bool:
        if _private_bytes() - self._first_private <= _KEPT_BYTES:
            return False
        return_free_memory()
        return _private_bytes() - self._first_private > _KEPT_BYTES


def _problem(error: BaseException, init: WorkerInit) -> ProblemFrame:
    if isinstance(error, NotJsonError):
        return ProblemFrame(error.code, f"The request's body is not JSON: {error.reason}", malformed=True)
    if isinstance(error, WorkerError):
        return ProblemFrame(error.code, error.message)
    if isinstance(error, MemoryError):
        return ProblemFrame(
            ErrorCode.OUT_OF_MEMORY,
            f"The request needs more memory than the {init.memory_gb:g} GB that one request may use. "
            "Ask for fewer cells or genes, or raise the setting TASK_MEMORY_GB.",
        )
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
        return ProblemFrame(
            ErrorCode.DISK_FULL,
            "There is no space left on the disk for the result, or it is read-only; free some space and try again.",
        )
    text = "".join(traceback.format_exception(error))
    return ProblemFrame(ErrorCode.R_WORKER_UNHANDLED_ERROR, UNEXPECTED, traceback=text)


def _limit_memory(budget: int | None) -> None:
    """Let this process grow by `budget` bytes of private memory, or freely; mapped pages of the store do not count."""
    if sys.platform != "linux":
        return
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    soft = hard
    if budget:
        soft = _data_bytes() + budget
        if hard != resource.RLIM_INFINITY:
            soft = min(soft, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _data_bytes() -> int:
    """Private writable memory that this process has asked for, touched or not: what RLIMIT_DATA counts."""
    return _memory_pages()[5] * _PAGE_BYTES


def _private_bytes() -> int:
    """Memory of this process that no file backs."""
    if sys.platform != "linux":
        return 0
    fields = _memory_pages()
    return (fields[1] - fields[2]) * _PAGE_BYTES


def _memory_pages() -> list[int]:
    file = os.open("/proc/self/statm", os.O_RDONLY)
    try:
        return [int(field) for field in os.read(file, 200).split()]
    finally:
        os.close(file)


def _remove_folder(path: str) -> None:
    try:
        os.rmdir(path)  # noqa: PTH106 most are empty
    except OSError:
        shutil.rmtree(path, ignore_errors=True)


if __name__ == "__main__":
    main()
