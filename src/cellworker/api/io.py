"""Files of any format as AnnData, and back, without R."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from cellworker.api.anndata.arguments import check_adata, invalid
from cellworker.api.anndata.checked import checked
from cellworker.api.matrix_roles import with_roles
from cellworker.extras import how_to_install
from cellworker.formats.common.provenance import Provenance, stamp
from cellworker.formats.convert.converting import convert
from cellworker.formats.opening.recognising import FileKind, kind_of
from cellworker.settings import Settings

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["read", "write", "write_recorded"]

_TARGETS = (".h5ad", ".zarr", ".rds", ".h5")


@checked
def read(
    path: str | Path,
    *,
    object: str | None = None,  # noqa: A002 - as the command line calls it
    part: str | None = None,
    orientation: str | None = None,
    settings: Settings | None = None,
) -> "AnnData":
    """Read an experiment file as AnnData.

    Parameters
    ----------
    path
        ``.h5ad`` and ``.zarr`` are read as they are. 10x ``.h5``, loom, MuData, matrix folders, matrices in text, and
        folders with a sample each give ``X`` as the file has it.
        R's objects (``.rds``, ``.rda``, ``.qs``, ``.qs2``, h5Seurat) are converted: ``X``
        log-normalised, ``layers["counts"]`` raw counts.
    object
        The name of the object, in a file that holds several (``.rda``).
    part
        The modality (MuData), genome or kind of features (10x) to read; by default gene expression.
    orientation
        "cells-by-genes" or "genes-by-cells": what the rows of a table in text are, where their names do not tell.
    settings
        Limits of reading; None reads the environment.

    Raises
    ------
    WorkerError
        ``EXPERIMENT_NOT_FOUND``, ``EXPERIMENT_UNREADABLE`` or ``EXPERIMENT_UNSUPPORTED``, with what to do.
    ImportError
        Where anndata is not installed.
    """
    try:
        import anndata  # noqa: PLC0415 heavy
    except ImportError as error:
        message = f"files are read into an AnnData by anndata: {how_to_install('notebook')}"
        raise ImportError(message) from error

    source = Path(path)
    if source.suffix == ".h5ad" and source.is_file() and kind_of(source) is FileKind.ANNDATA:
        return anndata.read_h5ad(source)
    if source.suffix == ".zarr" and source.is_dir() and kind_of(source) is FileKind.ANNDATA:
        return anndata.read_zarr(source)
    with TemporaryDirectory(prefix="cellworker-") as folder:
        made = Path(folder) / "experiment.h5ad"
        chosen = with_roles(
            settings,
            counts=None,
            data=None,
            sample=None,
            drop_genes=None,
            object_name=object,
            part=part,
            orientation=orientation,
        )
        convert(source, made, chosen)
        return anndata.read_h5ad(made)


@checked
def write(adata: "AnnData", path: str | Path, *, force: bool = False, settings: Settings | None = None) -> Path:
    """Write an AnnData as ``.h5ad``, ``.zarr``, for Seurat ``.rds``, or 10x ``.h5``, by the name's ending.

    Parameters
    ----------
    adata
        Log-normalised expression or raw counts. What R has no place for is left out of an ``.rds``; an ``.h5`` holds
        raw counts, barcodes and features only.
    path
        The file, for ``.zarr`` the folder.
    force
        Whether what is there already may be replaced.
    settings
        Limits of conversion; None reads the environment.

    Returns
    -------
    pathlib.Path
        The written file.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` naming the argument; what conversion raises.
    """
    return write_recorded(adata, path, [Provenance.of("write", {})], force=force, settings=settings)


def write_recorded(
    adata: "AnnData", path: str | Path, records: Sequence[Provenance], *, force: bool, settings: Settings | None
) -> Path:
    """Write as `write` does, and say in the file what made it."""
    check_adata(adata)
    goal = Path(path)
    if goal.suffix not in _TARGETS:
        raise invalid("path", f"expected a name that ends in {', '.join(_TARGETS)}, found {goal.name!r}")
    if not goal.absolute().parent.is_dir():
        raise invalid("path", f"there is no folder {goal.parent}; make it, or choose another")
    if goal.exists() and not force:
        raise invalid("path", f"{goal.name} is there already; choose another name, or force=True")
    if goal.suffix == ".h5ad":
        adata.write_h5ad(goal)
        stamp(goal, records)
    elif goal.suffix == ".zarr":
        with warnings.catch_warnings():
            # anndata tells of the layout that it will write one day; ours is whichever it writes
            warnings.filterwarnings("ignore", "Writing zarr v2", UserWarning)
            adata.write_zarr(goal)
        stamp(goal, records)
    else:
        with TemporaryDirectory(prefix="cellworker-") as folder:
            made = Path(folder) / "experiment.h5ad"
            adata.write_h5ad(made)
            convert(made, goal, settings or Settings.from_environment(), force=force, records=records)
    return goal
