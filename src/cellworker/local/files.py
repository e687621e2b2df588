"""Moves large files to their place, whole or not at all."""

import errno
import shutil
from pathlib import Path

from cellworker.formats.common.half_written import half_written
from cellworker.formats.common.whole_files import no_space

__all__ = ["place_file"]


def place_file(source: Path, path: Path) -> None:
    """Move a finished file to its place; across file systems it is copied under a temporary name first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        source.replace(path)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise no_space(error, path) from error
        _copy_over(source, path)


def _copy_over(source: Path, path: Path) -> None:
    try:
        with half_written(path) as temporary:
            shutil.copyfile(source, temporary)
            temporary.replace(path)
        source.unlink()
    except OSError as error:
        raise no_space(error, path) from error
