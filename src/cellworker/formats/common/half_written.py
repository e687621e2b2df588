"""Temporary places for files to be written: a folder beside the target, which the next run removes after a kill.

The folder holds a lock for as long as its process writes. The lock goes with the process, however that ends, so a
folder whose lock is free was left behind, and only those are removed.
"""

import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["half_written", "is_stream", "sweep"]

_ENDING = ".cellworker.tmp"
_FORM = re.compile(r"\..*\.[0-9a-f]{12}\.cellworker\.tmp", re.DOTALL)
_LOCK = ".lock"
_DESCRIPTORS = "/proc/"
_MAX_NAME = 100
"""Characters of the target's name that are repeated, so that the folder's own name is not too long."""

_swept: set[Path] = set()


@contextmanager
def half_written(target: Path) -> Iterator[Path]:
    """Give a place to write to, in a folder of its own beside the target; the folder is removed afterwards.

    The writer renames the complete file to the target; both are in the same file system. What killed processes left
    beside the target is removed first, once in each process.

    Parameters
    ----------
    target
        The file or folder that is to be; its own folder exists.

    Raises
    ------
    OSError
        When the folder may not be written to.
    """
    if target.parent not in _swept:
        sweep(target.parent)
        _swept.add(target.parent)
    folder, lock = _new_folder(target)
    try:
        yield folder / target.name
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def is_stream(target: Path) -> bool:
    """Whether a name is that of a pipe, a device or an open descriptor: it is written to, and no file replaces it.

    ``/dev/stdout`` and ``/dev/fd/63`` lead into ``/proc``, also where the shell has opened a file for them.
    """
    with suppress(OSError):
        if os.path.realpath(target.parent).startswith(_DESCRIPTORS):
            return True
        if target.is_symlink() and os.readlink(target).startswith(_DESCRIPTORS):  # noqa: PTH115 - as text
            return True
    return target.exists() and not target.is_file() and not target.is_dir()


def sweep(folder: Path) -> None:
    """Remove what killed processes left half written in a folder; a process that still writes holds a lock."""
    with suppress(OSError):
        for entry in os.scandir(folder):
            if _FORM.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
                with suppress(OSError):
                    _remove_unlocked(Path(entry.path))


def _remove_unlocked(folder: Path) -> None:
    descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(descriptor)


def _new_folder(target: Path) -> tuple[Path, int]:
    while True:
        folder = target.with_name(f".{target.name[:_MAX_NAME]}.{secrets.token_hex(6)}{_ENDING}")
        folder.mkdir(mode=0o700)
        with suppress(FileNotFoundError, BlockingIOError):
            # Another process's sweep may hold the lock, or have removed the folder: then another is made.
            descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.path.samestat(os.fstat(descriptor), (folder / _LOCK).stat()):
                    return folder, descriptor
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)
