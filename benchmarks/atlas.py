"""Benchmark "atlas": 1.2 million cells and 2.2 thousand million values, more than 32 bits count, every task once.

The file is that of `atlas_data`, counts in X, compressed; 20,000 genes, 1,850 of them in each cell. It takes 6.5 GB of
disk and its store 25; both are removed at the end. A task that fails is left out and named in the ``.meta.json``.
Beside the figures stands how progress looked to a person: the longest silence, and how far its fraction was from the
time's.
"""

import os
import shutil
from pathlib import Path

from benchmarks.atlas_data import GENES, Atlas, made
from benchmarks.harness import Case, Command, pick, python, run_cases
from benchmarks.large_tasks import LOUVAIN, OPEN, RESTART, TASKS, TSNE

__all__ = ["run"]

FULL, QUICK = Atlas(1_200_000, 1_850, as_analysed=False), Atlas(100_000, 1_850, as_analysed=False)
LEFT_OUT = frozenset({LOUVAIN, TSNE})
"""They take hours; `growth` says how they grow."""
LIMIT_S = 6 * 3600
KEEP = bool(os.environ.get("BENCH_KEEP"))
"""Whether file and store stay, for another look."""


def run(*, quick: bool, only: str = "") -> None:
    """Measure everything, with 100,000 cells if `quick`."""
    atlas = QUICK if quick else FULL
    data = Path(os.environ.get("BENCH_DATA", Path.home() / ".cache/cellworker-bench"))
    folder = made(data, atlas)
    store = folder / "work" / "store"
    about = {"cells": atlas.cells, "genes": GENES, "values": atlas.values, "beyond_32_bits": atlas.values > 2**31}
    about["file_bytes"] = (folder / "r.h5ad").stat().st_size
    environment = {"LOAD_TIMEOUT_S": "7200"}
    cases = [
        Case(
            f"{name}; {atlas.cells:,} cells",
            Command(python("benchmarks.large_tasks:measure", folder, store, name), environment, limit_s=LIMIT_S),
            repeats=1,
        )
        for name in (OPEN, RESTART, *TASKS)
        if name not in LEFT_OUT
    ]
    run_cases("atlas-quick" if quick else "atlas", pick(cases, only), about, write=not only, go_on=True)
    if not only and not KEEP:
        shutil.rmtree(folder)
