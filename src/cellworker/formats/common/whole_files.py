"""Writes small files whole or not at all."""

import errno
import os
from pathlib import Path

from cellworker.errors import ErrorCode, WorkerError
from cellworker.formats.common.half_written import half_written

__all__ = ["no_space", "write_whole"]


def write_whole(path: Path, content: bytes) -> None:
    """Write a file under a temporary name beside it, then rename it; the old content stays until then.

    Raises
    ------
    WorkerError
        ``DISK_FULL`` when the disk is full; nothing is left behind.
    OSError
        When the folder may not be written to.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with half_written(path) as temporary:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
    except OSError as error:
        raise no_space(error, path) from error


def no_space(error: OSError, path: Path) -> Exception:
    """Return the error for a file that could not be written: a sentence when the disk is full, else as it was."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        message = f"There is no space left for {path.name}. Free some and try again."
        return WorkerError(ErrorCode.DISK_FULL, message)
    return error
