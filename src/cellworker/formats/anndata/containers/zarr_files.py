"""The files of an untrusted Zarr store, listed once, so that no array asks the file system again."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from cellworker.formats.anndata.containers.tree import damaged, refused
from cellworker.formats.common.folder_hash import FolderHash

__all__ = ["DESCRIPTIONS", "MAX_FILES", "StoreFiles"]

DESCRIPTIONS: Final = ("zarr.json", ".zarray", ".zgroup")
"""Names of files, one of which every group and array has."""
MAX_FILES: Final = 5_000_000
_ATTRIBUTES: Final = ".zattrs"
_MAX_JSON: Final = 64 << 20
_MAX_KNOWN, _MAX_KNOWN_BYTES = 4096, 4096
"""Descriptions that are kept, and the max bytes of one: those of thousands of columns are equal."""


class StoreFiles:
    """The content of a store's folders. Paths are relative to the store, with slashes; its own folder is "".

    Parameters
    ----------
    folder
        The store.
    hashes
        Gets every file that is found, and the content of those that are read.

    Raises
    ------
    WorkerError
        ``EXPERIMENT_UNREADABLE`` for links, for special files, and for too many files.
    """

    def __init__(self, folder: Path, hashes: FolderHash | None = None) -> None:
        self._folder = os.fspath(folder)
        self._hashes = hashes or FolderHash()
        self._known: dict[bytes, dict[str, Any]] = {}
        self._sizes: dict[str, int] = {}
        self._described: dict[str, tuple[str, ...]] = {}
        self._members: dict[str, list[str]] = {}
        self._walk()

    def size(self, place: str) -> int:
        """Return the bytes of all files in a folder and below it; 0 where there is none."""
        return self._sizes.get(place, 0)

    def members(self, place: str) -> list[str]:
        """Return the names of the groups and arrays in a folder, sorted."""
        return sorted(self._members.get(place, ()))

    def description(self, place: str, name: str) -> dict[str, Any] | None:
        """Return a description's content, not to be changed; None where a folder has none of that name."""
        if name not in self._described.get(place, ()):
            return None
        try:
            content = self.content(place, name, _MAX_JSON)
        except OSError as error:
            raise damaged(name, error) from None
        if content is None:
            raise damaged(name, "a description of more than 64 MB")
        known = self._known.get(content)
        if known is not None:
            return known
        try:
            value = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise damaged(name, error) from None
        if not isinstance(value, dict):
            raise damaged(name, "expected an object")
        if len(content) <= _MAX_KNOWN_BYTES and len(self._known) < _MAX_KNOWN:
            self._known[content] = value
        return value

    def attributes(self, place: str) -> dict[str, Any]:
        """Return the attributes that version 2 keeps beside a description."""
        return self.description(place, _ATTRIBUTES) or {}

    def content(self, place: str, name: str, max_bytes: int) -> bytes | None:
        """Return all bytes of a file; None where it has more than `max_bytes`.

        A wide table is a hundred thousand files of a few hundred bytes: each costs four system calls, and no
        buffer that is larger than the file.

        Raises
        ------
        OSError
            Where there is none, or it cannot be read.
        """
        descriptor = os.open(self.path(place, name), os.O_RDONLY | os.O_CLOEXEC)
        try:
            left, parts = os.fstat(descriptor).st_size, []
            if left > max_bytes:
                return None
            while left and (part := os.read(descriptor, left)):
                parts.append(part)
                left -= len(part)
        finally:
            os.close(descriptor)
        found = parts[0] if len(parts) == 1 else b"".join(parts)
        self._hashes.read(f"{place}/{name}" if place else name, found)
        return found

    def path(self, place: str, name: str) -> str:
        """Return where a file of the store is."""
        return "/".join((self._folder, place, name) if place else (self._folder, name))

    def _walk(self) -> None:
        seen, waiting = 0, [""]
        while waiting:
            place = waiting.pop()
            self._sizes[place], files, folders = 0, [], []
            for entry in self._entries(place):
                seen += 1
                if entry.is_dir(follow_symlinks=False):
                    folders.append(f"{place}/{entry.name}" if place else entry.name)
                elif entry.is_file(follow_symlinks=False):
                    files.append(entry.name)
                    size = entry.stat(follow_symlinks=False).st_size
                    self._sizes[place] += size
                    self._hashes.found(f"{place}/{entry.name}" if place else entry.name, size)
                else:
                    raise refused(
                        what=f"{entry.name} in it is a link or no ordinary file",
                        advice="copy the store with its own files",
                    )
            if seen > MAX_FILES:
                raise refused(what=f"it has more than {MAX_FILES:,} files", advice="write it with larger chunks")
            waiting += folders
            self._note(place, files)
        # Added up once, from the deepest: a sum below each array would take quadratic time.
        for place in reversed([*self._sizes][1:]):
            self._sizes[place.rpartition("/")[0]] += self._sizes[place]

    def _note(self, place: str, files: list[str]) -> None:
        described = tuple(name for name in files if name in DESCRIPTIONS or name == _ATTRIBUTES)
        if described:
            self._described[place] = described
        if place and any(name in DESCRIPTIONS for name in described):
            above, _, name = place.rpartition("/")
            self._members.setdefault(above, []).append(name)

    def _entries(self, place: str) -> Iterator[os.DirEntry[str]]:
        try:
            with os.scandir(self.path(place, "") if place else self._folder) as entries:
                yield from entries
        except OSError as error:
            raise damaged(Path(error.filename or "").name, error.strerror) from None
