"""What the benchmarks "growth" and "atlas" do with a large experiment, each in a process of its own."""

# ruff: noqa: PLC0415 - every case is a process of its own and pays for what it imports, and for nothing else

import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.footprint import allocated
from benchmarks.harness import timed

__all__ = ["COLUMNS", "LEIDEN", "LONG", "LOUVAIN", "OPEN", "RESTART", "TASKS", "TSNE", "measure"]

OPEN, RESTART = "cold open", "restart"
LEIDEN, LOUVAIN, TSNE = "clusters, Leiden", "clusters, Louvain's ten starts", "t-SNE"
COLUMNS = "ten dense genes, as typed columns"
REPEATS = 5
"""Of what takes well under a second, after a first time; everything else is done once."""
SHORT_S = 5
"""What takes longer the first time, mostly to read the disk, is repeated once."""
SAMPLE_S = 0.25
_PLACES = {"minimumDistance": 0.3, "distanceMetric": "cosine"}
Request = tuple[str, dict[str, Any]]

TASKS: Mapping[str, Callable[[list[str]], Request]] = {
    "ten dense genes, to compressed bytes": lambda genes: ("GeneExpression", {"genes": genes}),
    COLUMNS: lambda genes: ("GeneExpression", {"genes": genes}),
    "two sets: a cluster against the rest": lambda _: (
        "DifferentialExpression",
        {"cellSet": "louvain-0", "compareWith": "rest", "basis": "all"},
    ),
    "markers of 30 clusters": lambda _: ("MarkerHeatmap", {"nGenes": 5, "selectedCellSet": "louvain"}),
    "pseudobulk between samples": lambda _: (
        "DifferentialExpression",
        {
            "cellSet": "condition-1",
            "compareWith": "condition-0",
            "basis": "all",
            "comparisonType": "between",
        },
    ),
    "dot plot of ten genes": lambda genes: ("DotPlot", {"groupBy": "louvain", "customGenesList": genes}),
    "cell set from two genes": lambda genes: (
        "GetExpressionCellSets",
        {
            "genesConfig": [
                {"geneName": gene, "comparisonType": "greaterThan", "thresholdValue": 1.5} for gene in genes[:2]
            ]
        },
    ),
    LEIDEN: lambda _: ("ClusterCells", {"type": "leiden", "config": {"resolution": 0.8}}),
    LOUVAIN: lambda _: ("ClusterCells", {"type": "louvain", "config": {"resolution": 0.8}}),
    "UMAP": lambda _: ("GetEmbedding", {"type": "umap", "config": _PLACES}),
    TSNE: lambda _: ("GetEmbedding", {"type": "tsne", "config": {"perplexity": 30, "learningRate": 200}}),
    "trajectory": lambda _: (
        "GetTrajectoryAnalysisStartingNodes",
        {
            "embedding": {"method": "umap", "methodSettings": _PLACES},
            "clustering": {"method": "louvain"},
            "cellSets": ["louvain"],
        },
    ),
    "CSV of one cluster": lambda _: ("GetNormalizedExpression", {"subsetBy": {"louvain": ["louvain-0"]}}),
    "annotated h5ad": lambda _: (
        "DownloadAnnotSeuratObject",
        {"embeddingMethod": "umap", "isObj2s": True, "format": "h5ad"},
    ),
}
"""The request of each operation, made of the names of ten genes that most cells express."""
LONG = frozenset({LEIDEN, LOUVAIN, "UMAP", TSNE, "trajectory", "CSV of one cluster", "annotated h5ad"})
_FILES = frozenset({"CSV of one cluster", "annotated h5ad"})


class Events:
    """The progress that a person sees, and when: how long it was silent, how far from even."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Forget what was told, and count from now on."""
        self._start = time.perf_counter()
        self._told: list[tuple[float, float | None, str]] = []

    def __call__(self, stage: str, fraction: float | None = None, /) -> None:
        self._told.append((time.perf_counter() - self._start, fraction, stage))

    def facts(self) -> dict[str, object]:
        """Return the longest silence, after which stage it was, and by how much the fraction was off the time's."""
        end = time.perf_counter() - self._start
        times = np.array([0.0, *(at for at, _, _ in self._told), end])
        stages = ["the start", *(stage for _, _, stage in self._told)]
        gaps = np.diff(times)
        off = [abs(part - at / end) for at, part, _ in self._told if part is not None]
        return {
            "events": len(self._told),
            "longest_silence_s": round(float(gaps.max()), 2),
            "silent_after": f"{stages[int(gaps.argmax())]}, {times[int(gaps.argmax())] / end:.0%} of the time",
            "silences_over_a_second": int((gaps > 1).sum()),
            "fraction_off_by_at_most": round(max(off, default=1.0), 3),
        }


@contextmanager
def _watched(folder: Path, details: dict[str, object]) -> Iterator[None]:
    """Tell the largest sum of what a folder held."""
    peak, over = [0], threading.Event()

    def watch() -> None:
        while not over.wait(SAMPLE_S):
            peak[0] = max(peak[0], allocated(folder))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
        details["peak_disk_mb"] = max(peak[0], allocated(folder)) / 1e6


def measure(folder: str, store_dir: str, operation: str) -> None:
    """Do one operation; report what it took, and how its progress looked."""
    from cellworker.settings import Settings

    settings = Settings.from_environment(store_dir=Path(store_dir))
    load = os.getloadavg()[0]
    if operation == OPEN:
        found = _open(Path(folder), settings)
    elif operation == RESTART:
        found = _restart(Path(folder), settings)
    elif operation in LONG:
        found = _long(folder, settings, operation)
    else:
        found = _short(folder, settings, operation)
    found["load"] = [round(load, 1), round(os.getloadavg()[0], 1)]


def _open(folder: Path, settings) -> dict[str, object]:
    from cellworker.formats.opening.open import open_experiment

    events = Events()
    with timed() as details, _watched(settings.store_dir, details):
        opened = open_experiment(folder, settings, events)
    size = opened.store.stat().st_size
    details |= events.facts()
    details |= {"store_mb": size / 1e6, "bytes_per_value": size / opened.experiment.data_summary.kept}
    return details


def _restart(folder: Path, settings) -> dict[str, object]:
    from cellworker.formats.opening.open import open_experiment

    open_experiment(folder, settings)
    with timed(REPEATS) as details:
        for _ in range(REPEATS):
            opened = open_experiment(folder, settings)
            opened.experiment.data.gene(17)
            opened.cell_sets.find_class("louvain")
    return details


def _dense_genes(experiment) -> list[str]:
    sizes = np.diff(np.asarray(experiment.data.indptr))
    return [experiment.genes.names[k] for k in np.argsort(-sizes, kind="stable")[:10].tolist()]


def _short(folder: str, settings, operation: str) -> dict[str, object]:
    from cellworker.api.experiment import open_experiment
    from cellworker.protocol.encoding import compress
    from cellworker.tasks import catalog, steps

    with open_experiment(folder, settings) as opened:
        task, body = TASKS[operation](_dense_genes(opened.experiment))
        context = opened.context(lambda *_: None, Path())

        def work() -> bytes:
            if operation == COLUMNS:
                found = catalog.find(task)
                return steps.compute(found, found.request(**body), opened.experiment, context, columns=True)
            answer = opened.run_raw(task, **body)
            return compress(answer) if task == "GeneExpression" else answer

        first = time.perf_counter(), time.process_time()
        work()
        facts = {
            "first_time_wall_s": round(time.perf_counter() - first[0], 4),
            "first_time_cpu_s": round(time.process_time() - first[1], 4),
        }
        repeats = REPEATS if facts["first_time_wall_s"] < SHORT_S else 1
        with timed(repeats) as details:
            for _ in range(repeats):
                answer = work()
        details |= facts | {"answer_mb": len(answer) / 1e6}
    return details


def _long(folder: str, settings, operation: str) -> dict[str, object]:
    from cellworker.api.experiment import open_experiment

    with tempfile.TemporaryDirectory(dir=settings.store_dir.parent, prefix="scratch-") as scratch:
        tempfile.tempdir = scratch
        events = Events()
        with open_experiment(folder, settings, events) as opened:
            task, body = TASKS[operation](_dense_genes(opened.experiment))
            events.begin()
            with timed() as details, _watched(Path(scratch), details):
                answer = (opened.call if operation in _FILES else opened.run_raw)(task, **body)
            details |= events.facts()
            size = answer.stat().st_size if isinstance(answer, Path) else len(answer)
            details["answer_mb"] = size / 1e6
        tempfile.tempdir = None
    return details
