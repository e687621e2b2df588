"""Benchmark "footprint": what opening an .h5ad takes in CPU time, private memory and disk, by its number of cells."""

# ruff: noqa: PLC0415 - every case is a process of its own and pays for what it imports

import os
import shutil
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))  # where another version runs this file

from benchmarks.harness import Case, Command, descendants, memory_mb, python, run_cases, say

__all__ = ["allocated", "run"]

HERE = "benchmarks.footprint"
GENES, PER_CELL, AT_ONCE = 20_000, 980, 2_000
SIZES, QUICK_SIZES = (50_000, 300_000, 500_000), (10_000, 50_000)
DISTINCT = 10
"""Blocks of `AT_ONCE` cells that differ; they repeat, since making them takes longer than opening them."""
OLD = os.environ.get("BENCH_OLD_PYTHON", "")
"""The Python of an environment with another version of cellworker, to be measured beside this one."""
OLD_NAME = os.environ.get("BENCH_OLD_NAME", "another version")
"""What that version is called in the results."""
SAMPLE_S = 0.1


def run(*, quick: bool, only: str = "") -> None:
    """Measure and write the results."""
    folder = Path(os.environ.get("BENCH_DATA", Path.home() / ".cache/cellworker-bench"))
    folder.mkdir(parents=True, exist_ok=True)
    sizes = QUICK_SIZES if quick else SIZES
    with tempfile.TemporaryDirectory(dir=folder, prefix="bench-footprint-") as work:
        cases = [_case(_made(folder, cells), Path(work), cells) for cells in sizes]
        cases = [case for case in cases if only in case.name]
        about = {"genes": GENES, "values_per_cell": PER_CELL, "data": "uniform random genes, X and layers/counts"}
        run_cases("footprint-quick" if quick else "footprint", cases, about, write=not only)


def _case(source: Path, work: Path, cells: int) -> Case:
    arguments = source, work / "store"

    def clear() -> None:
        shutil.rmtree(work / "store", ignore_errors=True)

    # What a file lacks, only later versions make.
    plain = {"MAKE_MISSING": "false", "LOAD_TIMEOUT_S": "3600"}
    ours = Command(python(f"{HERE}:opened", *arguments), plain, clear, limit_s=3600)
    old = [OLD, str(Path(__file__)), *map(str, arguments)]
    peers = {OLD_NAME: Command(old, plain, clear, limit_s=3600)} if OLD else {}
    return Case(f"h5ad of {cells:,} cells opened, store written", ours, peers, 1)


def _made(folder: Path, cells: int) -> Path:
    """Return an uncompressed .h5ad: log-normalised values in X, their counts in a layer; made when missing."""
    import h5py

    target = folder / f"footprint-uniform-{cells}x{GENES}-nnz{PER_CELL}-v2.h5ad"
    if target.exists():
        return target
    rng = np.random.default_rng(11)
    part = target.with_suffix(".part")
    nnz = cells * PER_CELL
    with h5py.File(part, "w") as file:
        file.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
        for name in ("X", "layers/counts"):
            group = file.create_group(name)
            group.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": (cells, GENES)})
            group["indptr"] = np.arange(cells + 1, dtype=np.int64) * PER_CELL
            group.create_dataset("indices", (nnz,), np.int32)
            group.create_dataset("data", (nnz,), np.float32)
        blocks = [_block(rng) for _ in range(DISTINCT)]
        for number, start in enumerate(range(0, cells, AT_ONCE)):
            genes, counts, values = blocks[number % DISTINCT]
            stop = min(start + AT_ONCE, cells) * PER_CELL
            for name, data in (("X", values), ("layers/counts", counts)):
                file[name]["indices"][start * PER_CELL : stop] = genes.ravel()[: stop - start * PER_CELL]
                file[name]["data"][start * PER_CELL : stop] = data.ravel()[: stop - start * PER_CELL]
        _table(file, "obs", [f"cell{i}" for i in range(cells)])
        _table(file, "var", [f"gene{i}" for i in range(GENES)])
        pca = file.create_dataset("obsm/X_pca", data=rng.standard_normal((cells, 30)).astype(np.float32))
        pca.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
    part.rename(target)
    return target


def _block(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return genes, counts and log-normalised values of some cells."""
    picked = np.argpartition(rng.random((AT_ONCE, GENES), np.float32), PER_CELL, axis=1)[:, :PER_CELL]
    counts = rng.geometric(0.4, (AT_ONCE, PER_CELL)).astype(np.float32)
    values = np.log1p(counts * (1e4 / counts.sum(axis=1, keepdims=True)))
    return np.sort(picked, axis=1).astype(np.int32), counts, values.astype(np.float32)


def _table(file, name: str, index: list[str]) -> None:
    import h5py

    group = file.create_group(name)
    group.attrs.update({"encoding-type": "dataframe", "encoding-version": "0.2.0", "_index": "_index"})
    group.attrs["column-order"] = np.array([], "S1")
    group.create_dataset("_index", data=index, dtype=h5py.string_dtype())


def opened(source: str, store_dir: str) -> None:
    """Open a file once; report the child's and this process's peak of memory, and the folder's peak of disk."""
    try:
        from cellworker.formats.opening.open import open_experiment
    except ImportError:  # as it was in 0.1.0
        from cellworker.formats.opening import open_experiment
    from cellworker.settings import Settings

    peak, over = {"disk": 0, "memory": 0.0}, threading.Event()

    def watch() -> None:
        while not over.wait(SAMPLE_S):
            peak["disk"] = max(peak["disk"], allocated(Path(store_dir)))
            peak["memory"] = max(peak["memory"], memory_mb(os.getpid()))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    start = time.perf_counter()
    found = open_experiment(Path(source), Settings.from_environment(store_dir=Path(store_dir)))
    wall = time.perf_counter() - start
    over.set()
    watcher.join()
    size = found.store.stat().st_size
    told = {
        "bytes_per_value": size / found.experiment.data_summary.kept,
        "store_mb": size / 1e6,
        "peak_disk_mb": peak["disk"] / 1e6,
        "disk_of_store": peak["disk"] / size,
    }
    say({"wall_s": wall, "peak_mb": peak["memory"]}, told)


def allocated(folder: Path) -> int:
    """Return the bytes that files of a folder take on the disk: holes not counted, files without a name counted."""
    paths = [os.path.join(place, name) for place, _, names in os.walk(folder) for name in names]  # noqa: PTH118
    for pid in descendants(os.getpid()):
        with suppress(OSError):
            files = [f"/proc/{pid}/fd/{number}" for number in os.listdir(f"/proc/{pid}/fd")]  # noqa: PTH208
            paths += [path for path in files if os.readlink(path).startswith(str(folder))]  # noqa: PTH115
    found = {}
    for path in paths:
        with suppress(OSError):
            status = os.stat(path)  # noqa: PTH116
            found[status.st_ino] = status.st_blocks * 512
    return sum(found.values())


if __name__ == "__main__":
    opened(*sys.argv[1:])
