"""Frames on the stream between the engine and its worker processes: one letter, a length, the payload."""

import socket
from enum import Enum
from struct import Struct

import msgspec

__all__ = [
    "HEADER",
    "LARGEST",
    "Answered",
    "FrameKind",
    "ProblemFrame",
    "ProgressFrame",
    "RequestFrame",
    "WorkerInit",
    "pack",
    "receive",
    "send",
]

HEADER = Struct("<cQ")
_SMALL_BYTES = 1 << 16
LARGEST = 1 << 36
"""Only a process with corrupted memory sends a longer frame."""


class FrameKind(bytes, Enum):
    """The kind of a frame."""

    INIT = b"I"
    """To the worker: `WorkerInit`."""
    REQUEST = b"R"
    """To the worker: `RequestFrame`; the body follows as the next frame."""
    BODY = b"B"
    """To the worker: the request's body."""
    CANCEL = b"C"
    """To the worker: the request is cancelled."""
    ANSWERED = b"M"
    """To the worker: `Answered`."""
    READY = b"Y"
    """From the worker: the store is open."""
    PROGRESS = b"P"
    """From the worker: `ProgressFrame`."""
    ASK = b"Q"
    """From the worker: a question for the language model, which the engine asks; the worker waits for `ANSWERED`."""
    RETIRE = b"G"
    """From the worker: it holds too much memory, so the answer that follows is its last."""
    ANSWER = b"A"
    """From the worker: the value's JSON text, or typed columns."""
    FILE = b"F"
    """From the worker: the path of a file result."""
    PROBLEM = b"E"
    """From the worker: `ProblemFrame`."""


class WorkerInit(msgspec.Struct):
    """What a worker process serves, and its limits."""

    store: str
    opener: str
    tasks: str
    memory_bytes: int
    memory_gb: float
    threads: int
    like_original: bool
    nice: int
    fault_file: str
    marker_table: tuple[str, str] = ("", "")
    """Arguments of `cellworker.engine.annotators.marker_table.read_table`."""
    edition: int = 0
    """Counts the stores served so far, also successive stores at one path."""
    kept: str = ""
    """A folder for files that later requests may reuse."""


class RequestFrame(msgspec.Struct):
    """One request; `scratch` is a folder of its own, made by the worker; `columns`: the answer as typed columns."""

    path: str
    scratch: str
    columns: bool = False


class ProgressFrame(msgspec.Struct):
    """Progress of a computation."""

    stage: str
    fraction: float | None


class Answered(msgspec.Struct):
    """The language model's answer: `Annotator`'s groupings, or an error's code and sentence."""

    groupings: list[dict[int, str]] = []
    code: str = ""
    message: str = ""


class ProblemFrame(msgspec.Struct):
    """Why there is no value.

    `malformed`: the body is not JSON. `cancelled`: by request. `traceback`: of a bug, for the log.
    """

    code: str
    message: str
    malformed: bool = False
    cancelled: bool = False
    traceback: str = ""


def pack(kind: FrameKind, payload: bytes = b"") -> bytes:
    """Return a whole frame."""
    return HEADER.pack(kind.value, len(payload)) + payload


def send(connection: socket.socket, kind: FrameKind, payload: bytes = b"") -> None:
    """Send a frame on a blocking socket."""
    if len(payload) < _SMALL_BYTES:
        connection.sendall(pack(kind, payload))
    else:
        connection.sendall(HEADER.pack(kind.value, len(payload)))
        connection.sendall(payload)


def receive(connection: socket.socket) -> tuple[FrameKind, bytearray] | None:
    """Wait for a frame on a blocking socket; None at the end of the stream."""
    header = _exactly(connection, HEADER.size)
    if header is None:
        return None
    letter, length = HEADER.unpack(header)
    payload = _exactly(connection, length)
    return None if payload is None else (FrameKind(letter), payload)


def _exactly(connection: socket.socket, length: int) -> bytearray | None:
    out = bytearray(length)
    view = memoryview(out)
    while view:
        count = connection.recv_into(view)
        if not count:
            return None
        view = view[count:]
    return out
