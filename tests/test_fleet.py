"""The simulated fleet, in small: the same day for the same seed, and settings that do what they are for."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("simpy")
ROOT = Path(__file__).parents[1]


@pytest.fixture
def fleet(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    from benchmarks import fleet

    return fleet


@pytest.fixture
def day(fleet):
    times = fleet.Times.measured()

    def simulated(settings, **options):
        return fleet.simulate(settings, times, **{"experiments": 12, "users": 60, **options})

    return simulated


def test_the_same_seed_gives_the_same_day_and_another_one_another(fleet, day):
    assert day(fleet.Settings()) == day(fleet.Settings())
    assert day(fleet.Settings()) != day(fleet.Settings(), seed=1)


def test_the_settings_are_those_of_the_chart(fleet):
    import yaml

    values = yaml.safe_load(fleet.CHART.read_text())["keda"]
    found = fleet.chart_settings()
    assert (found.min_replicas, found.max_replicas) == (values["minReplicas"], values["maxReplicas"])
    assert (found.queue_length, found.cooldown_s) == (values["queueLength"], values["cooldownSeconds"])


def test_every_request_is_answered_though_pods_are_taken_away(fleet, day):
    found = day(fleet.Settings(cooldown_s=30, queue_length=1))
    assert found["answered"] == 60 * fleet.Assumed().requests_per_session


def test_a_pod_that_waits_spares_the_first_answer_its_cold_start_and_costs(fleet, day):
    without, waiting = day(fleet.Settings()), day(fleet.Settings(min_replicas=1))
    assert without["first_median_s"] > 10 > waiting["first_median_s"] == 0
    assert waiting["mean_pods"] > without["mean_pods"]
    assert waiting["usd_per_hour"] >= without["usd_per_hour"]


def test_stores_that_outlive_pods_make_each_experiment_cold_once(fleet, day):
    lost, kept = day(fleet.Settings(max_replicas=1)), day(fleet.Settings(max_replicas=1, stores_kept=True))
    assert lost["cold_starts"] == lost["starts"] > 12
    assert kept["cold_starts"] == 12


def test_a_longer_cooldown_means_fewer_starts_and_more_pods(fleet, day):
    short, long = (day(fleet.Settings(cooldown_s=seconds)) for seconds in (300, 3600))
    assert long["starts"] < short["starts"]
    assert long["mean_pods"] > short["mean_pods"]


def test_polls_at_odd_times_come_to_an_end(fleet, day):
    # Rounding puts a poll just before itself; that once made a day that never ended.
    assumed = replace(fleet.Assumed(), poll_s=1 / 3, stable_s=1)
    found = day(fleet.Settings(cooldown_s=5), experiments=3, users=3, end_s=1500, assumed=assumed)
    assert found["starts"] >= 3


def test_the_table_says_what_was_found(fleet):
    results = json.loads((ROOT / "benchmarks/results/fleet.json").read_text())
    page = (ROOT / "docs/operations.md").read_text()
    assert fleet.table(results) == re.search(r"<!-- fleet -->\n(.*?)\n<!-- end -->", page, re.DOTALL)[1]
    assert results[0]["settings"]["cooldown_s"] == fleet.chart_settings().cooldown_s
