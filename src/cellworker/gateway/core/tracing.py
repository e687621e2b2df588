"""Traces of requests: the interface, an implementation without effect, and the header of a message."""

import re
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol

__all__ = ["NoTracing", "RequestSpan", "TraceOrigin", "Tracing", "parse_trace_header"]

_ROOT = re.compile(r"1-([0-9a-fA-F]{8})-([0-9a-fA-F]{24})")
_PARENT = re.compile(r"[0-9a-fA-F]{16}")
_LONGEST_HEADER = 1024


class RequestSpan(Protocol):
    """One request's span, while it is open."""

    def outcome(self, outcome: str) -> None:
        """Say how the request ended: ``done`` or an error code."""
        ...


class Tracing(Protocol):
    """Makes spans.

    An open span belongs to the asyncio task that opened it, and to the tasks that this one starts; requests
    that are worked on at the same time do not mix.
    """

    def request(
        self, header: str | None, task: str, etag: str, attempt: int
    ) -> AbstractAsyncContextManager[RequestSpan]:
        """Trace one request for as long as the block lasts.

        Parameters
        ----------
        header
            The ``AWSTraceHeader`` of its message, whose trace is continued; None or a malformed one begins a new trace.
        task, etag, attempt
            Attributes of the span; an unknown task is called ``unknown``.
        """
        ...

    def step(self, name: str) -> AbstractContextManager[None]:
        """Trace one step of the request whose block this is in; outside of a request nothing is traced."""
        ...

    def current_traceparent(self) -> str | None:
        """Return the W3C ``traceparent`` header for calls made now; None where nothing is traced."""
        ...

    async def close(self) -> None:
        """Send what is left, for two seconds at most; the rest is dropped."""
        ...


class _NoSpan:
    def outcome(self, outcome: str) -> None:
        pass


_NO_SPAN = _NoSpan()


class NoTracing:
    """The same methods as `Tracing`, without effect."""

    def request(  # noqa: D102
        self,
        header: str | None,  # noqa: ARG002
        task: str,  # noqa: ARG002
        etag: str,  # noqa: ARG002
        attempt: int,  # noqa: ARG002
    ) -> AbstractAsyncContextManager[RequestSpan]:
        return nullcontext[RequestSpan](_NO_SPAN)

    def step(self, name: str) -> AbstractContextManager[None]:  # noqa: ARG002, D102
        return nullcontext()

    def current_traceparent(self) -> str | None:  # noqa: D102
        return None

    async def close(self) -> None:  # noqa: D102
        return


@dataclass(frozen=True, slots=True)
class TraceOrigin:
    """The origin of a request's trace, from its message.

    Attributes
    ----------
    trace_id
        128 bits.
    parent_id
        64 bits; None where the sender has no span of its own.
    sampled
        Whether the trace is recorded; true where the sender leaves that open.
    """

    trace_id: int
    parent_id: int | None
    sampled: bool


def parse_trace_header(header: str | None) -> TraceOrigin | None:
    """Read an ``AWSTraceHeader``, ``Root=1-<8 hex>-<24 hex>;Parent=<16 hex>;Sampled=1``, fields in any order.

    The format is that of AWS X-Ray ("Tracing header" in its developer guide). The 128 bits of an OpenTelemetry trace id
    are the two parts of the root, as the OpenTelemetry propagator for X-Ray has it.

    Returns
    -------
    Origin or None
        None where there is none or it is malformed.
    """
    if not header or len(header) > _LONGEST_HEADER:
        return None
    parts = (part.partition("=") for part in header.split(";"))
    fields = {name.strip(): value.strip() for name, _, value in parts}
    root = _ROOT.fullmatch(fields.get("Root", ""))
    parent = fields.get("Parent")
    if root is None or (parent is not None and not _PARENT.fullmatch(parent)):
        return None
    trace_id = int(root[1] + root[2], 16)
    parent_id = None if parent is None else int(parent, 16)
    if trace_id == 0 or parent_id == 0:  # both mean "invalid" in OpenTelemetry
        return None
    return TraceOrigin(trace_id, parent_id, fields.get("Sampled") != "0")
