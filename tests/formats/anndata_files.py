"""AnnData files as anndata itself writes them, for the tests of our own reader and writer."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from cellworker.experiment.draft import ExperimentDraft, SparseDraft
from cellworker.formats.anndata.containers.opening import open_anndata
from cellworker.formats.anndata.reader import read_anndata
from cellworker.formats.common.findings import Findings
from cellworker.formats.common.scratch import Scratch

CONTAINERS = ("h5ad", "h5ad-gzip", "h5ad-lzf", "zarr-2", "zarr-3")


def write(adata: Any, folder: Path, container: str, name: str = "a") -> Path:
    """Write with anndata, in one of the containers."""
    import anndata

    kind, _, more = container.partition("-")
    path = folder / f"{name}.{kind}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if kind == "h5ad":
            adata.write_h5ad(path, compression=more or None)
        else:
            with anndata.settings.override(zarr_write_format=int(more)):
                adata.write_zarr(path)
    return path


def load(path: Path) -> Any:
    """Read with anndata."""
    import anndata

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return anndata.read_zarr(path) if path.is_dir() else anndata.read_h5ad(path)


def read(path: Path, max_bytes: int = 1 << 34, scratch: Path | None = None) -> tuple[ExperimentDraft | None, Findings]:
    """Read with cellworker."""
    findings = Findings()
    with open_anndata(path, max_bytes, 2) as root:
        return read_anndata(root, findings, Scratch(scratch), lambda _stage, _part: None), findings


def dense(matrix: SparseDraft | None) -> np.ndarray:
    """Lay a draft's matrix out."""
    assert matrix is not None
    out = np.zeros((len(matrix.indptr) - 1, matrix.n_columns), np.float32)
    rows = np.repeat(np.arange(len(out)), np.diff(matrix.indptr))
    np.add.at(out, (rows, matrix.columns), matrix.values)
    return out
