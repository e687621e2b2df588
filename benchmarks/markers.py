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
from benchmarks.harness import Bar, Case, Command, pick, python, run_cases, timed
from benchmarks.opening import ensure_columns, open_once

__all__ = ["run"]

HERE, PEERS = "benchmarks.markers", "benchmarks.marker_peers"
THREADS = 2
REPEATS = 5


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
        chosen = pick(cases, only)
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
    from cellworker.experiment.store.store import open_store

    experiment_ = open_store(Path(store))
    data = experiment_.data
    # the pages are in memory, as they are behind an engine that serves the experiment
    float(data.values.sum()), int(data.cells.max())
    return (data.indptr, data.cells, data.values), experiment_.n_cells, experiment_


def _clock(work, repeats: int = REPEATS) -> None:
    work()
    with timed(repeats):
        for _ in range(repeats):
            work()


def _sets(n_cells: int, clusters: int) -> list[np.ndarray]:
    """Rows of each cluster: a request names its cells, as an annotated matrix of the peers names its groups."""
    label = labels(n_cells, clusters)
    return [np.flatnonzero(label == k) for k in range(clusters)]


def two_sets(store: str, clusters: str) -> None:
    from cellworker.analysis.statistics.rank_tests import pair_tests

    data, n, _ = _data(store)
    pair = pair_labels(n)[0]

    def work() -> None:
        pair_tests(data, [pair], n, threads=THREADS)[0].p_values.adjusted_values()

    _clock(work)


def markers(store: str, clusters: str) -> None:
    from cellworker.analysis.statistics.markers import find_markers

    data, n, _ = _data(store)
    sets = _sets(n, int(clusters))

    def work() -> None:
        find_markers(data, sets, n, 5, threads=THREADS)

    _clock(work)


def batch(store: str, clusters: str) -> None:
    from cellworker.analysis.statistics.rank_tests import pair_tests

    data, n, _ = _data(store)
    sets = _sets(n, 20)
    chosen = [(members, np.setdiff1d(np.arange(n), members, assume_unique=True)) for members in sets]
    _clock(lambda: [tests.p_values for tests in pair_tests(data, chosen, n, threads=THREADS)])


def pairs(store: str, clusters: str) -> None:
    from cellworker.analysis.statistics.rank_tests import pair_tests

    data, n, _ = _data(store)
    chosen = pair_labels(n)
    _clock(lambda: [tests.p_values for tests in pair_tests(data, chosen, n, threads=THREADS)])


def dots(store: str, clusters: str) -> None:
    from cellworker.analysis.statistics.dots import expm1_means, scale_dots
    from cellworker.analysis.statistics.groups import Groups

    data, n, _ = _data(store)
    sets = _sets(n, int(clusters))
    genes = np.linspace(0, len(data[0]) - 2, 3 * int(clusters)).astype(np.int64)

    def work() -> None:
        scale_dots(expm1_means(data, Groups.from_sets(sets, n), genes, threads=THREADS)[0])

    _clock(work, 20 * REPEATS)


def build(store: str, clusters: str) -> None:
    """Gather and sort block after block, as the store's writer does; the benchmark "open" counts its writing too."""
    from cellworker.analysis.matrices.gene_sorter import GeneSorter
    from cellworker.experiment.store.blocks import cut

    _, n, experiment_ = _data(store)
    by_cell = experiment_.data_by_cell
    values = np.asarray(by_cell.values)
    float(values.sum()), int(by_cell.genes.max())
    bounds = np.concatenate([[0], np.cumsum(np.bincount(by_cell.genes, minlength=by_cell.n_genes))]).astype(np.int64)
    blocks = cut(bounds, max(1 << 21, 48 * n))
    with timed():
        sorter = GeneSorter((by_cell.indptr, by_cell.genes, values), bounds)
        sorter.seek(0)
        for _, stop in blocks:
            sorter.until(stop)
