"""Files that appear whole or not at all."""

import errno
import os
import shutil
import tempfile
from pathlib import Path

from cellworker.errors import ErrorCode, WorkerError

__all__ = ["place_file", "write_whole"]


def write_whole(path: Path, content: bytes) -> None:
    """Write a file under a temporary name beside it, then rename it.

    Raises
    ------
    WorkerError
        ``DISK_FULL`` when there is no room; nothing is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        raise _told(error, path) from error
    finally:
        temporary.unlink(missing_ok=True)


def place_file(source: Path, path: Path) -> None:
    """Move a finished file to its place; across file systems it is copied under a temporary name first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        source.replace(path)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise _told(error, path) from error
        _copy_over(source, path)


def _copy_over(source: Path, path: Path) -> None:
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    temporary = Path(name)
    try:
        with source.open("rb") as content, os.fdopen(descriptor, "wb") as file:
            shutil.copyfileobj(content, file, 1 << 20)
        temporary.replace(path)
        source.unlink()
    except OSError as error:
        raise _told(error, path) from error
    finally:
        temporary.unlink(missing_ok=True)


def _told(error: OSError, path: Path) -> Exception:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        message = f"There is no space left for {path.name}. Free some and try again."
        return WorkerError(ErrorCode.DISK_FULL, message)
    return error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
