"""What the platform is told of the gateway's state, over real HTTP."""

import asyncio
import json
import logging
import socket
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest

from cellworker.gateway.observe.health import Health, serve_health

REDIS_WITH_PASSWORD = "redis://worker:hunter2-hunter2@cache:6379"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def minutes(self, number: float) -> None:
        self.now += 60 * number


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def health(clock: Clock) -> Health:
    health = Health(clock=clock)
    health.mark_started()
    return health


async def get(health: Health, path: str, metrics: Callable[[], bytes] | None = None) -> tuple[int, str, str]:
    async with (
        serve_health(health, metrics, 0, "127.0.0.1") as port,
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}{path}") as response,
    ):
        return response.status, await response.text(), response.headers["Content-Type"]


async def verdict(health: Health, kind: str) -> tuple[int, dict[str, Any]]:
    status, text, _ = await get(health, f"/health/{kind}")
    return status, json.loads(text)


async def summary(health: Health) -> dict[str, Any]:
    status, text, content_type = await get(health, "/health")
    assert status == 200
    assert content_type.startswith("application/json")
    return json.loads(text)


async def test_until_it_is_started_a_worker_is_alive_and_neither_started_nor_ready() -> None:
    health = Health()
    assert (await verdict(health, "live"))[0] == 200
    assert (await verdict(health, "started"))[0] == 503
    assert (await verdict(health, "ready"))[0] == 503
    assert (await summary(health))["state"] == "starting"
    health.mark_started()
    assert (await verdict(health, "started")) == (200, {"status": "up"})
    assert (await verdict(health, "ready")) == (200, {"status": "up"})
    assert (await summary(health))["state"] == "ready"


async def test_a_worker_that_ends_is_alive_and_not_ready(health: Health) -> None:
    health.mark_stopping()
    assert (await verdict(health, "live"))[0] == 200
    assert (await verdict(health, "ready"))[0] == 503
    assert (await summary(health))["state"] == "stopping"


async def test_an_outage_of_the_queue_is_tolerated_for_five_minutes(health: Health, clock: Clock) -> None:
    trouble: list[str | None] = ["The queue does not answer."]
    health.expect("queue", lambda: trouble[0])
    assert (await verdict(health, "ready"))[0] == 200
    clock.minutes(4.9)
    assert (await verdict(health, "ready"))[0] == 200
    condition = (await summary(health))["conditions"]["queue"]
    assert condition == {"trouble": "The queue does not answer.", "for_s": 294.0, "tolerated": True}
    clock.minutes(0.2)
    assert await verdict(health, "ready") == (
        503,
        {"status": "down", "reasons": {"queue": "The queue does not answer."}},
    )
    assert (await summary(health))["state"] == "not ready"
    assert (await verdict(health, "live"))[0] == 200
    trouble[0] = None
    assert (await verdict(health, "ready"))[0] == 200
    trouble[0] = "Again."
    assert (await verdict(health, "ready"))[0] == 200, "each outage has its own five minutes"


async def test_a_condition_without_tolerance_counts_at_once(health: Health) -> None:
    health.expect("engine", lambda: "The engine does not answer.", tolerance_min=0)
    assert (await verdict(health, "ready"))[0] == 503


async def test_only_the_end_of_the_heartbeat_ends_liveness() -> None:
    async with Health() as health:
        health.mark_started()
        health.expect("queue", lambda: "The queue does not answer.", tolerance_min=0)
        assert (await verdict(health, "live"))[0] == 200
        (heartbeat,) = (task for task in asyncio.all_tasks() if task.get_name() == "health")
        heartbeat.cancel()
        await asyncio.wait([heartbeat])
        reasons = {"heartbeat": "The heartbeat of the event loop has ended."}
        assert await verdict(health, "live") == (503, {"status": "down", "reasons": reasons})
        assert (await summary(health))["state"] == "stuck"


async def test_a_failed_check_is_unhealthy_and_its_text_is_not_shown(health: Health) -> None:
    def fail() -> str | None:
        raise ConnectionError(REDIS_WITH_PASSWORD)

    health.expect("redis", fail, tolerance_min=0)
    health.tell("generation", fail)
    status, answer = await verdict(health, "ready")
    assert status == 503
    assert "ConnectionError" in answer["reasons"]["redis"]
    assert "hunter2" not in json.dumps([answer, await summary(health)])


async def test_a_password_in_a_sentence_is_blanked(health: Health) -> None:
    health.expect("redis", lambda: f"{REDIS_WITH_PASSWORD} does not answer.", tolerance_min=0)
    text = json.dumps([await summary(health), await verdict(health, "ready")])
    assert "cache:6379 does not answer." in text
    assert "hunter2" not in text


async def test_the_summary_reports_what_is_served(health: Health, clock: Clock) -> None:
    health.tell("experiment", lambda: {"id": "x1", "generation": 3})
    clock.minutes(2)
    found = await summary(health)
    assert found["experiment"] == {"id": "x1", "generation": 3}
    assert found["uptime_s"] == 120.0
    assert found["version"]


async def test_the_doors_that_there_are_and_no_others(health: Health) -> None:
    status, text, content_type = await get(health, "/metrics", lambda: b"cellworker_up 1\n")
    assert (status, text) == (200, "cellworker_up 1\n")
    assert content_type == "text/plain; version=0.0.4; charset=utf-8"
    assert (await get(health, "/metrics"))[0] == 404
    assert (await get(health, "/"))[0] == 404


async def test_a_taken_port_is_an_error_and_not_silence(health: Health) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(OSError, match="in use"):
            async with serve_health(health, None, other.getsockname()[1], "127.0.0.1"):
                pass


async def test_the_heartbeat_times_unasked_problems_and_logs_each_change_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cellworker.gateway.observe.health._BEAT_S", 0.01)
    caplog.set_level(logging.INFO, "cellworker.gateway.observe.health")
    looked = asyncio.Event()
    trouble: list[str | None] = [None]

    def check() -> str | None:
        looked.set()
        return trouble[0]

    async def another_beat() -> None:
        for _ in range(2):  # the first may have begun before what the test just did
            looked.clear()
            await asyncio.wait_for(looked.wait(), 10)

    health = Health()
    health.expect("queue", check, tolerance_min=0)
    async with health:
        await another_beat()
        assert caplog.messages == []
        health.mark_started()
        await another_beat()
        trouble[0] = "The queue does not answer."
        await another_beat()
        await another_beat()
        trouble[0] = None
        await another_beat()
        health.mark_stopping()
        await another_beat()
    assert caplog.messages == ["ready", "no longer ready", "ready", "no longer ready"]
    reasons = [record.facts["reasons"] for record in caplog.records if record.message == "no longer ready"]
    assert reasons == [{"queue": "The queue does not answer."}, {"stopping": "The worker ends."}]


async def test_the_end_of_the_heartbeat_ends_liveness(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Health) -> None:
        raise RuntimeError

    monkeypatch.setattr(Health, "_log_change", broken)
    async with Health() as health:
        assert health._heartbeat is not None
        await asyncio.wait([health._heartbeat], timeout=10)
        status, answer = await verdict(health, "live")
    assert status == 503
    assert "heartbeat" in answer["reasons"]


async def test_a_blocked_loop_is_reported(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    health = Health(clock=clock)
    told = asyncio.Event()
    monkeypatch.setattr("cellworker.gateway.observe.health.log", lambda *_, **facts: (held.append(facts), told.set()))
    monkeypatch.setattr("cellworker.gateway.observe.health._BEAT_S", 0.01)
    held: list[dict[str, Any]] = []
    looked = asyncio.Event()
    health.expect("queue", looked.set)
    async with health:
        await asyncio.wait_for(looked.wait(), 10)
        clock.now += 4.2
        await asyncio.wait_for(told.wait(), 10)
    assert held[0]["seconds"] == pytest.approx(4.2, abs=0.1)
