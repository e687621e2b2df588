"""Temporary places, so that a file appears complete or not at all."""

import ctypes
import errno
import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.cell_sets import CellSets
from cellworker.formats.common.half_written import half_written, is_stream
from cellworker.formats.common.kinds import is_zarr

__all__ = ["KINDS", "check_target", "holds", "placed", "remove"]

KINDS = (".rds", ".h5ad", ".zarr", ".h5")
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


@contextmanager
def placed(target: Path) -> Iterator[Path]:
    """Give a place to write to; its content becomes the target when the block ends without an error.

    Raises
    ------
    WorkerError
        ``DISK_FULL``.
    """
    try:
        with half_written(target) as temporary:
            yield temporary
            _replace(temporary, target)
    except OSError as error:
        # h5py hides the error number in its sentence.
        if error.errno in _FULL or any(f"errno = {code}," in str(error) for code in _FULL):
            message = f"there is no room for {target}: free some space on its disk"
            raise WorkerError(ErrorCode.DISK_FULL, message) from error
        raise


def check_target(source: Path, target: Path, kind: str, written: tuple[Path, ...], *, force: bool) -> None:
    """Refuse a target that cannot be written, or that exists and may not be replaced."""
    problem = ""
    if kind not in KINDS:
        problem = f"end its name in {', '.join(KINDS[:-1])} or {KINDS[-1]}"
    elif not target.parent.is_dir():
        problem = f"there is no folder {target.parent}"
    elif target.exists() and source.exists() and target.samefile(source):
        problem = "that is the experiment itself: give another name"
    elif is_stream(target):
        problem = "that is a pipe or a device: name a file"
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


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _replace(temporary: Path, target: Path) -> None:
    if target.is_dir():  # a folder cannot be renamed over another
        if not _exchanged(temporary, target):
            old = target.with_name(f".{target.name}.{secrets.token_hex(6)}.old")
            target.rename(old)
            temporary.rename(target)
            remove(old)
    elif temporary.is_dir() and target.exists():
        target.unlink()
        temporary.rename(target)
    else:
        temporary.replace(target)


def _exchanged(one: Path, other: Path) -> bool:
    """Exchange two folders in one step, so that the name always exists; return whether the system can."""
    if sys.platform != "linux":
        return False
    try:
        rename = ctypes.CDLL(None).renameat2
    except AttributeError:  # a C library older than 2018
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return bool(rename(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0)
