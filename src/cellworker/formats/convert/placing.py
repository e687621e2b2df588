"""Where a file is written, so that it appears when it is complete or not at all."""

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.cell_sets import CellSets
from cellworker.formats.common.kinds import is_zarr

__all__ = ["KINDS", "check_target", "holds", "placed", "replace_file"]

KINDS = (".rds", ".h5ad", ".zarr")
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


@contextmanager
def placed(target: Path) -> Iterator[Path]:
    """Give a place to write to; the target gets it when the block is left without an error.

    Raises
    ------
    WorkerError
        ``DISK_FULL``.
    """
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(6)}.tmp")
    try:
        yield temporary
        _replace(temporary, target)
    except OSError as error:
        # h5py hides the error number in its sentence.
        if error.errno in _FULL or any(f"errno = {code}," in str(error) for code in _FULL):
            message = f"there is no room for {target}: free some space on its disk"
            raise WorkerError(ErrorCode.DISK_FULL, message) from error
        raise
    finally:
        _remove(temporary)


def check_target(source: Path, target: Path, kind: str, written: tuple[Path, ...], *, force: bool) -> None:
    """Refuse a target that cannot be written, or that is there already and may not be replaced."""
    problem = ""
    if kind not in KINDS:
        problem = f"end its name in {', '.join(KINDS[:-1])} or {KINDS[-1]}"
    elif not target.parent.is_dir():
        problem = f"there is no folder {target.parent}"
    elif target.exists() and source.exists() and target.samefile(source):
        problem = "that is the experiment itself: give another name"
    elif kind != ".zarr" and target.is_dir():
        problem = "that is a folder: name a file"
    elif target.is_dir() and not is_zarr(target):
        problem = "that is a folder, but no Zarr store: name another"
    else:
        there = next((path for path in written if path.exists()), None)
        if there is not None and not force:
            problem = f"{there} exists already: give another name, or --force to replace it"
    if problem:
        raise WorkerError(ErrorCode.INVALID_INPUT, f"{target}: {problem}")


def holds(path: Path, cell_sets: CellSets) -> bool:
    """Return whether a file holds these cell sets."""
    try:
        return path.read_bytes() == cell_sets.encode()
    except OSError:
        return False


def _replace(temporary: Path, target: Path) -> None:
    if target.is_dir():  # a folder cannot be renamed over another
        old = target.with_name(f".{target.name}.{secrets.token_hex(6)}.old")
        target.rename(old)
        temporary.rename(target)
        _remove(old)
    elif temporary.is_dir() and target.exists():
        target.unlink()
        temporary.rename(target)
    else:
        temporary.replace(target)


def replace_file(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
