"""Benchmark "sizing": what a pod needs for a number of cells. Memory, disk and start-up time, without peers.

`docs/operations.md` shows the figures; `tests/deploy/test_sizing.py` compares the two.
"""

# ruff: noqa: PLC0415 - every case is a process of its own and pays for what it imports, and for nothing else

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.generate import Size, experiment
from benchmarks.harness import Case, Command, pick, python, run_cases
from benchmarks.opening import open_once

__all__ = ["run"]

HERE, OPENING = "benchmarks.sizing", "benchmarks.opening"
SIZES = (10_000, 50_000, 100_000)
QUICK = (1_000,)
TASKS: dict[str, dict[str, Any]] = {
    "GetEmbedding": {"type": "tsne", "config": {"perplexity": 30, "learningRate": 200}},
    "ClusterCells": {"type": "leiden", "config": {"resolution": 0.8}},
    "MarkerHeatmap": {"nGenes": 5, "selectedCellSet": "louvain"},
}
"""The tasks that use most memory: a map, clusters, and markers of all genes."""


def run(*, quick: bool, only: str = "") -> None:
    """Measure 10,000 to 100,000 cells of 30,000 genes and 2,000 values each, or 1,000 cells if `quick`."""
    cases: list[Case] = []
    about: dict[str, object] = {}
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DATA"), prefix="bench-sizing-") as name:
        for cells in QUICK if quick else SIZES:
            folder = experiment(Size(cells))
            work = Path(name) / str(cells)
            facts = json.loads((folder / "about.json").read_text())
            about[f"{cells:,} cells"] = {
                "nonzeros": facts["nonzeros"],
                "file_bytes": facts["file_bytes"],
                "store_bytes": open_once(folder, work / "warm").stat().st_size,
            }
            cases += _cases(folder, work, f"{cells:,} cells")
        run_cases("sizing-quick" if quick else "sizing", pick(cases, only), about, write=not only)


def _cases(folder: Path, work: Path, size: str) -> list[Case]:
    cold, warm = work / "cold", work / "warm"

    def clear() -> None:
        shutil.rmtree(cold, ignore_errors=True)

    return [
        Case(f"{size}: read", Command(python(f"{OPENING}:cold_open", folder, cold), prepare=clear), repeats=2),
        Case(f"{size}: engine ready", Command(python(f"{OPENING}:engine_at_rest", folder, warm, "")), repeats=2),
        *(Case(f"{size}: {task}", Command(python(f"{HERE}:compute", folder, warm, task)), repeats=1) for task in TASKS),
    ]


def compute(folder: str, store_dir: str, task: str) -> None:
    """Answer one task from a warm store."""
    from cellworker.api.experiment import open_experiment
    from cellworker.settings import Settings

    with open_experiment(folder, Settings.from_environment(store_dir=Path(store_dir))) as opened:
        opened.run_raw(task, **TASKS[task])
