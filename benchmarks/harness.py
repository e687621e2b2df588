"""Measures every case in a fresh process, ours and the peers' by turns, CPU time and memory from outside.

CPU time is what counts (user and system, children included): it depends least on what else the machine does. For the
same reason the limit of a run is CPU time too, and the kernel keeps it (`RLIMIT_CPU`, of each process of a case). A
peer that reaches it is not dropped: it is said to use more than that. Memory is the peak of the private (anonymous)
memory of all processes of a case together, so that mapped files, which the system may drop at any time, are not held
against anyone. It is read from /proc every 20 ms; where there is no /proc it is the largest resident set of a single
process.
"""

import atexit
import json
import math
import os
import platform
import resource
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

__all__ = [
    "RESULTS",
    "Bar",
    "Case",
    "Command",
    "Usage",
    "cpu_of_tree",
    "descendants",
    "machine",
    "memory_mb",
    "pick",
    "python",
    "report",
    "run_cases",
    "say",
    "timed",
]

RESULTS = Path(__file__).with_name("results")
SAMPLE_S = 0.02
MARK = "benchmark-usage "
MARK_BEGUN = "benchmark-clock-starts"
LIMIT_VARIABLE = "BENCH_LIMIT_CPU_S"  # tells `timed` in a case's process the limit of what it measures
HANGS_AFTER = 30  # times the limit, by the clock: a process that waits for nothing uses no CPU and would stay for ever


@dataclass(frozen=True)
class Usage:
    """Seconds and megabytes (1e6 bytes)."""

    cpu_s: float
    wall_s: float
    peak_mb: float
    beyond: bool = False
    """Cut off at its limit of CPU time: it uses more than `cpu_s`."""


@dataclass(frozen=True)
class Command:
    """A program to run; its output after `MARK` counts where it measures itself (see `timed`)."""

    arguments: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    prepare: Callable[[], object] = lambda: None
    """Called before each run, outside the measure."""
    limit_s: int = 600
    """Max CPU seconds of a run; where it measures itself, of what is before its clock starts, and of the rest."""
    warm_up_s: int = 0
    """CPU seconds more before its clock starts, where a peer compiles there for example; it is not repeated then."""


@dataclass(frozen=True)
class Bar:
    """A goal: the figure `of` ("cpu_s", "wall_s", "peak_mb") is `at_most` a number, or that many times a peer's."""

    of: str
    at_most: float
    text: str
    times_peer: str = ""

    def limit(self, peers: Mapping[str, Usage]) -> float | None:
        """Return the limit, None where the peer was not measured."""
        if not self.times_peer:
            return self.at_most
        peer = peers.get(self.times_peer)
        return None if peer is None else self.at_most * getattr(peer, self.of)

    def verdict(self, ours: Usage, peers: Mapping[str, Usage]) -> dict[str, object] | None:
        """Return what was found and whether the goal is met."""
        limit = self.limit(peers)
        found = getattr(ours, self.of)
        peer = peers.get(self.times_peer)
        if limit is None or (peer is not None and peer.beyond and (self.of != "cpu_s" or found > limit)):
            return None
        return {"bar": self.text, "of": self.of, "limit": _short(limit), "found": _short(found), "met": found <= limit}


@dataclass(frozen=True)
class Case:
    """One line of the table."""

    name: str
    ours: Command
    peers: Mapping[str, Command] = field(default_factory=dict)
    repeats: int = 3
    bars: Sequence[Bar] = ()


Row = tuple[Case, Usage, Mapping[str, Usage]]
Conclude = Callable[[Mapping[str, Usage]], Mapping[str, object]]


def python(function: str, *arguments: object) -> list[str]:
    """Command line that calls ``module:function`` with the arguments, as text, in a fresh interpreter."""
    module, name = function.split(":")
    code = f"import sys; from {module} import {name}; {name}(*sys.argv[1:])"
    return [sys.executable, "-c", code, *map(str, arguments)]


def pick(cases: Sequence[Case], only: str) -> list[Case]:
    """Return the cases whose name holds a text; of "ours" all, once and without peers."""
    if only == "ours":
        return [replace(case, peers={}, repeats=1) for case in cases]
    return [case for case in cases if only in case.name]


@contextmanager
def timed(repeats: int = 1):
    """In a case's own process: count only what happens inside, divided by `repeats`; the limit counts from here.

    What is put into the dict that the block is given, until the process ends, is shown and goes to the ``.meta.json``.
    """
    details: dict[str, object] = {}
    if limit := int(os.environ.get(LIMIT_VARIABLE, "0")):
        _limit_cpu(math.ceil(time.process_time()) + limit * repeats)
    print(MARK_BEGUN, flush=True)
    cpu, wall = _own_cpu(), time.perf_counter()
    yield details
    wall, cpu = time.perf_counter() - wall, _own_cpu() - cpu
    _limit_cpu(resource.RLIM_INFINITY)  # the quality of the result is measured without one
    atexit.register(say, {"cpu_s": cpu / repeats, "wall_s": wall / repeats}, details)


def _limit_cpu(seconds: int) -> None:
    """Let the kernel end this process when it has used this much CPU time since its start."""
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, resource.RLIM_INFINITY))


def say(usage: Mapping[str, float], details: Mapping[str, object] | None = None) -> None:
    """In a case's own process: report figures that the harness takes instead of its own."""
    print(MARK + json.dumps({"usage": dict(usage), "details": dict(details or {})}), flush=True)


def _own_cpu() -> float:
    """CPU seconds of this process and all its descendants; what still lives, as the process that forks readers, too."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    living = sum(_ticks(one) for one in descendants(os.getpid()))
    return time.process_time() + ended.ru_utime + ended.ru_stime + living


def run_cases(
    name: str,
    cases: Sequence[Case],
    about: Mapping[str, object],
    *,
    write: bool = True,
    go_on: bool = False,
    conclude: Conclude = lambda _: {},
) -> None:
    """Measure all cases, print the table, write ``results/<name>.json`` and ``<name>.meta.json``.

    Parameters
    ----------
    name, cases, about
        Of the results, what to measure, facts of the data.
    write
        Whether the files are written.
    go_on
        Whether a case of ours that fails is left out, like a peer's; else it ends the run. With ``BENCH_RESUME=1`` such
        a run continues one that was interrupted: cases that the files hold, of the same data, are not measured again.
    conclude
        Makes more fields of the meta file from our usage by case.
    """
    details: dict[str, Mapping[str, object]] = {}
    left_out: dict[str, str] = {}
    started = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    run = {"started": started, "load_before": os.getloadavg(), "about": dict(about), "conclude": conclude}
    known = _earlier(name, about, details) if go_on and os.environ.get("BENCH_RESUME") else {}
    rows: list[Row] = []
    for case in cases:
        if case.name in known:
            rows.append((case, known[case.name], {}))
            continue
        try:
            rows.append((case, *_measure(case, details, left_out)))
        except RuntimeError as error:
            if not go_on:
                raise
            print(f"  {case.name}: failed: {error}", file=sys.stderr)
            left_out[case.name] = str(error)
        else:
            report([rows[-1]], details)
        if write:  # after each case: one that is stopped loses nothing
            _write(name, rows, run, details, left_out)


def _earlier(name: str, about: Mapping[str, object], details: dict[str, Mapping[str, object]]) -> Mapping[str, Usage]:
    """Return our usage by case of an interrupted run on the same data, and take over what was told beside it."""
    try:
        meta = json.loads((RESULTS / f"{name}.meta.json").read_text())
        entries = json.loads((RESULTS / f"{name}.json").read_text())
    except FileNotFoundError:
        return {}
    if meta["about"] != json.loads(json.dumps(dict(about))):
        return {}
    details |= meta["details"]
    return {entry["case"]: Usage(**entry["ours"]) for entry in entries}


def _write(
    name: str,
    rows: Sequence[Row],
    run: Mapping[str, Any],
    details: Mapping[str, object],
    left_out: Mapping[str, str],
) -> None:
    RESULTS.mkdir(exist_ok=True)
    results = [_entry(case, ours, peers) for case, ours, peers in rows]
    (RESULTS / f"{name}.json").write_text(json.dumps(results, indent=1) + "\n")
    meta = {
        "started": run["started"],
        "machine": machine() | {"load_before": run["load_before"], "load_after": os.getloadavg()},
        "about": run["about"],
        "details": details,
        "left_out": left_out,
        "bars": [
            {"case": case.name, **verdict}
            for case, ours, peers in rows
            for bar in case.bars
            if (verdict := bar.verdict(ours, peers))
        ],
        **run["conclude"]({case.name: ours for case, ours, _ in rows}),
    }
    (RESULTS / f"{name}.meta.json").write_text(json.dumps(meta, indent=1) + "\n")


def _measure(
    case: Case, details: dict[str, Mapping[str, object]], left_out: dict[str, str]
) -> tuple[Usage, dict[str, Usage]]:
    found: dict[str, list[Usage]] = {key: [] for key in ("", *case.peers)}
    failed: set[str] = set()
    over: set[str] = set()
    for turn in range(case.repeats):
        for key, command in {"": case.ours, **case.peers}.items():
            if key in failed | over or (turn and command.warm_up_s):
                continue
            try:
                usage, said = _run(command)
            except RuntimeError as error:
                if not key:
                    raise
                print(f"  {case.name}: {key} failed and is left out: {error}", file=sys.stderr)
                left_out[f"{case.name}: {key}"] = str(error)
                failed.add(key)
                continue
            found[key].append(usage)
            if usage.beyond:
                if not key:
                    message = f"{case.name}: ours used more than {usage.cpu_s:g} CPU s"
                    raise RuntimeError(message)
                found[key] = [usage]
                over.add(key)
            if said:
                details[f"{case.name}: {key or 'cellworker'}"] = said
    medians = {key: _median(usages) for key, usages in found.items() if key not in failed}
    return medians.pop(""), medians


def _median(usages: list[Usage]) -> Usage:
    figures = (statistics.median(getattr(u, name) for u in usages) for name in ("cpu_s", "wall_s", "peak_mb"))
    return Usage(*figures, beyond=any(u.beyond for u in usages))


def _run(command: Command) -> tuple[Usage, dict[str, object]]:
    command.prepare()
    most_s = command.limit_s + command.warm_up_s
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        start = time.perf_counter()
        process = subprocess.Popen(
            list(command.arguments),
            stdout=output,
            stderr=errors,
            env={**os.environ, LIMIT_VARIABLE: str(command.limit_s), **command.environment},
            preexec_fn=lambda: _limit_cpu(most_s),  # noqa: PLW1509 no other thread runs at this moment
        )
        sampler = _Sampler(process.pid)
        late = threading.Event()

        def cut_off() -> None:
            late.set()
            process.kill()

        watchdog = threading.Timer(HANGS_AFTER * most_s, cut_off)
        watchdog.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
        finally:
            watchdog.cancel()
            peak = sampler.stop()
        process.returncode = os.waitstatus_to_exitcode(status)
        wall = time.perf_counter() - start
        output.seek(0)
        errors.seek(0)
        text = output.read().decode(errors="replace")
        if process.returncode == -signal.SIGXCPU:
            if command.warm_up_s and MARK_BEGUN not in text.splitlines():
                message = f"used {most_s} CPU s before its clock started"
                raise RuntimeError(message)
            return Usage(command.limit_s, wall, peak, beyond=True), {}
        if process.returncode != 0 and late.is_set():
            message = f"hung: cut off after {HANGS_AFTER * most_s:g} s by the clock"
            raise RuntimeError(message)
        if process.returncode != 0:
            message = f"exit status {process.returncode}: {errors.read().decode(errors='replace')[-600:]}"
            raise RuntimeError(message)
    if peak == 0:
        peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6
    measured = {"cpu_s": usage.ru_utime + usage.ru_stime, "wall_s": wall, "peak_mb": peak}
    own = [json.loads(line[len(MARK) :]) for line in text.splitlines() if line.startswith(MARK)]
    return (Usage(**{**measured, **own[-1]["usage"]}), own[-1]["details"]) if own else (Usage(**measured), {})


class _Sampler:
    """Watches the private memory of a process and its descendants."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._peak = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._over.wait(SAMPLE_S):
            self._peak = max(self._peak, memory_mb(self._pid))

    def stop(self) -> float:
        self._over.set()
        self._thread.join()
        return self._peak


def memory_mb(pid: int) -> float:
    """Anonymous and shared-memory pages of a process and all its descendants, in MB; 0 where that cannot be read."""
    total = 0
    for one in (pid, *descendants(pid)):
        try:
            status = Path(f"/proc/{one}/status").read_text()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in status.splitlines() if line.startswith(("RssAnon", "RssShmem")))
    return total * 1024 / 1e6


def cpu_of_tree(pid: int) -> float:
    """CPU seconds of a process, its living descendants, and the ended ones that were waited for."""
    return sum(_ticks(one) for one in (pid, *descendants(pid)))


def _ticks(pid: int) -> float:
    """CPU seconds of a process and of its children that were waited for; 0 of one that ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def descendants(pid: int) -> list[int]:
    """Process ids of all living descendants."""
    found = []
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += [int(child), *descendants(int(child))]
    except OSError:
        pass
    return found


def _entry(case: Case, ours: Usage, peers: Mapping[str, Usage]) -> dict[str, object]:
    fastest = min((peer.cpu_s for peer in peers.values()), default=None)
    ratio = None if fastest is None else round(fastest / max(ours.cpu_s, 1e-9), 3)
    rounded = {key: _rounded(usage) for key, usage in peers.items()}
    return {"case": case.name, "ours": _rounded(ours), "peers": rounded, "ratio": ratio}


def _rounded(usage: Usage) -> dict[str, float]:
    """Return the figures of a run; of one that was cut off its limit, as `more_than_cpu_s`."""
    if usage.beyond:
        return {"more_than_cpu_s": _short(usage.cpu_s)}
    return {key: _short(value) for key, value in asdict(usage).items() if key != "beyond"}


def _short(value: float) -> float:
    return float(f"{value:.4g}")


def report(rows: Sequence[Row], details: Mapping[str, Mapping[str, object]]) -> None:
    """Print measured cases, and beside each figure the numbers that its process told."""
    for case, ours, peers in rows:
        print(f"\n{case.name}  (median of {case.repeats})")
        print(f"  {'':<28}{'CPU s':>10}{'wall s':>10}{'peak MB':>10}{'CPU ratio':>11}")
        for key, usage in {"cellworker": ours, **peers}.items():
            told = _told(details.get(f"{case.name}: {key}", {}))
            if usage.beyond:
                print(f"  {key:<28}more than {usage.cpu_s:g} CPU s")
                continue
            ratio = f"{usage.cpu_s / max(ours.cpu_s, 1e-9):.2f}"
            print(f"  {key:<28}{usage.cpu_s:>10.4g}{usage.wall_s:>10.4g}{usage.peak_mb:>10.4g}{ratio:>11}{told}")
        for verdict in filter(None, (bar.verdict(ours, peers) for bar in case.bars)):
            word = "met" if verdict["met"] else "MISSED"
            print(f"  {word}: {verdict['bar']} (found {verdict['found']:.4g}, limit {verdict['limit']:.4g})")
        sys.stdout.flush()


def _told(details: Mapping[str, object]) -> str:
    numbers = [f"{name} {value:.6g}" for name, value in details.items() if isinstance(value, int | float)]
    return "   " + ", ".join(numbers) if numbers else ""


def machine() -> dict[str, object]:
    """What was measured on."""
    model = platform.processor()
    memory = 0
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError):
        pass
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "memory_gb": round(memory / 1e9, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def free_port() -> int:
    """Return a port of this machine that nobody listens at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
