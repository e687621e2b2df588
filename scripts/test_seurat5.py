"""Open our files in Seurat 5, and compare counts, values, metadata and reductions with their source.

It needs R with Seurat 5, which is no part of a developer's environment: Debian unstable has it (``apt-get install
r-cran-seurat r-bioc-singlecellexperiment``). ``RSCRIPT`` names another Rscript than that of the PATH. Objects of
Seurat 3 to 5, and SingleCellExperiment where R has the package, are written by conversion, by the download of the
platform, and by `cellworker.open(...).save`.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from bootstrap import ROOT
from cellworker.api.opening import open as open_dataset
from cellworker.cli.main import main as cellworker
from cellworker.experiment.metadata_columns import Categorical
from cellworker.experiment.model import CellMajor, Experiment
from cellworker.formats.convert.converting import convert
from cellworker.formats.opening.open import open_experiment
from cellworker.progress import silent
from cellworker.sample import sample_path
from cellworker.settings import Settings

FIXTURES = ROOT / "tests" / "fixtures" / "pbmcsmall"
NEEDS = "Debian unstable: apt-get install r-cran-seurat r-bioc-singlecellexperiment; or RSCRIPT=/path/to/Rscript"


def versions(rscript: str) -> dict[str, str]:
    """Return the versions of the installed R packages."""
    code = """
    for (name in c("Seurat", "SeuratObject", "SingleCellExperiment"))
      if (requireNamespace(name, quietly = TRUE)) cat(name, as.character(packageVersion(name)), "\\n")
    """
    done = subprocess.run([rscript, "-e", code], capture_output=True, text=True, check=False)
    return dict(line.split() for line in done.stdout.splitlines() if len(line.split()) == 2)


def expect(experiment: Experiment, folder: Path) -> None:
    """Write the expected content of an object, in a form that R reads without a package."""
    folder.mkdir()
    (folder / "cells.txt").write_text("\n".join(experiment.barcodes) + "\n", "utf-8")
    (folder / "genes.txt").write_text("\n".join(experiment.genes.ids) + "\n", "utf-8")
    for name, matrix in (("counts", experiment.counts), ("data", experiment.data_by_cell)):
        if matrix is not None:
            _expect_matrix(matrix, folder / name)
    columns = [name for name in experiment.metadata if name != "cells_id"]
    (folder / "columns.txt").write_text("".join(f"{name}\n" for name in columns), "utf-8")
    for k, name in enumerate(columns, 1):
        column = experiment.metadata[name]
        if isinstance(column, Categorical):
            labels = [column.categories[code] if code >= 0 else "NA" for code in column.codes]
            (folder / f"column{k}.txt").write_text("\n".join(labels) + "\n", "utf-8")
        elif column.dtype.kind in "biuf":
            column.astype("<f8").tofile(folder / f"column{k}.x")
        else:
            (folder / f"column{k}.txt").write_text("\n".join(map(str, column)) + "\n", "utf-8")
    (folder / "reductions.txt").write_text("".join(f"{name}\n" for name in experiment.reductions), "utf-8")
    for k, reduction in enumerate(experiment.reductions.values(), 1):
        np.asarray(reduction.values, "<f8").tofile(folder / f"reduction{k}.x")


def _expect_matrix(matrix: CellMajor, place: Path) -> None:
    matrix.indptr.astype("<i4").tofile(place.with_suffix(".p"))
    np.asarray(matrix.genes, "<i4").tofile(place.with_suffix(".i"))
    np.asarray(matrix.values, "<f8").tofile(place.with_suffix(".x"))


def _saved(source: Path, target: Path) -> None:
    with open_dataset(source) as dataset:
        dataset.save(target)


def _downloaded(source: Path, target: Path) -> None:
    body = '{"embeddingMethod": "umap", "isObj2s": true}'
    words = ["call", "DownloadAnnotSeuratObject", "--experiment", str(source), "--body", body, "--out", str(target)]
    if cellworker([*words, "--quiet"]) != 0:
        sys.exit("the download failed")


def _converted(source: Path, target: Path) -> None:
    convert(source, target, Settings.from_environment())


def objects(folder: Path) -> list[tuple[str, Path, Path, Callable[[Path, Path], None]]]:
    """Return the objects to write: name, source, target, and the function that writes."""
    sample, h5ad = sample_path(), folder / "sample.h5ad"
    _converted(sample, h5ad)
    v4, v5 = FIXTURES / "v4" / "r.rds", FIXTURES / "v5" / "r.rds"
    return [
        ("an .h5ad as Seurat 3 to 5 read it", h5ad, folder / "fresh.rds", _converted),
        ("a copy of an object of Seurat 4", v4, folder / "copy4.rds", _converted),
        ("a copy of an object of Seurat 5", v5, folder / "copy5.rds", _converted),
        ("the download of an object of Seurat 4", v4, folder / "download4.rds", _downloaded),
        ("the download of an object of Seurat 5", v5, folder / "download5.rds", _downloaded),
        ("the download of an .h5ad", h5ad, folder / "download.rds", _downloaded),
        ("what cellworker.open(...).save writes", v5, folder / "saved.rds", _saved),
        ("a SingleCellExperiment", h5ad, folder / "made.sce.rds", _converted),
    ]


def main() -> int:
    """Write, open and compare; 1 when anything differs or R is missing."""
    rscript = os.environ.get("RSCRIPT") or shutil.which("Rscript")
    found = versions(rscript) if rscript else {}
    if rscript is None or not found.get("Seurat", "").startswith("5."):
        print(f"This needs R with Seurat 5, and found {found.get('Seurat', 'none')}. {NEEDS}", file=sys.stderr)
        return 1
    print(", ".join(f"{name} {version}" for name, version in found.items()))
    failed = 0
    with tempfile.TemporaryDirectory(prefix="cellworker-") as scratch:
        for k, (title, source, target, write) in enumerate(objects(Path(scratch))):
            if target.name.endswith(".sce.rds") and "SingleCellExperiment" not in found:
                print(f"not tried: {title}, as R has no package SingleCellExperiment")
                continue
            write(source, target)
            want = Path(scratch) / f"want{k}"
            expect(open_experiment(source, Settings.from_environment(), silent).experiment, want)
            done = subprocess.run(
                [rscript, ROOT / "scripts" / "seurat5.R", target, want], capture_output=True, text=True, check=False
            )
            right = done.returncode == 0 and "looked at" in done.stdout and "wrong:" not in done.stdout
            failed += not right
            print(f"{'equal' if right else 'WRONG'}: {title} ({' '.join(done.stdout.split())})", flush=True)
            if done.returncode != 0:
                print(done.stderr[-2000:])
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
