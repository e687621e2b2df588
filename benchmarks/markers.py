"""Benchmark "markers": rank tests, markers, batches and dot plots on an open store; the cost of its sorted side.

Groups are drawn at random with unequal sizes: the time of a rank test does not depend on what the groups mean. Every
case holds its data in memory before the clock starts; two threads for everyone.
"""

# ruff: noqa: ARG001, PLC0415 - every case is a process of its own: it pays for its own imports, and all are called alike

import json
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.generate import FULL, QUICK, experiment
from benchmarks.harness import Bar, Case, Command, python, run_cases, timed
from benchmarks.opening import ensure_columns, open_once

__all__ = ["run"]

HERE, PEERS = "benchmarks.markers", "benchmarks.marker_peers"
THREADS = 2
REPEATS = {"ours": 5}


def run(*, quick: bool, only: str = "") -> None:
    """Measure 20,000 x 20,000, and, unless `quick`, 100,000 x 30,000 too."""
    sizes = [(QUICK, 20, True)] if quick else [(QUICK, 20, True), (FULL, 30, False)]
    with tempfile.TemporaryDirectory(prefix="bench-markers-") as name:
        cases, about = [], {}
        for size, clusters, with_scanpy in sizes:
            folder = experiment(size)
            facts = json.loads((folder / "about.json").read_text())
            about[size.name] = facts
            store = open_once(folder, Path(name) / size.name)
            columns = ensure_columns(folder, store)
            cases += _cases(facts, store, columns, clusters, with_scanpy=with_scanpy)
        chosen = [case for case in cases if only in case.name]
        run_cases("markers-quick" if quick else "markers", chosen, about, write=not only)


def _cases(facts: dict, store: Path, columns: Path, clusters: int, *, with_scanpy: bool) -> list[Case]:
    what = f"{facts['cells'] // 1000}k cells, {facts['nonzeros'] / 1e6:.0f} M values"
    limit = 5e-9 * facts["nonzeros"]
    repeats = 3 if with_scanpy else 1  # the large one takes its peers minutes

    def peers(task: str, *names: str) -> dict[str, Command]:
        return {name: Command(python(f"{PEERS}:{task}_{name}", columns, clusters)) for name in names}

    def ours(task: str) -> Command:
        return Command(python(f"{HERE}:{task}", store, clusters))

    scanpy = [
        Case(f"{name}, beside scanpy; {what}", ours(task), peers(task, "scanpy"), repeats=1)
        for name, task in (("two cell sets", "two_sets"), (f"markers of {clusters} clusters", "markers"))
        if with_scanpy  # it takes an hour of CPU for the large one
    ]
    return [
        Case(f"two cell sets; {what}", ours("two_sets"), peers("two_sets", "illico", "scranpy"), repeats=repeats),
        Case(
            f"markers of {clusters} clusters; {what}",
            ours("markers"),
            peers("markers", "illico", "scranpy"),
            repeats=repeats,
            bars=[Bar("cpu_s", limit, "at most 5 ns per non-zero and core")],
        ),
        *scanpy,
        Case(f"batch, 20 clusters against the rest; {what}", ours("batch"), peers("batch", "illico"), repeats=repeats),
        Case(f"batch, 20 unrelated pairs; {what}", ours("pairs"), peers("pairs", "illico"), repeats=1),
        Case(f"dot plot, 3 markers of {clusters} clusters; {what}", ours("dots"), peers("dots", "scanpy")),
        Case(
            f"sorted side built; {what}",
            ours("build"),
            bars=[Bar("cpu_s", 15e-9 * facts["nonzeros"], "at most 15 ns per non-zero")],
        ),
    ]


def labels(n_cells: int, clusters: int) -> np.ndarray:
    """Cluster numbers of unequal sizes, the same for everyone."""
    random = np.random.default_rng(11)
    share = random.dirichlet(np.full(clusters, 2.0))
    return random.choice(clusters, n_cells, p=share)


def pair_labels(n_cells: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Twenty pairs of cell sets that have nothing to do with each other."""
    random = np.random.default_rng(12)
    out = []
    for _ in range(20):
        drawn = random.permutation(n_cells)[: n_cells // 5]
        out.append((np.sort(drawn[: len(drawn) // 3]), np.sort(drawn[len(drawn) // 3 :])))
    return out


def _data(store: str):
    from cellworker.experiment.store import open_store

    experiment_ = open_store(Path(store))
    data = experiment_.data
    # the pages are in memory, as they are behind an engine that serves the experiment
    float(data.values.sum()), int(data.cells.max())
    return (data.indptr, data.cells, data.values), experiment_.n_cells, experiment_


def _clock(work) -> None:
    work()
    with timed(REPEATS["ours"]):
        for _ in range(REPEATS["ours"]):
            work()


def two_sets(store: str, clusters: str) -> None:
    from cellworker.analysis.rank_tests import benjamini_hochberg, pair_tests

    data, n, _ = _data(store)
    pair = pair_labels(n)[0]
    _clock(lambda: benjamini_hochberg(pair_tests(data, [pair], n, threads=THREADS)[0].p))


def markers(store: str, clusters: str) -> None:
    from cellworker.analysis.groups import Groups
    from cellworker.analysis.markers import top_markers
    from cellworker.analysis.rank_tests import rank_tests

    data, n, _ = _data(store)
    label = labels(n, int(clusters))

    def work() -> None:
        groups = Groups.from_sets([np.flatnonzero(label == k) for k in range(int(clusters))], n)
        top_markers(rank_tests(data, groups, threads=THREADS), 5)

    _clock(work)


def batch(store: str, clusters: str) -> None:
    from cellworker.analysis.rank_tests import pair_tests

    data, n, _ = _data(store)
    label = labels(n, 20)
    _clock(
        lambda: pair_tests(
            data, [(np.flatnonzero(label == k), np.flatnonzero(label != k)) for k in range(20)], n, threads=THREADS
        )
    )


def pairs(store: str, clusters: str) -> None:
    from cellworker.analysis.rank_tests import pair_tests

    data, n, _ = _data(store)
    chosen = pair_labels(n)
    _clock(lambda: pair_tests(data, chosen, n, threads=THREADS))


def dots(store: str, clusters: str) -> None:
    from cellworker.analysis.dots import expm1_means, scale_dots
    from cellworker.analysis.groups import Groups

    data, n, _ = _data(store)
    label = labels(n, int(clusters))
    genes = np.linspace(0, len(data[0]) - 2, 3 * int(clusters)).astype(np.int64)

    def work() -> None:
        groups = Groups.from_sets([np.flatnonzero(label == k) for k in range(int(clusters))], n)
        scale_dots(expm1_means(data, groups, genes)[0])

    _clock(work)


def build(store: str, clusters: str) -> None:
    """Gather and sort gene after gene, as the store's writer does, from memory to memory."""
    from cellworker.analysis.sorting import GeneSorter

    _, _, experiment_ = _data(store)
    by_cell = experiment_.data_by_cell
    float(by_cell.values.sum())
    bounds = np.concatenate([[0], np.cumsum(np.bincount(by_cell.genes, minlength=by_cell.n_genes))]).astype(np.int64)
    cells, values = np.zeros(bounds[-1], np.int32), np.zeros(bounds[-1], np.float32)
    cuts = np.unique(np.searchsorted(bounds, np.arange(0, bounds[-1] + (1 << 23), 1 << 23)).clip(0, by_cell.n_genes))
    with timed():
        sorter = GeneSorter((by_cell.indptr, by_cell.genes, by_cell.values), bounds)
        sorter.seek(0)
        for start, stop in zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True):
            cells[bounds[start] : bounds[stop]], values[bounds[start] : bounds[stop]] = sorter.until(stop)
