"""Telling the kinds of experiment files apart by what is in them, and one content from another by its hash."""

import hashlib
import json
from pathlib import Path

__all__ = ["content_hash", "is_anndata", "is_hdf5", "is_zarr"]

_HDF5 = b"\x89HDF\r\n\x1a\n"
_ROOTS = ("zarr.json", ".zgroup")


def is_hdf5(path: Path) -> bool:
    """Tell an HDF5 file by its first bytes."""
    try:
        with path.open("rb") as file:
            return file.read(len(_HDF5)) == _HDF5
    except OSError:
        return False


def is_zarr(path: Path) -> bool:
    """Tell a folder that is a Zarr store by the file that describes its root."""
    return path.is_dir() and any((path / name).is_file() for name in _ROOTS)


def is_anndata(path: Path) -> bool:
    """Tell what AnnData may be in from what it cannot be in."""
    return is_zarr(path) or is_hdf5(path)


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
