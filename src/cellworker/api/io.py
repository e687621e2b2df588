"""Files of any format as AnnData, and back, without R."""

import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from cellworker.api.anndata.arguments import check_adata, invalid
from cellworker.formats.convert.converting import convert
from cellworker.settings import Settings

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["read", "write"]

_TARGETS = (".h5ad", ".zarr", ".rds")


def read(path: str | Path, *, settings: Settings | None = None) -> "AnnData":
    """Read an experiment file as AnnData.

    Parameters
    ----------
    path
        ``.h5ad`` and ``.zarr`` are read as they are; Seurat's ``.rds`` and ``.qs``, and folders that hold an
        experiment, are converted: ``X`` log-normalised, ``layers["counts"]`` raw counts.
    settings
        Limits of reading; None reads the environment.

    Raises
    ------
    WorkerError
        ``EXPERIMENT_NOT_FOUND``, ``EXPERIMENT_UNREADABLE`` or ``EXPERIMENT_UNSUPPORTED``, with what to do.
    """
    import anndata  # noqa: PLC0415 heavy

    source = Path(path)
    if source.suffix == ".h5ad" and source.is_file():
        return anndata.read_h5ad(source)
    if source.suffix == ".zarr" and source.is_dir():
        return anndata.read_zarr(source)
    with TemporaryDirectory(prefix="cellworker-") as folder:
        made = Path(folder) / "experiment.h5ad"
        convert(source, made, settings or Settings.from_environment())
        return anndata.read_h5ad(made)


def write(adata: "AnnData", path: str | Path, *, force: bool = False, settings: Settings | None = None) -> Path:
    """Write an AnnData as ``.h5ad``, ``.zarr`` or, for Seurat, ``.rds``, by the name's ending.

    Parameters
    ----------
    adata
        Log-normalised expression or raw counts; what R has no place for is left out of an ``.rds``.
    path
        The file, for ``.zarr`` the folder.
    force
        Whether what is there already may be replaced.
    settings
        Limits of conversion; None reads the environment.

    Returns
    -------
    pathlib.Path
        What was written.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` naming the argument; what conversion raises.
    """
    check_adata(adata)
    goal = Path(path)
    if goal.suffix not in _TARGETS:
        raise invalid("path", f"expected a name that ends in {', '.join(_TARGETS)}, found {goal.name!r}")
    if goal.exists() and not force:
        raise invalid("path", f"{goal.name} is there already; choose another name, or force=True")
    if goal.suffix == ".h5ad":
        adata.write_h5ad(goal)
    elif goal.suffix == ".zarr":
        with warnings.catch_warnings():
            # anndata tells of the layout that it will write one day; ours is whichever it writes
            warnings.filterwarnings("ignore", "Writing zarr v2", UserWarning)
            adata.write_zarr(goal)
    else:
        with TemporaryDirectory(prefix="cellworker-") as folder:
            made = Path(folder) / "experiment.h5ad"
            adata.write_h5ad(made)
            convert(made, goal, settings or Settings.from_environment(), force=force)
    return goal
