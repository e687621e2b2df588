"""The child's side of `sandbox`: it limits itself, calls one function, and sends one last word."""

import contextlib
import ctypes
import importlib
import inspect
import json
import math
import os
import resource
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any, Final

from cellworker.analysis.one_blas_thread import started_with_one
from cellworker.confinement import confine_reader
from cellworker.errors import WorkerError
from cellworker.native.heap import keep_freed_memory

__all__ = ["main"]

_OUT_OF_MEMORY: Final = b'{"kind": "memory"}\n'
_DESCRIPTORS: Final = 8_192
_PROGRESS_EVERY_S: Final = 0.05
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000


def main(**made_by: int) -> None:
    """Read the order from standard input, carry it out, answer, and end without further ado.

    Parameters
    ----------
    made_by
        What a child that was forked knows from its nursery and not from its order: `replies`, `life`, `parent`.
    """
    order: dict[str, Any] = json.load(sys.stdin) | made_by
    with Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    if made_by:
        _be_as_if_started(order)
    started_with_one()  # by its environment (`reader_processes`)
    keep_freed_memory()
    replies: int = order["replies"]
    _die_with_parent(order["parent"], order["life"])
    _limit(order["memory_bytes"], order["cpu_s"], order["max_file_bytes"])
    if reason := confine_reader():
        sys.stderr.write(f"The process that reads files keeps its rights: {reason}.\n")
    try:
        reply = _encode({"kind": "result", "value": _call(order["function"], order["kwargs"], replies)})
    except WorkerError as problem:
        reply = _encode({"kind": "refusal", "code": problem.code, "message": problem.message})
    except MemoryError:
        reply = _OUT_OF_MEMORY
    except RuntimeError as problem:
        reply = _OUT_OF_MEMORY if "start new thread" in str(problem) else _failure()
    except BaseException:  # noqa: BLE001 - every error is reported to the parent
        reply = _failure()
    _send(replies, reply)
    os._exit(0)


def _be_as_if_started(order: dict[str, Any]) -> None:
    """Take what the caller has now, not what it had when it started the nursery."""
    os.environ.clear()
    os.environ.update(order["environ"])
    sys.path[:] = order["path"]
    os.chdir(order["folder"])


def _call(name: str, kwargs: dict[str, Any], replies: int) -> Any:  # noqa: ANN401 - JSON
    module, _, attribute = name.partition(":")
    function = getattr(importlib.import_module(module), attribute)
    with contextlib.suppress(ValueError):  # builtins without a signature
        if "progress" in inspect.signature(function).parameters:
            kwargs = {**kwargs, "progress": _ProgressReplies(replies)}
    return function(**kwargs)


class _ProgressReplies:
    """Sends progress to the parent, not more often than a person can see."""

    def __init__(self, replies: int) -> None:
        self._replies = replies
        self._last = ("", -math.inf)

    def __call__(self, what: str, part: float | None = None) -> None:
        now = time.monotonic()
        if what == self._last[0] and now < self._last[1] + _PROGRESS_EVERY_S:
            return
        self._last = (what, now)
        _send(self._replies, _encode({"kind": "progress", "what": what, "part": part}))


def _encode(reply: dict[str, Any]) -> bytes:
    return json.dumps(reply).encode() + b"\n"


def _failure() -> bytes:
    try:
        return _encode({"kind": "failure", "traceback": traceback.format_exc(limit=-20)})
    except MemoryError:
        return _OUT_OF_MEMORY


def _send(replies: int, content: bytes) -> None:
    try:
        while content:
            content = content[os.write(replies, content) :]
    except BrokenPipeError:
        os._exit(1)  # the parent has ended


def _die_with_parent(parent: int, life: int) -> None:
    if sys.platform == "linux":
        prctl = ctypes.CDLL(None, use_errno=True).prctl
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)
        _leave_network()
    else:
        threading.Thread(target=_watch, args=(life,), daemon=True).start()


def _watch(life: int) -> None:
    while os.read(life, 1):
        pass
    os._exit(1)


def _leave_network() -> None:
    """Move to a network namespace without a network, where the system lets us; elsewhere the other limits must do."""
    unshare = getattr(ctypes.CDLL(None, use_errno=True), "unshare", None)
    # Without privileges a network namespace takes a user namespace; with them that would take permissions away.
    if unshare is not None and unshare(_CLONE_NEWNET) != 0 and os.geteuid() != 0:
        unshare(_CLONE_NEWUSER | _CLONE_NEWNET)


def _limit(memory_bytes: int, cpu_s: float, max_file_bytes: int) -> None:
    # RLIMIT_DATA counts private memory and leaves out maps of files, which RLIMIT_AS would count too.
    if sys.platform == "linux":
        _lower(resource.RLIMIT_DATA, memory_bytes)
    _lower(resource.RLIMIT_CPU, math.ceil(cpu_s) + 1)
    _lower(resource.RLIMIT_FSIZE, max_file_bytes)  # beyond it writing fails: Python ignores the signal
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_NOFILE, _DESCRIPTORS)


def _lower(what: int, limit: int) -> None:
    """Set both limits, not above the hard limit that holds already."""
    _, hard = resource.getrlimit(what)
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(what, (limit, limit))
