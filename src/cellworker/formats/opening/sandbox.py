"""Reading untrusted files in a child process with limits, so that no file can harm the process that serves."""

import contextlib
import functools
import json
import logging
import os
import selectors
import signal
import time
from collections.abc import Mapping
from typing import Any, Final

from cellworker.confinement import landlock_missing
from cellworker.errors import ErrorCode, WorkerError
from cellworker.formats.opening.reader_processes import Order, ReaderProcess, make_reader
from cellworker.progress import Progress

__all__ = ["run_sandboxed"]

_log = logging.getLogger(__name__)

_Reply = dict[str, Any]
_LARGEST_REPLY: Final = 64 << 20
_LARGEST_LOG: Final = 64 << 10
_GRACE_S: Final = 2.0


def run_sandboxed(
    function: str,
    kwargs: Mapping[str, Any],
    *,
    memory_bytes: int,
    timeout_s: float,
    max_file_bytes: int,
    on_progress: Progress | None = None,
) -> Any:  # noqa: ANN401 - whatever JSON can say
    """Call a function in a child process that has no credentials, little memory and little time.

    The child is killed with everything it started when the call ends in any way, and dies with this process.

    Parameters
    ----------
    function
        ``"module:name"``, importable here. It gets `progress`, a `Progress`, if it has a parameter of that name.
    kwargs
        Its keyword arguments, in terms of JSON.
    memory_bytes
        Memory that the child may fill; maps of files do not count. The system holds this on Linux only.
    timeout_s
        Seconds until it is killed.
    max_file_bytes
        Max bytes of a file that the child writes. The system holds this.
    on_progress
        Called with what the function reports. What it raises ends the child and comes out of here.

    Returns
    -------
    Any
        What the function returned, through JSON.

    Raises
    ------
    WorkerError
        The function's own; ``OUT_OF_MEMORY``; ``DEADLINE_EXCEEDED``; ``EXPERIMENT_UNREADABLE`` when it crashed or
        raised anything else (the log has the traceback).
    """
    _tell_of_landlock()
    deadline = time.monotonic() + timeout_s
    text = {
        "function": function,
        "kwargs": dict(kwargs),
        "memory_bytes": memory_bytes,
        "max_file_bytes": max_file_bytes,
        "cpu_s": timeout_s * max(1, os.cpu_count() or 1),
    }
    with contextlib.ExitStack() as stack:
        replies, child_replies = os.pipe()
        stack.callback(os.close, replies)
        child_life, life = os.pipe()  # the child sees its end when this process has ended
        stack.callback(os.close, life)
        with os.fdopen(child_replies, "wb"), os.fdopen(child_life, "rb"):
            child = make_reader(Order(text, function.partition(":")[0], child_replies, child_life))
            stack.callback(child.end)
        reply = _follow(child, replies, deadline, on_progress)
        if reply is None and time.monotonic() >= deadline:
            raise _too_slow(timeout_s)
        status = child.status(_GRACE_S) if reply is None else None
    return _judge(reply, status, memory_bytes, timeout_s)


@functools.cache
def _tell_of_landlock() -> None:
    """Log once what a kernel without Landlock leaves open."""
    if missing := landlock_missing():
        _log.warning("%s", missing)


def _follow(child: ReaderProcess, replies: int, deadline: float, on_progress: Progress | None) -> _Reply | None:
    """Return the child's last word, or None if it died or the deadline passed without one."""
    pending, size, log = [b""], 0, b""
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(replies, selectors.EVENT_READ)
            selector.register(child.errors, selectors.EVENT_READ)
            while (left := deadline - time.monotonic()) > 0:
                ready = [key.fd for key, _ in selector.select(left)]
                if child.errors in ready:
                    content = os.read(child.errors, 1 << 16)
                    log = (log + content)[-_LARGEST_LOG:]
                    if not content:
                        selector.unregister(child.errors)
                if replies in ready:
                    content = os.read(replies, 1 << 20)
                    pending.append(content)
                    size += len(content)
                    if b"\n" in content:
                        *lines, rest = b"".join(pending).split(b"\n")
                        pending, size = [rest], len(rest)
                        for line in lines:
                            if (reply := _parse(line, on_progress)) is not None:
                                return reply
                    if not content or size > _LARGEST_REPLY:
                        return None
            return None
    finally:
        if log:
            _log.warning("the process that reads files said: %s", log.decode("utf-8", "replace"))


def _parse(line: bytes, on_progress: Progress | None) -> _Reply | None:
    """Hand progress on; return anything else."""
    try:
        reply: _Reply = json.loads(line)
        kind = reply["kind"]
    except (ValueError, TypeError, KeyError):
        return {"kind": "nonsense"}
    if kind != "progress":
        return reply
    if on_progress is not None:
        part = reply.get("part")
        on_progress(str(reply.get("what", "")), float(part) if isinstance(part, int | float) else None)
    return None


def _judge(reply: _Reply | None, status: int | None, memory_bytes: int, timeout_s: float) -> Any:  # noqa: ANN401 - JSON
    """Return the result, or raise the error that tells why there is none; `status` is that of a child that died."""
    kind = reply["kind"] if reply is not None else "death"
    if reply is not None and kind == "result":
        return reply.get("value")
    if reply is not None and kind == "refusal":
        with contextlib.suppress(ValueError, KeyError):
            raise WorkerError(ErrorCode(reply["code"]), str(reply["message"]))
    if reply is not None and kind == "failure":
        _log.error("reading a file failed:\n%s", reply.get("traceback"))
    if kind == "memory":
        raise _too_large(memory_bytes)
    if status == -signal.SIGXCPU:
        raise _too_slow(timeout_s)
    if status == -signal.SIGKILL:
        raise WorkerError(
            ErrorCode.OUT_OF_MEMORY,
            "The system ended the process that read the file, most likely because the machine's memory ran out: "
            "use a machine with more memory, or lower LOAD_MEMORY_GB to be told earlier.",
        )
    if status == -signal.SIGBUS:
        raise WorkerError(
            ErrorCode.EXPERIMENT_OUT_OF_DATE,
            "The file became shorter while it was being read, or its disk cannot be read: "
            "open it again when it is complete.",
        )
    if status is not None and status < 0:
        raise WorkerError(
            ErrorCode.EXPERIMENT_UNREADABLE,
            f"The file made the process that read it crash ({signal.strsignal(-status)}), so it is damaged or hostile. "
            "Copy it here again, or save the object again.",
        )
    raise WorkerError(
        ErrorCode.EXPERIMENT_UNREADABLE,
        "The file cannot be read: it is damaged, or holds something that was not foreseen (the log has the details). "
        "Copy it here again, or save the object again.",
    )


def _too_large(memory_bytes: int) -> WorkerError:
    return WorkerError(
        ErrorCode.OUT_OF_MEMORY,
        f"Reading the file takes more memory than the {memory_bytes / (1 << 30):.3g} GB that it may use: "
        "raise LOAD_MEMORY_GB, or make the object smaller (DietSeurat) and save it again.",
    )


def _too_slow(timeout_s: float) -> WorkerError:
    return WorkerError(
        ErrorCode.DEADLINE_EXCEEDED,
        f"Reading the file took longer than the {timeout_s:g} seconds that it may take, and was stopped: "
        "raise LOAD_TIMEOUT_S if the file is large, or copy it here again if it may be damaged.",
    )
