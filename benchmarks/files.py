"""Benchmark "files": writing the annotated object, beside R's ``saveRDS`` of the same object."""

# ruff: noqa: PLC0415 - every case is a process of its own and pays for what it imports, and for nothing else

import gzip
import json
import shutil
import tempfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from benchmarks.generate import QUICK, Size, experiment
from benchmarks.harness import Bar, Case, Command, pick, python, run_cases, timed

__all__ = ["run"]

HERE = "benchmarks.files"
SMALL = Size(4_000, 20_000, 1_100)
"""About 100 MB before compression, as R holds it."""

# R measures only the saving: the object is in memory already.
SAVE_IN_R = """
    suppressMessages(requireNamespace("Matrix", quietly = TRUE))
    x <- readRDS("{source}")
    before <- proc.time()
    saveRDS(x, "{target}")
    taken <- proc.time() - before
    cat(sprintf('benchmark-usage {{"usage": {{"cpu_s": %.4f, "wall_s": %.4f}}, "details": {{"bytes": %.0f}}}}\\n',
        taken[[1]] + taken[[2]], taken[[3]], file.size("{target}")))
"""


def run(*, quick: bool, only: str = "") -> None:
    """Measure and write the results."""
    folder = experiment(SMALL if quick else QUICK)
    about = json.loads((folder / "about.json").read_text())
    about["zlib_ng"] = find_spec("zlib_ng") is not None
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="bench-files-") as name:
        work = Path(name)
        _open(folder, work / "store")
        with gzip.open(folder / "r.rds") as file:
            about["bytes_before_compression"] = sum(map(len, iter(lambda: file.read(1 << 20), b"")))
        cases = pick(_annotated(folder, work), only)
        run_cases("files-quick" if quick else "files", cases, about, write=not only)


def _open(folder: Path, store_dir: Path):
    from cellworker.formats.opening.open import open_experiment
    from cellworker.settings import Settings

    return open_experiment(folder, Settings.from_environment(store_dir=store_dir))


def _annotated(folder: Path, work: Path) -> list[Case]:
    target = work / "annotated.rds"

    def clear() -> None:
        target.unlink(missing_ok=True)

    rscript = shutil.which("Rscript")
    code = SAVE_IN_R.format(source=folder / "r.rds", target=work / "r.rds")
    peers = {"R saveRDS": Command([rscript, "--vanilla", "-e", code])} if rscript else {}
    cases = []
    for threads in (1, 2):
        bars = [
            Bar(figure, 0.5, f"the annotated object at least 2 x faster than saveRDS ({words})", "R saveRDS")
            for figure, words in (("cpu_s", "CPU"), ("wall_s", "wall"))
        ]
        ours = Command(python(f"{HERE}:annotate", folder, work / "store", target, threads), prepare=clear)
        name = f"the annotated object written, {threads} thread{'s' * (threads > 1)}"
        cases.append(Case(name, ours, peers, 3, bars))
    return cases


def annotate(folder: str, store_dir: str, target: str, threads: str) -> None:
    """Write the object with clusters, three custom sets and an embedding: the source is read in the time, too."""
    from cellworker.experiment.model import Categorical
    from cellworker.formats.opening.source import source_of
    from cellworker.formats.seurat.write.annotated import write_annotated
    from cellworker.formats.seurat.write.annotation import Annotation, Embedding

    experiment = _open(Path(folder), Path(store_dir)).experiment
    n = experiment.n_cells
    rng = np.random.default_rng(3)
    names = [f"Cluster {i}" for i in range(12)]
    columns = {
        "samples": Categorical(rng.integers(0, 4, n).astype(np.int32), ["A", "B", "C", "D"]),
        "seurat_clusters": Categorical(rng.integers(0, len(names), n).astype(np.int32), names),
        **{f"custom_cellset-{i}": rng.random(n) < 0.1 for i in range(3)},
    }
    annotation = Annotation(columns, "seurat_clusters", Embedding("umap", rng.normal(size=(n, 2))))
    _ = (experiment.barcodes, experiment.key)
    with timed() as details:
        write_annotated(source_of(experiment), Path(target), experiment, annotation, threads=int(threads))
        details["bytes"] = Path(target).stat().st_size
