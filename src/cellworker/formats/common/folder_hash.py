"""The content hash of a folder of many small files, most of which are read anyway."""

import hashlib
from pathlib import Path
from typing import Final

from cellworker.formats.common.kinds import file_hash, listing_hash

__all__ = ["FolderHash"]

_SMALL_BYTES: Final = 1 << 16


class FolderHash:
    """Hashes each file of a folder once: small ones as their reader gets their bytes, the others from the disk.

    A wide table is a hundred thousand files, and opening a file takes longer than hashing it.
    """

    def __init__(self) -> None:
        self._names: list[str] = []
        self._large: list[str] = []
        self._hashes: dict[str, str] = {}

    def found(self, name: str, size: int) -> None:
        """Add a file: its path in the folder, with slashes, and its bytes."""
        self._names.append(name)
        if size > _SMALL_BYTES:
            self._large.append(name)

    def read(self, name: str, content: bytes) -> None:
        """Take the whole content of a file."""
        if len(content) <= _SMALL_BYTES:
            self._hashes[name] = hashlib.sha256(content).hexdigest()

    def hash_large(self, folder: Path) -> None:
        """Hash the files that are too large to be hashed by their reader; meant for another thread."""
        for name in self._large:
            self._hashes[name] = file_hash(f"{folder}/{name}")

    def finish(self, folder: Path) -> str:
        """Return the hash of the folder, as `content_hash` gives it."""
        for name in self._names:
            if name not in self._hashes:
                self._hashes[name] = file_hash(f"{folder}/{name}")
        return listing_hash({name: self._hashes[name] for name in self._names})
