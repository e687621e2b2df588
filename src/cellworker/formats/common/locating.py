"""Finds the experiment's file in a folder, and its cell sets."""

from dataclasses import dataclass
from pathlib import Path

from cellworker.errors import ErrorCode, WorkerError
from cellworker.formats.common.kinds import is_zarr

__all__ = ["Located", "locate"]

CELL_SETS = "cell_sets.json"
_OBJECTS = ("r.qs", "r.rds")
"""The platform's names, the preferred one first (contract 6.3)."""
_KINDS = frozenset({".qs", ".rds"})
_LATER = frozenset({
    ".qs2", ".qd", ".qdata", ".h5seurat", ".rdata", ".rda", ".h5", ".hdf5", ".h5mu", ".loom", ".zip", ".gz", ".tar",
})  # fmt: skip
"""Endings of files that are tried where a folder holds nothing else: their content decides."""
_OF_R = frozenset({".qs2", ".qd", ".qdata", ".h5seurat", ".rdata", ".rda"})
_MATRICES = frozenset({".mtx", ".csv", ".tsv", ".txt", ".tab", ".st"})
_SAMPLES = frozenset({".h5", ".hdf5", ".h5ad", ".h5mu", ".loom", ".zip"})


@dataclass(frozen=True, slots=True)
class Located:
    """The experiment's file or folder, and the cell-sets file beside it; None where there is none."""

    source: Path
    cell_sets: Path | None


def locate(path: Path) -> Located:
    """Find the experiment at a path.

    Parameters
    ----------
    path
        A folder that holds ``r.qs``, else ``r.rds``, else exactly one other ``.qs`` or ``.rds`` file, else exactly one
        ``.h5ad`` file or ``.zarr`` store; a folder with matrices, or with folders of these, which is then the
        experiment itself; or a file or store. Cell sets are taken from ``<name>.cell_sets.json`` beside the file, else
        from ``cell_sets.json`` in its folder.

    Raises
    ------
    WorkerError
        ``EXPERIMENT_NOT_FOUND`` or ``EXPERIMENT_UNSUPPORTED``, saying what was looked for and what is there.
    """
    try:
        source = _in_folder(path) if path.is_dir() and not is_zarr(path) else path
        if not source.is_file() and not source.is_dir():
            advice = (
                "give the path of an experiment's file, of a .zarr store, or of a folder with r.rds, r.qs or matrices"
            )
            told = f"{path} is a pipe or a device" if source.exists() else f"there is no file or folder {path}"
            raise _not_found(message=f"{told}: {advice}")
        named = source if source.name not in ("", "..") else source.resolve()
        beside = (named.parent / f"{named.stem}.{CELL_SETS}", named.parent / CELL_SETS)
        if source.is_dir() and not is_zarr(source):
            beside = (source / CELL_SETS, named.parent / f"{named.name}.{CELL_SETS}")
        return Located(source, next((found for found in beside if found.is_file()), None))
    except OSError as error:
        raise _not_found(message=f"{path} cannot be looked at: {error.strerror or error}") from None


def _in_folder(folder: Path) -> Path:
    files = sorted(item for item in folder.iterdir() if not item.name.startswith("."))
    objects = [item for item in files if item.suffix.lower() in _KINDS]
    main = [folder / name for name in _OBJECTS if folder / name in objects] or (objects if len(objects) == 1 else [])
    if main:
        return main[0]
    if objects:
        names = ", ".join(item.name for item in objects[:5]) + (", ..." if len(objects) > 5 else "")
        raise _not_found(
            message=f"{folder} holds {len(objects)} objects ({names}) and none is r.rds or r.qs: name the one to open"
        )
    annotated = [item for item in files if item.suffix.lower() == ".h5ad" or is_zarr(item)]
    if len(annotated) == 1:
        return annotated[0]
    if annotated or any(_is_matrix(item) for item in files):
        return folder
    later = [item for item in files if item.suffix.lower() in _LATER]
    several = len(later) > 1 or _has_matrices([item for item in files if item.is_dir()])
    if later and several and later[0].suffix.lower() not in _OF_R:
        return folder  # a sample each
    if later:
        return later[0]
    inner = [item.name for item in files if item.is_dir() and any((item / name).is_file() for name in _OBJECTS)]
    hint = (
        f"; there is one in {', '.join(inner[:5])}: open that"
        if inner
        else ": save the Seurat object there with saveRDS(), or an AnnData object with write_h5ad(); or "
        "give a folder of 10x, Parse or BD Rhapsody"
    )
    if not inner and _has_matrices(files):
        return folder
    raise _not_found(message=f"{folder} holds no r.rds or r.qs{hint}")


def _is_matrix(path: Path) -> bool:
    """Tell a matrix in text by its name; its content says what it is when it is read."""
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    if suffixes[-1:] == [".gz"]:
        suffixes.pop()
    elif suffixes[-1:] == [".txt"]:
        return False  # notes, mostly; a caller who means a table names it
    return path.is_file() and suffixes[-1:] != [] and suffixes[-1] in _MATRICES


def _has_matrices(files: list[Path], depth: int = 4) -> bool:
    """Tell whether folders in a folder hold what may be a sample, by the names of their files."""
    for item in files:
        if item.name.startswith("."):
            continue
        if is_zarr(item) or _is_matrix(item) or (item.is_file() and item.suffix.lower() in _SAMPLES):
            return True
        if depth and item.is_dir() and not item.is_symlink() and _has_matrices(sorted(item.iterdir()), depth - 1):
            return True
    return False


def _not_found(message: str) -> WorkerError:
    return WorkerError(ErrorCode.EXPERIMENT_NOT_FOUND, message)
