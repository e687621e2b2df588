"""Chooses the tracing of requests by the settings."""

from collections.abc import Iterable

from cellworker.errors import ErrorCode, WorkerError
from cellworker.extras import how_to_install
from cellworker.gateway.core.tracing import NoTracing, Tracing

__all__ = ["make_tracing"]


def make_tracing(url: str, tasks: Iterable[str]) -> Tracing:
    """Return the tracing that sends to `url`; with an empty one, a tracing that does nothing.

    Raises
    ------
    WorkerError
        When OpenTelemetry is not installed, or the address cannot be one.
    """
    if not url:
        return NoTracing()
    try:
        from cellworker.gateway.observe.tracing_otel import OtelTracing  # noqa: PLC0415 - only who wants traces needs it
    except ImportError:
        message = f"TRACES_URL needs OpenTelemetry: {how_to_install('tracing')}."
        raise WorkerError(ErrorCode.INVALID_INPUT, message) from None
    return OtelTracing(url, tasks)
