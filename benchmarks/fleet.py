"""Benchmark "fleet": a day of 1,000 experiments and 5,000 users, simulated over Kubernetes, SQS and KEDA.

Times of tasks, cold and warm starts are those that the benchmarks "sizing" and "gateway" measured, as CPU seconds on
one processor; settings are the chart's. Figures that are not measured are in `Assumed`, and beside the results. The
same seed gives the same day.
"""

import json
import math
import random
import re
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import simpy

from benchmarks.harness import RESULTS, machine

__all__ = ["CHART", "Assumed", "Settings", "Times", "chart_settings", "run", "simulate", "table"]

ROOT = Path(__file__).parents[1]
CHART = ROOT / "chart-infra/values.yaml"
OPERATIONS = ROOT / "docs/operations.md"
DAY_S = 10 * 3600.0
SHORT_WORKERS, LONG_WORKERS = 2, 1  # the settings' defaults
LONG = ("ClusterCells", "GetEmbedding")


@dataclass(frozen=True)
class Settings:
    """What the chart's ``keda`` and its neighbours set, and whether stores outlive a pod."""

    min_replicas: int = 0
    max_replicas: int = 4
    queue_length: int = 5
    cooldown_s: float = 900
    stores_kept: bool = False
    """Stores and files on volumes that outlive a pod: only the first start of an experiment is cold."""


@dataclass(frozen=True)
class Assumed:
    """Not measured here."""

    poll_s: float = 30
    """KEDA's default interval of polls."""
    stable_s: float = 300
    """Kubernetes' default time before a scaler takes pods away."""
    pod_start_s: float = 8
    """From the decision to running containers, on a node that has the image."""
    node_start_s: float = 90
    node_kept_s: float = 600
    node_cpu: float = 8
    node_gb: float = 32
    node_usd_per_hour: float = 0.384
    """On demand, 8 processors and 32 GB."""
    pod_cpu: float = 1.1
    """What the chart's pod asks for: engine and gateway."""
    pod_gb: float = 4.25
    download_bytes_per_s: float = 1e8
    large_share: float = 0.3
    """Of experiments with 50,000 cells; the others have 10,000."""
    requests_per_session: int = 30
    think_s: float = 20
    """Between an answer and the next request."""
    shares: tuple[tuple[str, float], ...] = (
        ("fetch", 0.9),
        ("MarkerHeatmap", 0.06),
        ("ClusterCells", 0.02),
        ("GetEmbedding", 0.02),
    )


@dataclass(frozen=True)
class Times:
    """Measured seconds, by cells."""

    tasks: dict[int, dict[str, float]]
    cold: dict[int, float]
    """Reading a file; its download is added."""
    warm: dict[int, float]
    file_bytes: dict[int, int]
    rest_gb: dict[int, float]

    @classmethod
    def measured(cls) -> "Times":
        """Read the results of the benchmarks "sizing" and "gateway"."""
        cases = {case["case"]: case["ours"] for case in json.loads((RESULTS / "sizing.json").read_text())}
        about = json.loads((RESULTS / "sizing.meta.json").read_text())["about"]
        gateway = {case["case"]: case for case in json.loads((RESULTS / "gateway.json").read_text())}
        fetch = gateway["overhead: a fetch"]["figures"]["latency_ms"]["median"] / 1e3
        sizes = (10_000, 50_000)

        def of(what: str, figure: str = "cpu_s") -> dict[int, float]:
            return {cells: cases[f"{cells:,} cells: {what}"][figure] for cells in sizes}

        names = ("MarkerHeatmap", *LONG)
        return cls(
            tasks={cells: {"fetch": fetch, **{name: of(name)[cells] for name in names}} for cells in sizes},
            cold=of("read"),
            warm=of("engine ready"),
            file_bytes={cells: about[f"{cells:,} cells"]["file_bytes"] for cells in sizes},
            rest_gb={cells: peak / 1e3 for cells, peak in of("engine ready", "peak_mb").items()},
        )


@dataclass
class Found:
    """The figures of a day."""

    waits: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """Seconds from request to answer less those of the task itself: "first" of a session, "short" and "long"."""
    pods: int = 0
    peak_pods: int = 0
    pod_s: float = 0
    starts: int = 0
    cold_starts: int = 0
    peak_nodes: int = 0
    node_s: float = 0
    used_gb_s: float = 0


class Nodes:
    """Nodes, which start when no capacity is left, and stop some time after their last use."""

    def __init__(self, env: simpy.Environment, assumed: Assumed, found: Found) -> None:
        self._env, self._assumed, self._found = env, assumed, found
        self.per_node = int(min(assumed.node_cpu / assumed.pod_cpu, assumed.node_gb / assumed.pod_gb))
        self._nodes = 0
        self._since = self._ready = 0.0

    def _count(self, nodes: int) -> None:
        self._found.node_s += self._nodes * (self._env.now - self._since)
        self._nodes, self._since = nodes, self._env.now
        self._found.peak_nodes = max(self._found.peak_nodes, nodes)

    def take(self) -> float:
        """Make space for a pod; return the seconds until it runs."""
        self._found.pods += 1
        self._found.peak_pods = max(self._found.peak_pods, self._found.pods)
        if self._found.pods > self._nodes * self.per_node:
            self._count(self._nodes + 1)
            self._ready = self._env.now + self._assumed.node_start_s
        on_newest = self._found.pods > (self._nodes - 1) * self.per_node
        return max(0.0, self._ready - self._env.now) if on_newest else 0.0

    def give(self) -> None:
        self._found.pods -= 1
        self._env.process(self._later())

    def _later(self) -> Iterator[Any]:
        yield self._env.timeout(self._assumed.node_kept_s)
        needed = math.ceil(self._found.pods / self.per_node)
        if needed < self._nodes:
            self._count(needed)

    def close(self) -> None:
        self._count(self._nodes)


class Release:
    """One experiment: its queue, its pods, and KEDA's scaler."""

    def __init__(
        self, env: simpy.Environment, cells: int, phase: float, world: tuple[Settings, Assumed, Times], nodes: Nodes
    ) -> None:
        self.env, self.cells, self.phase, self.nodes = env, cells, phase, nodes
        self.settings, self.assumed, self.times = world
        self.found = nodes._found  # noqa: SLF001 one day, one place
        self.queues = {kind: simpy.Store(env) for kind in ("short", "long")}
        self.open = 0  # messages that wait or are worked on
        self.pods: list[simpy.Process] = []
        self._scaling = False
        self._opened_before = False
        self._grow(self.settings.min_replicas)

    def ask(self, task: str) -> simpy.Event:
        """Send a request; the event is its answer."""
        answer = self.env.event()
        self.open += 1
        self.queues["long" if task in LONG else "short"].put((task, answer))
        if not self._scaling:
            self._scaling = True
            self.env.process(self._scale())
        return answer

    def _scale(self) -> Iterator[Any]:
        wanted: list[tuple[float, int]] = []
        active = self.env.now
        while True:
            yield self.env.timeout(self._until_poll())
            if self.open:
                active = self.env.now
            elif self.env.now - active > self.settings.cooldown_s:
                self._shrink(self.settings.min_replicas)
                self._scaling = False
                return
            need = min(self.settings.max_replicas, math.ceil(self.open / self.settings.queue_length))
            wanted = [one for one in wanted if one[0] > self.env.now - self.assumed.stable_s]
            wanted.append((self.env.now, need))
            aim = max(1, self.settings.min_replicas, *(count for _, count in wanted))
            self._grow(aim)
            if not self.open:
                self._shrink(aim)

    def _until_poll(self) -> float:
        every = self.assumed.poll_s
        left = self.phase + (math.floor((self.env.now - self.phase) / every) + 1) * every - self.env.now
        return left if left > every * 1e-6 else left + every  # at a poll itself, rounding may leave next to nothing

    def _grow(self, count: int) -> None:
        while len(self.pods) < count:
            self.pods.append(self.env.process(self._pod()))

    def _shrink(self, count: int) -> None:
        while len(self.pods) > count:
            self.pods.pop().interrupt()

    def _pod(self) -> Iterator[Any]:
        node_s, start = self.nodes.take(), self.env.now
        workers: list[simpy.Process] = []
        try:
            yield self.env.timeout(node_s + self.assumed.pod_start_s)
            warm = self.settings.stores_kept and self._opened_before
            self.found.starts += 1
            self.found.cold_starts += not warm
            cold = self.times.cold[self.cells] + self.times.file_bytes[self.cells] / self.assumed.download_bytes_per_s
            yield self.env.timeout(self.times.warm[self.cells] + (0 if warm else cold))
            self._opened_before = True
            workers = [
                self.env.process(self._work(kind))
                for kind, count in (("short", SHORT_WORKERS), ("long", LONG_WORKERS))
                for _ in range(count)
            ]
            yield self.env.event()  # until it is taken away
        except simpy.Interrupt:
            for worker in workers:
                worker.interrupt()
        self.found.pod_s += self.env.now - start
        self.found.used_gb_s += (self.env.now - start) * self.times.rest_gb[self.cells]
        self.nodes.give()

    def _work(self, kind: str) -> Iterator[Any]:
        message = None
        waiting = self.queues[kind].get()
        try:
            while True:
                message = yield waiting
                yield self.env.timeout(self.times.tasks[self.cells][message[0]])
                message[1].succeed()
                self.open -= 1
                message, waiting = None, self.queues[kind].get()
        except simpy.Interrupt:
            waiting.cancel()
            if message is None and waiting.triggered:
                message = waiting.value
            if message is not None:  # handed back: no request is lost
                self.queues[kind].put(message)


def _user(env: simpy.Environment, release: Release, rng: random.Random, end_s: float) -> Iterator[Any]:
    assumed, found = release.assumed, release.found
    names, weights = zip(*assumed.shares, strict=True)
    # Sessions begin through the working day, most in its middle.
    yield env.timeout(rng.triangular(0, end_s * 0.9))
    for number in range(assumed.requests_per_session):
        task = "fetch" if not number else rng.choices(names, weights)[0]
        asked = env.now
        yield release.ask(task)
        wait = round(max(0.0, env.now - asked - release.times.tasks[release.cells][task]), 6)
        found.waits["first" if not number else "long" if task in LONG else "short"].append(wait)
        yield env.timeout(rng.expovariate(1 / assumed.think_s))


def simulate(
    settings: Settings,
    times: Times,
    *,
    experiments: int = 1000,
    users: int = 5000,
    assumed: Assumed | None = None,
    seed: int = 0,
    end_s: float = DAY_S,
) -> dict[str, float]:
    """Return the figures of a day; the same for the same seed."""
    assumed = assumed or Assumed()
    rng, env, found = random.Random(seed), simpy.Environment(), Found()
    nodes = Nodes(env, assumed, found)
    releases = [
        Release(
            env, 50_000 if rng.random() < assumed.large_share else 10_000, rng.uniform(0, assumed.poll_s),
            (settings, assumed, times), nodes,
        )
        for _ in range(experiments)
    ]  # fmt: skip
    for number in range(users):
        release = releases[number] if number < experiments else rng.choice(releases)
        env.process(_user(env, release, random.Random(rng.random()), end_s))
    env.run(until=end_s)
    for release in releases:
        release._shrink(0)  # noqa: SLF001 the day is over
    env.run(until=end_s + 0.001)
    nodes.close()
    hours = end_s / 3600
    figures: dict[str, float] = {}
    for kind in ("first", "short", "long"):
        waits = sorted(found.waits[kind]) or [math.nan]
        figures[f"{kind}_median_s"] = statistics.median(waits)
        figures[f"{kind}_p95_s"] = waits[int(0.95 * (len(waits) - 1))]
    everyone = [wait for waits in found.waits.values() for wait in waits]
    figures["answered"] = len(everyone)
    figures["over_10_s"] = sum(wait > 10 for wait in everyone) / max(1, len(everyone))
    figures |= {"peak_pods": found.peak_pods, "mean_pods": found.pod_s / end_s, "starts": found.starts}
    figures |= {"cold_starts": found.cold_starts, "peak_nodes": found.peak_nodes}
    figures["asked_gb_peak"] = found.peak_pods * assumed.pod_gb
    figures["used_gb_mean"] = found.used_gb_s / end_s
    figures["usd_per_hour"] = found.node_s / 3600 / hours * assumed.node_usd_per_hour
    return {name: float(f"{value:.4g}") for name, value in figures.items()}


def chart_settings() -> Settings:
    """Return what the chart's values say."""
    block = CHART.read_text().partition("\nkeda:\n")[2].partition("\n\n")[0]
    values = {name: int(value) for name, value in re.findall(r"^  (\w+): (\d+)$", block, re.MULTILINE)}
    return Settings(
        values["minReplicas"], values["maxReplicas"], values["queueLength"], values["cooldownSeconds"]
    )  # fmt: skip


def variants() -> dict[str, Settings]:
    """Return the settings that are compared, by what differs from the chart's."""
    chart = chart_settings()
    return {
        "the chart's": chart,
        "`cooldownSeconds` 300": replace(chart, cooldown_s=300),
        "`cooldownSeconds` 3600": replace(chart, cooldown_s=3600),
        "`maxReplicas` 1": replace(chart, max_replicas=1),
        "`queueLength` 1": replace(chart, queue_length=1),
        "stores outlive pods": replace(chart, stores_kept=True),
        "stores outlive pods, `cooldownSeconds` 3600": replace(chart, stores_kept=True, cooldown_s=3600),
        "`minReplicas` 1": replace(chart, min_replicas=1),
    }


def table(results: list[dict[str, Any]]) -> str:
    """Return the rows of `docs/operations.md`."""
    lines = [
        "| settings | first answer of a session, median / 95 % | others | long tasks | over 10 s | pods, mean / peak | GB asked at peak / used | $ an hour |",  # noqa: E501 a table
        "|---|---|---|---|---|---|---|---|",
    ]
    for result in results:
        f = result["figures"]
        spans = [f"{f[k + '_median_s']:,.1f} / {f[k + '_p95_s']:,.1f} s" for k in ("first", "short", "long")]
        lines.append(
            f"| {result['case']} | {' | '.join(spans)} | {f['over_10_s']:.1%} | {f['mean_pods']:,.0f} / "
            f"{f['peak_pods']:,.0f} | {f['asked_gb_peak']:,.0f} / {f['used_gb_mean']:,.0f} | {f['usd_per_hour']:,.1f} |"
        )
    return "\n".join(lines)


def run(*, quick: bool, only: str = "") -> None:
    """Simulate a day of 1,000 experiments and 5,000 users, or a tenth of them if `quick`, with each of the settings."""
    times, share = Times.measured(), 10 if quick else 1
    started, results = time.strftime("%Y-%m-%dT%H:%M:%S%z"), []
    for name, settings in variants().items():
        if only in ("", "ours") or only in name:
            figures = simulate(settings, times, experiments=1000 // share, users=5000 // share)
            results.append({"case": name, "settings": asdict(settings), "figures": figures})
            print(name, figures, flush=True)
    print(table(results))
    if only:
        return
    stem = "fleet-quick" if quick else "fleet"
    (RESULTS / f"{stem}.json").write_text(json.dumps(results, indent=1) + "\n")
    meta = {
        "started": started,
        "machine": machine(),
        "experiments": 1000 // share,
        "users": 5000 // share,
        "assumed": asdict(Assumed()),
        "measured": asdict(times),
    }
    (RESULTS / f"{stem}.meta.json").write_text(json.dumps(meta, indent=1) + "\n")
    if not quick:
        text = OPERATIONS.read_text()
        before, _, rest = text.partition("<!-- fleet -->\n")
        after = rest.partition("<!-- end -->")[2]
        OPERATIONS.write_text(f"{before}<!-- fleet -->\n{table(results)}\n<!-- end -->{after}")
