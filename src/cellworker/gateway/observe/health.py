"""Whether the gateway is started, alive and ready, and the small HTTP server that says so.

=======================  ==========================================================================
``GET /health``          200, JSON: the state in one word, each condition, what is served
``GET /health/live``     200, or 503 when only a restart can help
``GET /health/ready``    200, or 503 with the reasons
``GET /health/started``  200, or 503 until all is set up
``GET /metrics``         Prometheus text, where metrics are on
=======================  ==========================================================================

A worker takes its work from a queue and not from these doors, so "not ready" takes nothing away from it: it tells the
platform (roll-outs, dashboards, alarms) that a request would not be answered now. No traffic goes to a pod without
an experiment, so such a pod is ready as soon as its engine answers: a rolling update waits for nothing else.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import orjson
from aiohttp import web

from cellworker.connections import Connections, GuardedRunner
from cellworker.gateway.core.cancel_tasks import end
from cellworker.logs import log, redact
from cellworker.version import __version__

__all__ = ["Check", "Health", "health_app", "serve_health"]

Check = Callable[[], str | None]
"""Returns None when all is well, else a sentence that says what is wrong."""

_BEAT_S = 1.0
_HELD_UP_S = 1.0
# What generate_latest() of prometheus_client writes where it is not asked for another version.
_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_NOT_STARTED = "The worker has not started yet."

_logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Condition:
    check: Check
    tolerance_s: float
    trouble: str | None = None
    since: float = 0.0

    def look(self, now: float) -> None:
        try:
            trouble = self.check()
        except Exception as error:  # noqa: BLE001 - a check that fails must not take the health page with it
            trouble = f"The check itself failed ({type(error).__name__})."
        if trouble is not None and self.trouble is None:
            self.since = now
        self.trouble = None if trouble is None else redact(trouble)

    def broken(self, now: float) -> bool:
        return self.trouble is not None and now - self.since >= self.tolerance_s

    def describe(self, now: float) -> dict[str, Any]:
        if self.trouble is None:
            return {"trouble": None}
        for_s = round(now - self.since, 1)
        return {"trouble": self.trouble, "for_s": for_s, "tolerated": not self.broken(now)}


class Health:
    """Whether the gateway is started, live and ready, from named conditions that are checked every second.

    Use it as an asynchronous context manager: inside, a heartbeat on the event loop checks the conditions, so that
    the duration of a failure is known to a second, and logs when readiness changes.

    Parameters
    ----------
    clock
        Seconds that only grow.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._born = clock()
        self._conditions: dict[str, _Condition] = {}
        self._facts: dict[str, Callable[[], Any]] = {}
        self._started = False
        self._stopping = False
        self._was_ready = False
        self._lag_s = 0.0
        self._heartbeat: asyncio.Task[None] | None = None

    def expect(self, name: str, check: Check, *, tolerance_min: float = 5.0) -> None:
        """Add a condition.

        Parameters
        ----------
        name
            One word, such as ``queue``.
        check
            Quick, and never waits.
        tolerance_min
            Minutes that a failure may last before it counts.
        """
        self._conditions[name] = _Condition(check, 60 * tolerance_min)

    def tell(self, name: str, fact: Callable[[], Any]) -> None:
        """Add a JSON-able fact to the summary, such as the generation of the experiment that is served."""
        self._facts[name] = fact

    def mark_started(self) -> None:
        """Say that all is set up: an experiment will be served as soon as there is one."""
        self._started = True

    def mark_stopping(self) -> None:
        """Record that the worker stops taking work."""
        self._stopping = True

    @property
    def started(self) -> bool:
        """Whether all is set up."""
        return self._started

    @property
    def live(self) -> bool:
        """Whether the process can recover without a restart."""
        return not self.dying()

    @property
    def ready(self) -> bool:
        """Whether a request would be answered now; a failure within its tolerance does not count."""
        return not self.unready()

    def dying(self) -> dict[str, str]:
        """Return the failures that only a restart mends, by name; empty when live."""
        if self._heartbeat is not None and self._heartbeat.done():
            return {"heartbeat": "The heartbeat of the event loop has ended."}
        return {}

    def unready(self) -> dict[str, str]:
        """Return why requests are not answered as they should be, by the name of the condition."""
        found = {**self._broken(), **self.dying()}
        if not self._started:
            found["started"] = _NOT_STARTED
        if self._stopping:
            found["stopping"] = "The worker ends."
        return found

    def describe(self) -> dict[str, Any]:
        """Return the summary, JSON-able and without secrets."""
        now = self._look()
        return {
            "state": self._state(),
            "version": __version__,
            "uptime_s": round(now - self._born, 1),
            "event_loop_lag_s": round(self._lag_s, 3),
            "conditions": {name: condition.describe(now) for name, condition in self._conditions.items()},
            **{name: _fact(fact) for name, fact in self._facts.items()},
        }

    async def __aenter__(self) -> Self:
        self._heartbeat = asyncio.create_task(self._beat(), name="health")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        heartbeat, self._heartbeat = self._heartbeat, None
        await end(heartbeat)

    def _state(self) -> str:
        if not self.live:
            return "stuck"
        if self._stopping:
            return "stopping"
        if not self._started:
            return "starting"
        return "ready" if self.ready else "not ready"

    def _look(self) -> float:
        now = self._clock()
        for condition in self._conditions.values():
            condition.look(now)
        return now

    def _broken(self) -> dict[str, str]:
        now = self._look()
        return {name: item.trouble or "" for name, item in self._conditions.items() if item.broken(now)}

    async def _beat(self) -> None:
        while True:
            before = self._clock()
            self._log_change()
            await asyncio.sleep(_BEAT_S)
            self._lag_s = max(0.0, self._clock() - before - _BEAT_S)
            if self._lag_s > _HELD_UP_S:
                log(_logger, logging.WARNING, "event loop was held up", seconds=round(self._lag_s, 1))

    def _log_change(self) -> None:
        reasons = self.unready()
        ready = not reasons
        if ready == self._was_ready:
            return
        self._was_ready = ready
        if ready:
            log(_logger, logging.INFO, "ready")
        else:
            level = logging.INFO if self._stopping else logging.WARNING
            log(_logger, level, "no longer ready", reasons=reasons)


def health_app(health: Health, metrics_text: Callable[[], bytes] | None = None) -> web.Application:
    """Make the application.

    Parameters
    ----------
    health
        What is reported.
    metrics_text
        Makes the body of ``/metrics``; None leaves that path out.
    """

    async def summary(_: web.Request) -> web.Response:
        return _json(health.describe())

    async def live(_: web.Request) -> web.Response:
        return _verdict(health.dying())

    async def ready(_: web.Request) -> web.Response:
        return _verdict(health.unready())

    async def started(_: web.Request) -> web.Response:
        return _verdict({} if health.started else {"started": _NOT_STARTED})

    app = web.Application()
    app.router.add_get("/health", summary)
    app.router.add_get("/health/live", live)
    app.router.add_get("/health/ready", ready)
    app.router.add_get("/health/started", started)
    if metrics_text is not None:
        make_text = metrics_text

        async def metrics(_: web.Request) -> web.Response:
            return web.Response(body=make_text(), headers={"Content-Type": _METRICS_TYPE})

        app.router.add_get("/metrics", metrics)
    return app


@contextlib.asynccontextmanager
async def serve_health(
    health: Health, metrics_text: Callable[[], bytes] | None, port: int, host: str | None = None
) -> AsyncIterator[int]:
    """Serve the application for as long as the block lasts.

    Parameters
    ----------
    health, metrics_text
        As for `health_app`.
    port
        0 takes any free one; the setting's 0, off, is the caller's matter.
    host
        None listens on all addresses, because the platform asks from outside of the pod.

    Yields
    ------
    int
        The port.

    Raises
    ------
    OSError
        When the port is taken.
    """
    runner = GuardedRunner(health_app(health, metrics_text), Connections(), shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()


def _verdict(reasons: Mapping[str, str]) -> web.Response:
    return _json({"status": "down", "reasons": reasons}, 503) if reasons else _json({"status": "up"})


def _json(value: Mapping[str, Any], status: int = 200) -> web.Response:
    headers = {"Cache-Control": "no-store"}
    return web.Response(body=orjson.dumps(value), status=status, content_type="application/json", headers=headers)


def _fact(fact: Callable[[], Any]) -> Any:  # noqa: ANN401
    try:
        return fact()
    except Exception as error:  # noqa: BLE001 - as for a check
        return f"unknown ({type(error).__name__})"
