"""The interface of the gateway's metrics, and an implementation without effect for when metrics are off."""

from collections.abc import Callable

__all__ = ["DONE", "GAUGES", "NoMetrics"]

DONE = "done"
"""The outcome of a request without error."""
GAUGES = {
    "in_flight": "Requests that are being worked on, by lane.",
    "journal_entries": "Accepted requests that wait in the journal for their answer.",
    "queue_trouble": "1 while the queue cannot be reached.",
    "redis_trouble": "1 while notifications cannot be sent.",
    "visibility_extension_denied": "1 when messages cannot be kept hidden for longer (degraded mode).",
    "experiment_generation": "Counts the versions of the experiment that were served, from 1.",
}
"""The gauges of `NoMetrics.follow`, with their help texts."""


class NoMetrics:
    """The same methods as `Metrics`, without effect."""

    def delivered(self, attempt: int) -> None:
        """Count a delivery; `attempt` counts from 1."""

    def begun(self, waited_s: float) -> None:
        """Note the seconds from receipt of a request to the start of its work."""

    def answered(self, task: str, outcome: str, seconds: float) -> None:
        """Count a request whose answer is out.

        Parameters
        ----------
        task
            Its name; an unknown name counts as ``unknown``.
        outcome
            `DONE` or an error code.
        seconds
            From receipt to notification.
        """

    def duplicate_joined(self) -> None:
        """Count a request that waits for the computation of an earlier one with the same ETag."""

    def answered_from_store(self) -> None:
        """Count a request whose result was stored already."""

    def journal_written(self) -> None:
        """Count a request that moved from the queue to the journal."""

    def orphans_taken(self, number: int) -> None:
        """Count requests taken over from another process."""

    def notified(self, event: str, *, ok: bool) -> None:
        """Count an event sent, or not; `event` is its name, such as ``Heartbeat-<experiment>``."""

    def uploaded(self, size: int, seconds: float) -> None:
        """Note the bytes of a stored result and the seconds that storing it took."""

    def synced(self, seconds: float) -> None:
        """Note the seconds that bringing the experiment up to date took."""

    def follow(self, gauge: str, read: Callable[[], float], *, lane: str | None = None) -> None:
        """Have a gauge read from a function at each scrape.

        Parameters
        ----------
        gauge
            One of `GAUGES`.
        read
            Quick; where it fails, the gauge is not a number.
        lane
            For ``in_flight`` alone: ``short`` or ``long``.
        """

    def text(self) -> bytes:
        """Return everything as Prometheus reads it (text format 0.0.4)."""
        return b""
