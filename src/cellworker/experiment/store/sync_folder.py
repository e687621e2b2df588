"""Makes names in a folder survive a power failure."""

import os
from pathlib import Path

__all__ = ["sync_folder"]


def sync_folder(folder: Path) -> None:
    """Write a folder's names to the disk, so that a file renamed into it survives a power failure.

    Raises
    ------
    OSError
        When the folder cannot be opened or written.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
