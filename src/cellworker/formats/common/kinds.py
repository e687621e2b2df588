"""Telling the kinds of experiment files apart by what is in them, and one content from another by its hash."""

import hashlib
import json
import os
from pathlib import Path

__all__ = ["ROOTS", "content_hash", "is_hdf5", "is_zarr"]

_DOUBLINGS = 16
_HDF5 = b"\x89HDF\r\n\x1a\n"
ROOTS = ("zarr.json", ".zgroup")
"""Files that describe the root of a Zarr store."""


def is_hdf5(path: Path) -> bool:
    """Tell an HDF5 file by its signature.

    It lies at the beginning, or after a block of the writer's own, at 512 bytes or twice, four times, ... as far
    (HDF5 file format specification 3.0, II.A). MuData puts its own name there.
    """
    try:
        with path.open("rb") as file:
            places = (0, *(512 << power for power in range(_DOUBLINGS)))
            return any(os.pread(file.fileno(), len(_HDF5), place) == _HDF5 for place in places)
    except OSError:
        return False


def is_zarr(path: Path) -> bool:
    """Tell a folder that is a Zarr store by the file that describes its root."""
    return path.is_dir() and any((path / name).is_file() for name in ROOTS)


def content_hash(path: Path) -> str:
    """Return the SHA-256 of a file in hex; of a folder, that of its files' names and hashes in order of their names."""
    if not path.is_dir():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    listing = []
    for item in sorted(path.rglob("*")):
        if item.is_file() and not item.is_symlink():
            with item.open("rb") as file:
                listing.append((item.relative_to(path).as_posix(), hashlib.file_digest(file, "sha256").hexdigest()))
    return hashlib.sha256(json.dumps(listing).encode()).hexdigest()
