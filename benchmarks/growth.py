"""Benchmark "growth": every operation at 10,000 to 500,000 cells, and the exponents with which its cost grows.

The files are those of `atlas_data`, uncompressed, with log-normalised values and counts: 20,000 genes, 980 of them
in each cell. An exponent is the slope of the least squares line through the logarithms of cells and CPU seconds; the
one from 50,000 cells on says more about large experiments, where fixed costs do not count any more. One size is on
the disk at a time, 14 GB at 500,000 cells; with another version beside (``BENCH_OLD_PYTHON``) its store too.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from benchmarks import another_version
from benchmarks.another_version import DENSE
from benchmarks.atlas_data import GENES, Atlas, made
from benchmarks.footprint import OLD, OLD_NAME
from benchmarks.growth_plot import draw
from benchmarks.harness import RESULTS, Case, Command, Usage, pick, python, run_cases
from benchmarks.large_tasks import COLUMNS, LONG, LOUVAIN, OPEN, RESTART, TASKS, TSNE

__all__ = ["exponents", "run"]

SIZES, QUICK = (10_000, 50_000, 200_000, 500_000), (2_000, 5_000, 10_000)
PER_CELL = 980
FROM = 50_000
CAPPED = {TSNE: 200_000, LOUVAIN: 200_000}
"""Operations that are measured up to a number of cells: larger ones take minutes."""
LEFT_OUT = frozenset({"CSV of one cluster", "annotated h5ad"})
LIMIT_S = 3600


def run(*, quick: bool, only: str = "") -> None:
    """Measure all sizes, 2,000 to 10,000 cells if `quick`."""
    sizes, name = (QUICK, "growth-quick") if quick else (SIZES, "growth")
    data = Path(os.environ.get("BENCH_DATA", Path.home() / ".cache/cellworker-bench"))
    data.mkdir(parents=True, exist_ok=True)
    about = {"genes": GENES, "values_per_cell": PER_CELL, "file": "uncompressed h5ad, X and layers/counts"}
    about["exponent"] = "slope of log CPU seconds by log cells"
    about["measured_up_to"] = {operation: f"{cells:,} cells" for operation, cells in CAPPED.items()}
    with tempfile.TemporaryDirectory(dir=data, prefix="bench-growth-") as work:
        cases = pick([case for cells in sizes for case in _cases(Path(work), cells)], only)
        run_cases(name, cases, about, write=not only, go_on=True, conclude=lambda ours: {"exponents": exponents(ours)})
    if not only:
        draw(name, RESULTS / f"{name}.svg")


def _cases(work: Path, cells: int) -> list[Case]:
    atlas = Atlas(cells, PER_CELL, as_analysed=True)
    folder, store = work / atlas.name, work / atlas.name / "work" / "store"

    def make() -> None:
        for other in set(work.iterdir()) - {folder}:
            shutil.rmtree(other)
        made(work, atlas)

    def clear() -> None:
        make()
        shutil.rmtree(store, ignore_errors=True)

    def command(operation: str) -> Command:
        line = python("benchmarks.large_tasks:measure", folder, store, operation)
        prepare = clear if operation == OPEN else make
        return Command(line, {"LOAD_TIMEOUT_S": "7200"}, prepare, limit_s=LIMIT_S)

    def peers(operation: str) -> dict[str, Command]:
        if not OLD or operation in {OPEN, RESTART, COLUMNS} | LONG:
            return {}
        task, body = TASKS[operation](DENSE)
        line = [OLD, another_version.__file__, str(folder), str(store.with_name("other")), task, json.dumps(body)]
        return {OLD_NAME: Command(line, {"LOAD_TIMEOUT_S": "7200"}, make, limit_s=LIMIT_S)}

    names = [name for name in (OPEN, RESTART, *TASKS) if name not in LEFT_OUT and name not in CAPPED]
    operations = names + [name for name, most in CAPPED.items() if cells <= most]
    return [Case(f"{name}; {cells:,} cells", command(name), peers(name), repeats=1) for name in operations]


def exponents(ours: Mapping[str, Usage]) -> dict[str, dict[str, float]]:
    """Return the exponents of each operation that was measured at two sizes or more."""
    found: dict[str, list[tuple[int, Usage]]] = {}
    for case, usage in ours.items():
        operation, _, size = case.partition("; ")
        found.setdefault(operation, []).append((int(size.removesuffix(" cells").replace(",", "")), usage))
    fits = {}
    for operation, points in found.items():
        large = [point for point in points if point[0] >= FROM]
        fits[operation] = {
            label: _slope([(cells, getattr(usage, figure)) for cells, usage in chosen])
            for label, figure, chosen in (
                ("cpu_s", "cpu_s", points),
                (f"cpu_s from {FROM:,} cells", "cpu_s", large),
                (f"peak_mb from {FROM:,} cells", "peak_mb", large),
            )
            if len(chosen) > 1
        }
    return fits


def _slope(points: list[tuple[int, float]]) -> float:
    cells, figures = np.log(np.maximum(np.array(points, np.float64), 1e-9)).T
    return round(float(np.polyfit(cells, figures, 1)[0]), 2)
