"""`cellworker.open`: an experiment file, or an AnnData in memory, as an object whose tasks are methods."""

import dataclasses
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cellworker.api.anndata.arguments import check_adata, invalid
from cellworker.api.dataset import Dataset
from cellworker.api.experiment import opener
from cellworker.api.matrix_roles import with_roles
from cellworker.api.progress import ProgressBar
from cellworker.formats.opening.open import open_experiment as open_files
from cellworker.settings import Settings
from cellworker.tasks.task import Progress

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["open"]


def open(  # noqa: A001 the name that everybody looks for
    source: "str | Path | AnnData",
    *,
    counts: str | None = None,
    data: str | None = None,
    sample: str | None = None,
    drop_genes: bool | None = None,
    object: str | None = None,  # noqa: A002 - as the command line calls it
    part: str | None = None,
    orientation: str | None = None,
    settings: Settings | None = None,
    progress: Progress | None = None,
) -> Dataset:
    """Open an experiment.

    Parameters
    ----------
    source
        A file (``.rds``, ``.rda``, ``.qs``, ``.qs2``, ``.h5seurat``, ``.h5ad``, ``.zarr``, ``.h5mu``, ``.loom``, 10x
        ``.h5``, a matrix in text), a folder that holds one, a matrix folder, a folder with one of these for each
        sample, or an AnnData in memory. An AnnData is written to a temporary file and read from there; it stays as it
        is.
    counts, data
        The matrices of raw counts and of log-normalised values, where they are known better than from the values:
        ``"X"``, ``"raw.X"`` or a layer's name in AnnData.
    sample
        The column of cell metadata that names each cell's sample.
    drop_genes
        Leave out genes with values that are missing or infinite.
    object
        The name of the object, in a file that holds several (``.rda``).
    part
        The modality (MuData), genome or kind of features (10x) to open; by default gene expression.
    orientation
        "cells-by-genes" or "genes-by-cells": what the rows of a table in text are, where their names do not tell.
    settings
        None reads the environment.
    progress
        Called with the progress of long work; by default a bar is shown on what takes longer than a second.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` naming the argument, or what is wrong with the file, with what to do.

    Examples
    --------
    >>> import cellworker as cw
    >>> experiment = cw.open("pbmc.h5ad")  # doctest: +SKIP
    >>> experiment.markers("leiden", n=5)  # doctest: +SKIP
    >>> experiment.compare("leiden == '0'", "leiden == '1'")  # doctest: +SKIP
    """
    settings = with_roles(
        settings,
        counts=counts,
        data=data,
        sample=sample,
        drop_genes=drop_genes,
        object_name=object,
        part=part,
        orientation=orientation,
    )
    report = progress or ProgressBar()
    try:
        if isinstance(source, str | Path):
            opened = open_files(Path(source), settings, report)
            dataset = Dataset(opened.experiment, opened.cell_sets, opened.source, settings=settings, progress=report)
            dataset.stored_in(opened.experiment, opener(opened.source, settings))
            return dataset
        return _in_memory(source, settings, report)
    finally:
        if isinstance(report, ProgressBar):
            report.done()


def _in_memory(adata: "AnnData", settings: Settings, report: Progress) -> Dataset:
    check_adata(adata)
    if adata.X is None:
        raise invalid("source", "adata.X is empty; expected log-normalised values or raw counts there")
    kind = np.dtype(getattr(adata.X, "dtype", np.dtype(object))).kind
    if kind not in "biuf":
        raise invalid("source", "adata.X holds no numbers; convert it: adata.X = adata.X.astype('float32')")
    folder = tempfile.mkdtemp(prefix="cellworker-")
    try:
        path = Path(folder) / "in_memory.h5ad"
        _write(adata, path)
        settings_of_copy = dataclasses.replace(settings, store_dir=Path(folder) / "store")
        opened = open_files(path, settings_of_copy, report)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    dataset = Dataset(opened.experiment, opened.cell_sets, None, settings=settings, progress=report, adata=adata)
    dataset.stored_in(opened.experiment, opener(path, settings_of_copy))
    dataset.owns(folder)
    return dataset


def _write(adata: "AnnData", path: Path) -> None:
    """Write an AnnData without changing it, and without a copy of its matrices in memory."""
    import anndata  # noqa: PLC0415 heavy

    if adata.isbacked:
        adata.copy(path).file.close()
        return
    # Of uns only what the tasks look at: what else others keep there may not be writable.
    uns: dict[str, Any] = {key: adata.uns[key] for key in adata.uns if key.removesuffix("_colors") in adata.obs}
    if "log1p" in adata.uns:
        uns["log1p"] = {key: value for key, value in dict(adata.uns["log1p"]).items() if value is not None}
    raw = None if adata.raw is None else {"X": adata.raw.X, "var": adata.raw.var, "varm": dict(adata.raw.varm)}
    parts = {name: dict(getattr(adata, name)) for name in ("obsm", "varm", "layers", "obsp", "varp")}
    anndata.AnnData(X=adata.X, obs=adata.obs, var=adata.var, uns=uns, raw=raw, **parts).write_h5ad(path)
