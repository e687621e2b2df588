"""Traces over OpenTelemetry, sent in batches by OTLP/HTTP.

Spans hold the facts that logs hold, and never an error's text or traceback: those can carry what a user typed. The
environment variables of the OpenTelemetry SDK itself (headers for the collector, resource attributes, the share of
traces that is recorded, batch sizes) work as its documentation says.
"""

import asyncio
import contextlib
import logging
import threading
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextvars import ContextVar
from urllib.parse import urlsplit, urlunsplit

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

from cellworker.errors import ErrorCode, WorkerError
from cellworker.gateway.core.tracing import RequestSpan, TraceOrigin, parse_trace_header
from cellworker.logs import log
from cellworker.version import __version__

__all__ = ["OtelTracing"]

_FLUSH_S = 2.0
_DEFAULT_PATH = "/v1/traces"  # OTLP/HTTP: the path of the signal, where the address has none

_logger = logging.getLogger(__name__)
_trace_id: ContextVar[int | None] = ContextVar("trace_id", default=None)


class OtelTracing:
    """Sends spans to a collector.

    Parameters
    ----------
    url
        Address of the collector; without a path, ``/v1/traces`` is added.
    tasks
        The names that tasks can have; any other is called ``unknown``.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` when `url` is no http or https address.
    """

    def __init__(self, url: str, tasks: Iterable[str]) -> None:
        # The SDK logs each failed batch; `_Exporter` logs when sending begins to fail and when it works again.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        self._tasks = frozenset(tasks)
        resource = Resource.create({"service.name": "cellworker", "service.version": __version__})
        self._provider = TracerProvider(resource=resource, id_generator=_Ids(), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(_Exporter(endpoint=_endpoint(url))))
        self._tracer = self._provider.get_tracer("cellworker", __version__)

    @contextlib.asynccontextmanager
    async def request(self, header: str | None, task: str, etag: str, attempt: int) -> AsyncIterator[RequestSpan]:
        """Trace one request; see `Tracing`."""
        task = task if task in self._tasks else "unknown"
        origin = parse_trace_header(header)
        attributes: dict[str, str | int] = {
            "cellworker.task": task,
            "cellworker.etag": etag,
            "cellworker.attempt": attempt,
        }
        wanted = _trace_id.set(None if origin is None else origin.trace_id)
        try:
            opening = self._tracer.start_as_current_span(
                f"work {task}",
                context=_parent(origin),
                kind=trace.SpanKind.CONSUMER,
                attributes=attributes,
                record_exception=False,
                set_status_on_exception=False,
            )
            with opening as span, _marking_failure(span):
                yield _RequestSpan(span)
        finally:
            _trace_id.reset(wanted)

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Trace one step; see `Tracing`."""
        if not trace.get_current_span().get_span_context().is_valid:
            yield
            return
        opening = self._tracer.start_as_current_span(name, record_exception=False, set_status_on_exception=False)
        with opening as span, _marking_failure(span):
            yield

    def current_traceparent(self) -> str | None:
        """Return the W3C header; see `Tracing`."""
        context = trace.get_current_span().get_span_context()
        if not context.is_valid:
            return None
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags & 1:02x}"

    async def close(self) -> None:
        """Send what is left, for two seconds at most."""
        # A thread of its own, that the interpreter does not wait for: the exporter's own timeout is ten seconds.
        loop = asyncio.get_running_loop()
        sent = asyncio.Event()

        def flush() -> None:
            self._provider.shutdown()
            with contextlib.suppress(RuntimeError):  # the loop may be gone when a slow collector answers
                loop.call_soon_threadsafe(sent.set)

        threading.Thread(target=flush, name="flush-traces", daemon=True).start()
        try:
            async with asyncio.timeout(_FLUSH_S):
                await sent.wait()
        except TimeoutError:
            log(_logger, logging.WARNING, "traces left unsent at the end")


class _RequestSpan:
    def __init__(self, span: trace.Span) -> None:
        self._span = span

    def outcome(self, outcome: str) -> None:
        self._span.set_attribute("cellworker.outcome", outcome)
        if outcome != "done":
            self._span.set_status(trace.StatusCode.ERROR)


class _Ids(RandomIdGenerator):
    """Lets a trace keep its id where its sender has no span that could be the parent."""

    def generate_trace_id(self) -> int:
        return _trace_id.get() or super().generate_trace_id()


class _Exporter(OTLPSpanExporter):
    """Logs once when sending begins to fail, and once when it works again."""

    _failing = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = super().export(spans)
        failing = result is not SpanExportResult.SUCCESS
        if failing != self._failing:
            self._failing = failing
            if failing:
                log(_logger, logging.WARNING, "traces cannot be sent")
            else:
                log(_logger, logging.INFO, "traces are sent again")
        return result


@contextlib.contextmanager
def _marking_failure(span: trace.Span) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        span.set_attribute("error.type", type(error).__name__)
        span.set_status(trace.StatusCode.ERROR)
        raise


def _parent(origin: TraceOrigin | None) -> Context:
    """Return the context that a request's span is opened in: empty, or holding the sender's span."""
    if origin is None or (origin.parent_id is None and origin.sampled):
        return Context()
    # An unsampled trace is never sent, so it does not matter that this parent is made up where there was none.
    parent_id = origin.parent_id or RandomIdGenerator().generate_span_id()
    flags = trace.TraceFlags(trace.TraceFlags.SAMPLED if origin.sampled else trace.TraceFlags.DEFAULT)
    sender = trace.SpanContext(origin.trace_id, parent_id, is_remote=True, trace_flags=flags)
    return trace.set_span_in_context(trace.NonRecordingSpan(sender), Context())


def _endpoint(url: str) -> str:
    try:
        parts = urlsplit(url)
        host = parts.hostname if parts.scheme in ("http", "https") else None
    except ValueError:
        host = None
    if not host:  # the value is not repeated: it may hold a password
        message = "environment variable TRACES_URL: expected an address such as http://collector:4318."
        raise WorkerError(ErrorCode.INVALID_INPUT, message)
    return urlunsplit(parts._replace(path=_DEFAULT_PATH)) if parts.path in ("", "/") else url
