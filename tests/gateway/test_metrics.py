"""What Prometheus gets to read."""

import inspect
import math
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from cellworker import __version__
from cellworker.errors import ErrorCode
from cellworker.gateway.core.metrics import DONE, GAUGES, NoMetrics
from cellworker.gateway.observe.health import Health, serve_health
from cellworker.gateway.observe.metrics import Metrics
from cellworker.tasks.catalog import TASKS

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


class Scrape:
    """One answer of ``/metrics``, as Prometheus understands it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.families = list(text_string_to_metric_families(text))
        self.series: Series = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in self.families
            for sample in family.samples
        }

    def __call__(self, name: str, **labels: str) -> float:
        return self.series[f"cellworker_{name}", frozenset(labels.items())]

    def labels(self, name: str) -> list[dict[str, str]]:
        return [dict(labels) for found, labels in self.series if found == f"cellworker_{name}"]


async def scrape(metrics: Metrics) -> Scrape:
    async with (
        serve_health(Health(), metrics.text, 0, "127.0.0.1") as port,
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}/metrics") as response,
    ):
        assert response.status == 200
        return Scrape(await response.text())


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(TASKS)


async def test_a_request_is_counted_by_task_and_outcome_and_timed(metrics: Metrics) -> None:
    metrics.begun(0.02)
    metrics.answered("ListGenes", DONE, 0.3)
    metrics.answered("ListGenes", DONE, 40.0)
    metrics.answered("ListGenes", str(ErrorCode.REQUEST_EXPIRED), 0.001)
    found = await scrape(metrics)
    assert found("requests_total", task="ListGenes", outcome="done") == 2
    assert found("requests_total", task="ListGenes", outcome="REQUEST_EXPIRED") == 1
    assert found("request_seconds_count", task="ListGenes") == 3
    assert found("request_seconds_sum", task="ListGenes") == pytest.approx(40.301)
    assert found("request_seconds_bucket", task="ListGenes", le="0.5") == 2
    assert found("wait_seconds_count") == 1
    assert found("wait_seconds_bucket", le="0.01") == 0
    assert found("wait_seconds_bucket", le="0.025") == 1


async def test_no_text_of_a_request_becomes_a_series_or_a_label(metrics: Metrics) -> None:
    for number in range(50):
        metrics.answered(f"Bearer planted-{number}", f"planted-{number}", 1.0)
        metrics.notified(f"planted-{number}", ok=True)
    found = await scrape(metrics)
    assert found("requests_total", task="unknown", outcome="unknown") == 50
    assert len(found.labels("requests_total")) == 1
    assert found("notifications_total", kind="unknown", ok="true") == 50
    assert "planted" not in found.text


async def test_each_count_goes_to_the_metric_of_its_name(metrics: Metrics) -> None:
    for attempt in (1, 1, 2, 3, 17):
        metrics.delivered(attempt)
    metrics.duplicate_joined()
    metrics.answered_from_store()
    metrics.journal_written()
    metrics.orphans_taken(4)
    metrics.uploaded(1000, 0.2)
    metrics.uploaded(24, 0.1)
    metrics.synced(3.0)
    found = await scrape(metrics)
    assert [found("deliveries_total", attempt=attempt) for attempt in ("1", "2", "3+")] == [2, 1, 2]
    assert found("duplicates_total") == 1
    assert found("stored_answers_total") == 1
    assert found("journal_writes_total") == 1
    assert found("orphans_taken_total") == 4
    assert found("uploads_bytes_total") == 1024
    assert found("upload_seconds_count") == 2
    assert found("upload_seconds_sum") == pytest.approx(0.3)
    assert found("sync_seconds_sum") == 3.0


async def test_events_are_counted_by_their_kind_and_not_by_their_name(metrics: Metrics) -> None:
    for event in ("Heartbeat-x1", "Heartbeat-x2", "WorkResponse-0af", "ExperimentUpdates-x1"):
        metrics.notified(event, ok=True)
    metrics.notified("WorkResponse-0af", ok=False)
    found = await scrape(metrics)
    assert found("notifications_total", kind="heartbeat", ok="true") == 2
    assert found("notifications_total", kind="result", ok="true") == 1
    assert found("notifications_total", kind="result", ok="false") == 1
    assert found("notifications_total", kind="update", ok="true") == 1


async def test_an_error_is_seen_from_its_first_time_on(metrics: Metrics) -> None:
    found = await scrape(metrics)
    assert found("deliveries_total", attempt="3+") == 0
    assert found("notifications_total", kind="result", ok="false") == 0
    assert found("orphans_taken_total") == 0


async def test_gauges_are_read_at_each_scrape(metrics: Metrics) -> None:
    lanes = {"short": 1, "long": 7}
    metrics.follow("in_flight", lambda: lanes["short"], lane="short")
    metrics.follow("in_flight", lambda: lanes["long"], lane="long")
    metrics.follow("journal_entries", lambda: 12)
    metrics.follow("queue_trouble", lambda: True)
    metrics.follow("visibility_extension_denied", lambda: 1)
    metrics.follow("experiment_generation", lambda: 3)
    lanes["short"] = 2
    found = await scrape(metrics)
    assert found("in_flight", lane="short") == 2
    assert found("in_flight", lane="long") == 7
    assert found("journal_entries") == 12
    assert found("queue_trouble") == 1
    assert found("redis_trouble") == 0
    assert found("visibility_extension_denied") == 1
    assert found("experiment_generation") == 3


async def test_a_gauge_that_cannot_be_read_leaves_the_others_alone(metrics: Metrics) -> None:
    metrics.follow("journal_entries", lambda: 1 // 0)
    metrics.answered("ListGenes", DONE, 1.0)
    found = await scrape(metrics)
    assert math.isnan(found("journal_entries"))
    assert found("requests_total", task="ListGenes", outcome="done") == 1


def test_a_gauge_that_there_is_not_is_refused(metrics: Metrics) -> None:
    with pytest.raises(KeyError):
        metrics.follow("in_fligth", lambda: 1)


async def test_the_version_and_the_process_are_reported(metrics: Metrics) -> None:
    found = await scrape(metrics)
    assert found("build_info", version=__version__) == 1
    if sys.platform == "linux":
        assert found.series["process_resident_memory_bytes", frozenset()] > 1e6
        assert found.series["process_open_fds", frozenset()] > 0


async def test_names_and_help_follow_the_conventions(metrics: Metrics) -> None:
    for family in (await scrape(metrics)).families:
        assert family.name.startswith(("cellworker_", "process_")), family.name
        assert family.documentation, family.name
        assert not family.name.endswith("_created"), family.name


def test_two_do_not_share_their_counts() -> None:
    first, second = Metrics(TASKS), Metrics(TASKS)
    first.journal_written()
    assert Scrape(second.text().decode())("journal_writes_total") == 0


def public(kind: type) -> dict[str, inspect.Signature]:
    return {name: inspect.signature(item) for name, item in vars(kind).items() if not name.startswith("_")}


def test_the_twin_has_the_same_methods() -> None:
    assert public(Metrics) == public(NoMetrics)


def test_the_twin_does_without_prometheus() -> None:
    script = """
import sys
from cellworker.gateway.observe.metrics import GAUGES, NoMetrics
metrics = NoMetrics()
metrics.delivered(1); metrics.begun(0.1); metrics.answered("ListGenes", "done", 0.1); metrics.duplicate_joined()
metrics.answered_from_store(); metrics.journal_written(); metrics.orphans_taken(2)
metrics.notified("Heartbeat-x", ok=True); metrics.uploaded(1, 0.1); metrics.synced(0.1)
metrics.follow("in_flight", lambda: 1, lane="short")
assert metrics.text() == b""
assert "prometheus_client" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True)


async def test_every_metric_is_in_the_documentation(metrics: Metrics, root: Path) -> None:
    page = (root / "docs" / "operations.md").read_text()
    for family in (await scrape(metrics)).families:
        name = f"{family.name}_total" if family.type == "counter" else family.name
        name = "process_*" if name.startswith("process_") else name
        assert f"`{name}" in page, name
    assert all(f"`cellworker_{name}" in page for name in GAUGES)
