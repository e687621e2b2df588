"""Recognises kinds of experiment files by their content, and hashes contents."""

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

__all__ = ["FOREIGN", "ROOTS", "content_hash", "file_hash", "files_below", "is_hdf5", "is_zarr", "listing_hash"]

_DOUBLINGS = 16
_BLOCK = 1 << 16
_HDF5 = b"\x89HDF\r\n\x1a\n"
ROOTS = ("zarr.json", ".zgroup")
"""Files that describe the root of a Zarr store."""
FOREIGN: Final = frozenset({
    "FOLDER", "LOOM", "MATRIX_MARKET", "MUDATA", "OLD_ANNDATA", "TENX", "TEXT", "ENTRIES", "ZIPPED_ZARR", "ZIP",
})  # fmt: skip
"""Names of the kinds that `cellworker.formats.foreign` reads; here, so that the files of R need not load it."""


def is_hdf5(path: Path) -> bool:
    """Tell an HDF5 file by its signature.

    It is at the beginning, or after a block of the writer's own, at 512 bytes or twice, four times, ... as far
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
    return listing_hash({name: file_hash(os.path.join(path, name)) for name in _files(path)})  # noqa: PTH118 - many thousand files


def listing_hash(hashes: Mapping[str, str]) -> str:
    """Return the hash of a folder from those of its files, by their paths in it with slashes."""
    listing = sorted(hashes.items(), key=lambda item: item[0].split("/"))
    return hashlib.sha256(json.dumps(listing).encode()).hexdigest()


def _files(folder: Path) -> list[str]:
    """Return the paths of all files below a folder, in any order; links are none."""
    found: list[str] = []
    waiting = [""]
    while waiting:
        place = waiting.pop()
        with suppress(PermissionError), os.scandir(folder / place) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(f"{place}{entry.name}/")
                elif entry.is_file(follow_symlinks=False):
                    found.append(f"{place}{entry.name}")
    return found


def file_hash(path: str) -> str:
    """Return the SHA-256 of a file; most are small, and take three calls of the system."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        block = os.read(descriptor, _BLOCK)
        digest = hashlib.sha256(block)
        while len(block) and (block := os.read(descriptor, _BLOCK)):
            digest.update(block)
    finally:
        os.close(descriptor)
    return digest.hexdigest()


def files_below(folder: Path) -> list[tuple[str, os.stat_result]]:
    """Return the paths of all files below a folder and what the system tells of them; links are not followed.

    A Zarr store may have many thousand files: each costs one call of the system, and no `pathlib.Path`.
    """
    found: list[tuple[str, os.stat_result]] = []
    waiting = [os.fspath(folder)]
    while waiting:
        with suppress(PermissionError, FileNotFoundError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                with suppress(OSError):  # one that goes meanwhile hides none of its neighbours
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    else:
                        found.append((entry.path, entry.stat(follow_symlinks=False)))
    return found
