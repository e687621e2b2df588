"""Finds the files of disk-backed layers in a folder or an archive beside the object, and nowhere else.

The path in an object (absolute, on the machine that wrote it) is never opened directly: its
last parts are looked for in the object's own folder, so that no object can name a file of this machine.
"""

import hashlib
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cellworker.errors import ErrorCode, WorkerError
from cellworker.formats.bpcells.broken import MatrixError, damaged
from cellworker.formats.bpcells.tar import members
from cellworker.formats.common.companions import ARCHIVE, Companion
from cellworker.formats.r.rds.limits import Limits
from cellworker.formats.r.rds.spool import Spool
from cellworker.formats.r.rds.stream import ByteStream

__all__ = ["MatrixFiles", "Outside"]

_ALLOWED: Final = frozenset({
    "version", "storage_order", "shape", "idxptr", "index", "index_data", "index_idx", "index_idx_offsets",
    "index_starts", "val", "val_data", "val_idx", "val_idx_offsets",
})  # fmt: skip
"""The files of a matrix that are read; names of rows and columns are taken from the object."""
_CHUNK = 1 << 20
_MAX_PARTS = 64


@dataclass(frozen=True, slots=True)
class MatrixFiles:
    """The files of one matrix by name, as bytes; long ones are maps of files."""

    name: str
    files: Mapping[str, NDArray[np.uint8]]


class Outside:
    """The matrices beside one object.

    Parameters
    ----------
    folder
        The object's.
    spool
        Takes what an archive holds; its owner removes it.
    limits
        Ceilings for archives.

    Attributes
    ----------
    companions
        The files that were read, as they were then.
    """

    def __init__(self, folder: Path, spool: Path, limits: Limits) -> None:
        self._folder = folder
        self._spool = spool
        self._limits = limits
        self._hash = hashlib.sha256()
        self._archive: dict[str, dict[str, NDArray[np.uint8]]] | None = None
        self._found: dict[str, MatrixFiles] = {}
        self.companions: dict[str, Companion] = {}

    def key(self, sha256: str) -> str:
        """Return what names the object's content together with that of the matrices read, given its own SHA-256."""
        if not self.companions:
            return sha256
        whole = self._hash.copy()
        whole.update(sha256.encode())
        return whole.hexdigest()

    def matrix(self, path: str) -> MatrixFiles:
        """Return the files of the matrix that an object places at `path`.

        Raises
        ------
        MatrixError
            When it is not there, or no ordinary folder of ordinary files.
        WorkerError
            ``EXPERIMENT_UNREADABLE`` for a damaged or hostile archive, ``DISK_FULL``.
        """
        parts = [part for part in re.split(r"[/\\]+", path) if part not in ("", ".")][-_MAX_PARTS:]
        name = parts[-1] if parts else ""
        if not name or ".." in parts:
            raise MatrixError(
                found=f"a matrix at {path[:200]!r}", expected="the path of a folder", advice="save the object again"
            )
        if path not in self._found:
            archived = self._archived().get(name)
            files = archived if archived is not None else self._in_folder(parts)
            self._found[path] = MatrixFiles(name, files)
        return self._found[path]

    # ---- the archive ----

    def _archived(self) -> dict[str, dict[str, NDArray[np.uint8]]]:
        """Return the files of each top folder of the archive, read once."""
        if self._archive is None:
            path = self._folder / ARCHIVE
            # Also where there is none: one that appears later goes before the folder.
            self.companions[ARCHIVE] = Companion.of(path)
            self._archive = self._unpacked(path) if path.exists() else {}
        return self._archive

    def _unpacked(self, path: Path) -> dict[str, dict[str, NDArray[np.uint8]]]:
        found: dict[str, dict[str, NDArray[np.uint8]]] = {}
        if self._limits.writing is not None:
            self._limits.writing.admit(path.stat().st_size)
        spool = Spool(self._spool, "archive", self._limits.writing)
        try:
            stream = ByteStream(path, self._limits)
            try:
                for member in members(stream):
                    if len(member.parts) == 2 and member.parts[1] in _ALLOWED:
                        pieces = (np.frombuffer(piece, np.uint8) for piece in stream.pieces(member.size, 1))
                        content = spool.keep_arrays(pieces, member.size, np.dtype(np.uint8)) if member.size else _EMPTY
                        found.setdefault(member.parts[0], {})[member.parts[1]] = content
                self._hash.update(f"{ARCHIVE} {stream.finish()}\n".encode())
            finally:
                stream.close()
        except WorkerError as problem:
            if problem.code != ErrorCode.EXPERIMENT_UNREADABLE:
                raise
            raise WorkerError(problem.code, f"{ARCHIVE}: {problem.message}") from None
        return found

    # ---- a folder ----

    def _in_folder(self, parts: list[str]) -> dict[str, NDArray[np.uint8]]:
        for first in range(len(parts) - 1, -1, -1):
            here = parts[first:]
            descriptor = self._opened(here)
            if descriptor is not None:
                try:
                    return self._files(descriptor, "/".join(here))
                finally:
                    os.close(descriptor)
        name = parts[-1]
        raise MatrixError(
            found=f"a matrix on disk, and no folder {name!r} beside the object",
            expected=f"that folder, or {ARCHIVE}",
            advice=f"copy the folder {name!r} into the object's folder, or convert the layer with as(x, 'dgCMatrix')",
        )

    def _opened(self, parts: list[str]) -> int | None:
        """Open a folder step by step; links are not followed."""
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        try:
            descriptor = os.open(self._folder, flags)
        except OSError:
            return None
        for part in parts:
            try:
                inner = os.open(part, flags | os.O_NOFOLLOW, dir_fd=descriptor)
            except OSError:
                return None
            finally:
                os.close(descriptor)
            descriptor = inner
        return descriptor

    def _files(self, folder: int, shown: str) -> dict[str, NDArray[np.uint8]]:
        found: dict[str, NDArray[np.uint8]] = {}
        for name in sorted(_ALLOWED):
            try:
                # Without O_NONBLOCK a named pipe would block the reader until a program writes to it.
                flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
                descriptor = os.open(name, flags, dir_fd=folder)
            except FileNotFoundError:
                continue
            except OSError as problem:
                raise damaged(
                    found=f"{shown}/{name} that cannot be opened ({problem.strerror})", expected="an ordinary file"
                ) from None
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                os.close(descriptor)
                raise damaged(found=f"{shown}/{name} that is no ordinary file", expected="an ordinary file")
            with os.fdopen(descriptor, "rb") as file:
                content = np.memmap(file, np.uint8, "r") if status.st_size else _EMPTY
            self.companions[f"{shown}/{name}"] = Companion.from_status(status)
            if self._limits.writing is not None:
                self._limits.writing.admit(status.st_size)
            self._hash.update(f"{shown}/{name} {status.st_size}\n".encode())
            for start in range(0, len(content), _CHUNK):
                self._hash.update(content[start : start + _CHUNK].data)
            found[name] = content
        return found


_EMPTY = np.zeros(0, np.uint8)
