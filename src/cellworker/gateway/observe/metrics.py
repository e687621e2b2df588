"""The gateway's metrics for Prometheus.

Label values come from fixed sets: texts of a request neither make new series nor show up in one.
"""
# ruff: noqa: D102 - NoMetrics documents the methods of both classes

import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from cellworker.errors import ErrorCode, WorkerError
from cellworker.extras import how_to_install
from cellworker.version import __version__

if TYPE_CHECKING:
    from prometheus_client import Gauge

from cellworker.gateway.core.metrics import DONE, GAUGES, NoMetrics

__all__ = ["Metrics"]


_UNKNOWN = "unknown"
_OUTCOMES = frozenset({DONE, *map(str, ErrorCode)})
_KINDS = {"Heartbeat": "heartbeat", "WorkResponse": "result", "ExperimentUpdates": "update"}
_ATTEMPTS = ("1", "2", "3+")
# Fetches of genes take milliseconds, trajectories minutes; the longest lane may compute for an hour.
_REQUEST_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)
_TRANSFER_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)


class Metrics(NoMetrics):
    """Metrics in a registry of their own, with the usual figures of the process (memory, files, processor time).

    Parameters
    ----------
    tasks
        The names that tasks can have.

    Raises
    ------
    WorkerError
        When prometheus_client is not installed.
    """

    def __init__(self, tasks: Iterable[str]) -> None:
        try:
            import prometheus_client as prometheus  # noqa: PLC0415 - only who wants metrics needs it
        except ImportError:
            message = f"METRICS needs prometheus_client: {how_to_install('platform')}."
            raise WorkerError(ErrorCode.INVALID_INPUT, message) from None
        prometheus.disable_created_metrics()  # type: ignore[no-untyped-call]
        self._tasks = frozenset(tasks)
        self._registry = registry = prometheus.CollectorRegistry(auto_describe=False)
        self._generate = prometheus.generate_latest
        prometheus.ProcessCollector(registry=registry)

        def counter(name: str, about: str, *labels: str) -> prometheus.Counter:
            return prometheus.Counter(f"cellworker_{name}", about, labels, registry=registry)

        def histogram(name: str, about: str, buckets: tuple[float, ...], *labels: str) -> prometheus.Histogram:
            return prometheus.Histogram(f"cellworker_{name}", about, labels, registry=registry, buckets=buckets)

        self._requests = counter("requests_total", "Requests whose answer is out.", "task", "outcome")
        self._request_s = histogram(
            "request_seconds", "Time from receipt of a request to its notification.", _REQUEST_BUCKETS, "task"
        )
        self._wait_s = histogram(
            "wait_seconds", "Time from receipt of a request to begin of its work.", _REQUEST_BUCKETS
        )
        self._deliveries = counter("deliveries_total", "Messages received, by attempt.", "attempt")
        self._journal_writes = counter("journal_writes_total", "Requests that moved from the queue to the journal.")
        self._orphans = counter("orphans_taken_total", "Requests taken over from another process.")
        self._duplicates = counter("duplicates_total", "Requests that joined a computation under way.")
        self._stored = counter("stored_answers_total", "Requests whose result was stored already.")
        self._notifications = counter(
            "notifications_total", "Events, by kind and whether they were sent.", "kind", "ok"
        )
        self._upload_bytes = counter("uploads_bytes_total", "Bytes of stored results.")
        self._upload_s = histogram("upload_seconds", "Time that storing a result took.", _TRANSFER_BUCKETS)
        self._sync_s = histogram(
            "sync_seconds", "Time that bringing the experiment up to date took.", _TRANSFER_BUCKETS
        )
        self._gauges: dict[str, Gauge] = {
            name: prometheus.Gauge(
                f"cellworker_{name}", about, ("lane",) if name == "in_flight" else (), registry=registry
            )
            for name, about in GAUGES.items()
        }
        prometheus.Info("cellworker_build", "The version that runs.", registry=registry).info({"version": __version__})
        # A rate over a series that first appears with its first error misses that error.
        for attempt in _ATTEMPTS:
            self._deliveries.labels(attempt)
        for kind in _KINDS.values():
            for ok in ("true", "false"):
                self._notifications.labels(kind, ok)

    def delivered(self, attempt: int) -> None:
        self._deliveries.labels(_ATTEMPTS[min(max(attempt, 1), len(_ATTEMPTS)) - 1]).inc()

    def begun(self, waited_s: float) -> None:
        self._wait_s.observe(waited_s)

    def answered(self, task: str, outcome: str, seconds: float) -> None:
        task = task if task in self._tasks else _UNKNOWN
        self._requests.labels(task, outcome if outcome in _OUTCOMES else _UNKNOWN).inc()
        self._request_s.labels(task).observe(seconds)

    def duplicate_joined(self) -> None:
        self._duplicates.inc()

    def answered_from_store(self) -> None:
        self._stored.inc()

    def journal_written(self) -> None:
        self._journal_writes.inc()

    def orphans_taken(self, number: int) -> None:
        self._orphans.inc(number)

    def notified(self, event: str, *, ok: bool) -> None:
        self._notifications.labels(_KINDS.get(event.partition("-")[0], _UNKNOWN), "true" if ok else "false").inc()

    def uploaded(self, size: int, seconds: float) -> None:
        self._upload_bytes.inc(size)
        self._upload_s.observe(seconds)

    def synced(self, seconds: float) -> None:
        self._sync_s.observe(seconds)

    def follow(self, gauge: str, read: Callable[[], float], *, lane: str | None = None) -> None:
        series = self._gauges[gauge] if lane is None else self._gauges[gauge].labels(lane)
        series.set_function(lambda: _number(read))

    def text(self) -> bytes:
        return self._generate(self._registry)


def _number(read: Callable[[], float]) -> float:
    try:
        return float(read())
    except Exception:  # noqa: BLE001 - one gauge must not take the whole page with it
        return math.nan
