"""The folder of stores: the source of each, locks on stores being made, and the removal of old ones."""

import errno
import fcntl
import hashlib
import json
import os
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.store.index import VERSION
from cellworker.experiment.store.store import StoredExperiment, file_id
from cellworker.experiment.store.sync_folder import sync_folder
from cellworker.formats.common.companions import companions_of
from cellworker.formats.common.kinds import files_below
from cellworker.formats.common.matrices.matrix_choice import MatrixChoice
from cellworker.formats.common.write_limit import size_of
from cellworker.formats.opening.unused_stores import remove_unused
from cellworker.identifiers import FileName, StoreName

__all__ = ["READER_VERSION", "Fingerprint", "Shelf", "keyed", "store_file"]

READER_VERSION = 5
"""Raised whenever readers' results for the same file change; older stores are then made again."""

_SUFFIX = f"-{READER_VERSION}.{VERSION}.h5ad"
_WAIT = 0.1
_HASHED_BYTES = 1 << 18  # at a time, as hashlib.file_digest does
_BEHIND_PATH = "\0"
"""Divides a source's path from the choice of its matrices; no path holds it."""
_WRITABLE = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH
_ABANDONED_S = 3600.0
"""Seconds without a write after which a temporary file counts as abandoned."""

OnWait = Callable[[str, float | None], None]
"""Called repeatedly while another process is awaited; raising ends the wait."""


def keyed(content: str, choice: MatrixChoice) -> str:
    """Return the key of the store that is made from a source with this content hash and a choice of its matrices."""
    if not choice:
        return content
    return hashlib.sha256(json.dumps([content, choice.to_json()], sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """A signature that shows, without reading it, that a file is unchanged; for a folder, of all its files together."""

    size: int
    mtime_ns: int
    inode: int

    @classmethod
    def of(cls, source: Path) -> "Fingerprint":
        """Look at a file.

        Raises
        ------
        WorkerError
            ``EXPERIMENT_NOT_FOUND``.
        """
        try:
            status = source.stat()
            if stat.S_ISDIR(status.st_mode):
                return cls._of_folder(source)
        except OSError as error:
            message = f"{source.name} cannot be looked at: {error.strerror or error}"
            raise WorkerError(ErrorCode.EXPERIMENT_NOT_FOUND, message) from None
        return cls(status.st_size, status.st_mtime_ns, status.st_ino)

    @classmethod
    def _of_folder(cls, folder: Path) -> "Fingerprint":
        above = len(os.fspath(folder))  # the same folder, however its path is said
        files = sorted((path[above:], st.st_size, st.st_mtime_ns, st.st_ino) for path, st in files_below(folder))
        mark = hashlib.sha256("\n".join(map(repr, files)).encode()).digest()
        newest = max((file[2] for file in files), default=0)
        return cls(sum(file[1] for file in files), newest, int.from_bytes(mark[:8], "big"))


class Shelf:
    """Stores by the content of their source. Safe to use from many processes at once.

    Parameters
    ----------
    folder
        Made when it is missing.
    max_bytes
        The least recently opened stores are removed beyond it.
    choice
        The user's choice of matrices: each choice has its own stores.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` naming STORE_DIR when the folder cannot be made.
    """

    def __init__(self, folder: Path, max_bytes: int, choice: MatrixChoice | None = None) -> None:
        self.choice = choice or MatrixChoice()
        try:
            self._locks = folder.resolve() / ".locks"
            self._locks.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            message = f"environment variable STORE_DIR: {folder} cannot be made ({error.strerror})"
            raise WorkerError(ErrorCode.INVALID_INPUT, message) from None
        self.folder = folder.resolve()
        self._max_bytes = max_bytes
        self._index = self.folder / "index.json"

    def store_of(self, key: StoreName) -> Path:
        """Return where the store of a source with this content hash is, whether or not it exists."""
        return self.folder / store_file(key)

    def adopt(self, spool: Path, key: StoreName) -> Path:
        """Put a store that was written whole in a spool folder, under its own name, among the others.

        It is read-only from then on: a copy to its name by mistake is refused, where it would cut off what is mapped.

        Raises
        ------
        WorkerError
            ``INVALID_INPUT`` naming STORE_DIR.
        """
        store = self.store_of(key)
        try:
            written = spool / store_file(key)
            written.chmod(written.stat().st_mode & ~_WRITABLE)
            written.replace(store)
            sync_folder(self.folder)
        except OSError as error:
            raise self._unwritable(error) from error
        return store

    @staticmethod
    def cell_sets_of(store: Path) -> Path:
        """Return where the derived cell sets of a store are, whether or not they exist."""
        return store.with_name(store.name.removesuffix(".h5ad") + ".cell_sets.json")

    @staticmethod
    def parsed_cell_sets_of(store: Path) -> Path:
        """Return where large cell sets are kept as they were parsed, whether or not they exist."""
        return store.with_name(store.name.removesuffix(".h5ad") + ".cell_sets.parsed")

    def known(self, source: Path) -> Path | None:
        """Return the store made from a source that has not changed since, without reading the source.

        The matrices that were read beside it must not have changed either.
        """
        entry = self._entries().get(self._name(source))
        if entry is None:
            return None
        beside = companions_of(source.resolve().parent, entry.get("companions"))
        key = StoreName(entry["key"])
        if entry != self._entry(Fingerprint.of(source), key, beside):
            return None
        store = self.store_of(key)
        return store if store.exists() else None

    def same_content(self, source: Path, size: int, stop: NDArray[np.int32]) -> Path | None:
        """Return the store made from another file of this size with the same content: a copy, or it before a touch.

        The whole file is read; that ends when the first element of `stop` is not 0.
        """
        keys = [StoreName(entry["key"]) for entry in self._entries().values() if entry.get("size") == size]
        stores: dict[str, Path] = {key: self.store_of(key) for key in keys}
        if not any(store.exists() for store in stores.values()):
            return None
        try:
            key = keyed(_hash_until(stop, source), self.choice)
        except OSError:
            return None
        store = stores.get(key)
        return store if store is not None and store.exists() else None

    def sources_of(self, store: Path) -> list[Path]:
        """Return the files that a store was made from and that are still of the same size, the surest first.

        A file that was only touched since has the same content, one that was replaced by another of its size has not:
        readers check its hash.
        """
        found: list[tuple[bool, Path]] = []
        for name, entry in self._entries().items():
            if store_file(StoreName(entry["key"])) == store.name:
                path = Path(name.partition(_BEHIND_PATH)[0])
                with suppress(WorkerError):
                    seen = Fingerprint.of(path)
                    if seen.size == entry.get("size"):
                        touched = (seen.mtime_ns, seen.inode) != (entry.get("mtime_ns"), entry.get("inode"))
                        found.append((touched, path))
        return [path for _, path in sorted(found)]

    def remember(
        self, source: Path, seen: Fingerprint, store: Path, companions: dict[str, list[int]] | None = None
    ) -> None:
        """Note that a store was made from a source as it was when `seen`, and from files beside it."""
        key = StoreName(store.name.removesuffix(_SUFFIX))
        with self._locked("index"):
            entries = {
                path: entry
                for path, entry in self._entries().items()
                if self.store_of(StoreName(entry["key"])).exists()
            }
            entries[self._name(source)] = self._entry(seen, key, companions or {})
            self.write(self._index, json.dumps(entries, indent=1).encode())

    def _name(self, source: Path) -> str:
        choice = json.dumps(self.choice.to_json(), sort_keys=True) if self.choice else ""
        return str(source.resolve()) + (_BEHIND_PATH + choice if choice else "")

    def write(self, path: Path, content: bytes) -> None:
        """Write a small file of the folder, whole or not at all.

        Raises
        ------
        WorkerError
            ``DISK_FULL``, or ``INVALID_INPUT`` naming STORE_DIR.
        """
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
        try:
            temporary.write_bytes(content)
            temporary.replace(path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                message = f"there is no room for {path.name}: free some space on its disk, or set STORE_DIR"
                raise WorkerError(ErrorCode.DISK_FULL, message) from error
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> WorkerError:
        message = f"environment variable STORE_DIR: {self.folder} cannot be written ({error.strerror or error})"
        return WorkerError(ErrorCode.INVALID_INPUT, message)

    def used(self, store: Path) -> None:
        """Note that a store is in use now."""
        with suppress(OSError):
            os.utime(store)

    @contextmanager
    def building(self, source: Path, waiting: OnWait | None = None) -> Iterator[Path]:
        """Hold the lock for reading a source, and a folder for spool files.

        The folder is removed in every case; one that a killed process left is removed by the next.
        """
        name = "build-" + hashlib.sha256(str(source.resolve()).encode()).hexdigest()[:24]
        with self._locked(name, waiting):
            spool = self.folder / FileName(f"{name}.spool")
            shutil.rmtree(spool, ignore_errors=True)
            try:
                spool.mkdir(mode=0o700)
                yield spool
            finally:
                shutil.rmtree(spool, ignore_errors=True)

    def sweep(self) -> None:
        """Remove half-written files of killed processes; files of live processes are locked, and stay."""
        for spool in self.folder.glob("build-*.spool"):
            with suppress(BlockingIOError, WorkerError), self._locked(spool.stem, wait=False):
                shutil.rmtree(spool, ignore_errors=True)
        # Small files on their way to their place; and whole stores, as versions before 0.2 wrote them.
        for temporary in self.folder.glob(".*.tmp"):
            with suppress(OSError):
                if time.time() - temporary.stat().st_mtime > _ABANDONED_S:
                    temporary.unlink()

    def prune(self, keep: Path) -> None:
        """Remove files of killed processes, stores of other versions, and the oldest stores beyond the limit.

        Everything in the folder counts for the limit, also files that others are writing. A store that any process
        has open stays.
        """
        self.sweep()
        stores = []
        for store in self.folder.glob("*.h5ad"):
            with suppress(FileNotFoundError):
                status = store.stat()
                stores.append((store.name.endswith(_SUFFIX), status.st_mtime, status.st_size, store))
        total = size_of(self.folder) - sum(size for _, _, size, _ in stores)
        for current, _, size, store in sorted(stores, reverse=True):
            total += size
            if store != keep and (total > self._max_bytes or not current) and remove_unused(store):
                _remove_beside(store)

    @classmethod
    def discard(cls, experiment: StoredExperiment) -> None:
        """Remove an open store that is damaged, unless another is in its place already."""
        store = experiment.store
        with suppress(OSError):
            if experiment.file_id == file_id(store.stat()):
                _remove_beside(store)
                store.unlink(missing_ok=True)

    def _entries(self) -> dict[str, dict[str, Any]]:
        """Return what is known of sources, by their paths; each names its store by ``key``."""
        try:
            entries = json.loads(self._index.read_bytes())
        except (OSError, ValueError):
            return {}
        if not isinstance(entries, dict):
            return {}
        sound = ((path, entry) for path, entry in entries.items() if isinstance(entry, dict))
        return {path: entry for path, entry in sound if StoreName.fits(str(entry.get("key")))}

    @staticmethod
    def _entry(seen: Fingerprint, key: StoreName, companions: dict[str, list[int]]) -> dict[str, Any]:
        entry: dict[str, Any] = {"size": seen.size, "mtime_ns": seen.mtime_ns, "inode": seen.inode, "key": key}
        return entry | {"companions": companions} if companions else entry

    @contextmanager
    def _locked(self, name: str, waiting: OnWait | None = None, *, wait: bool = True) -> Iterator[None]:
        path = self._locks / FileName(f"{name}.lock")
        descriptor = self._lock(path, waiting, wait=wait)
        try:
            yield
        finally:
            # A process that waits for this file sees that it was removed, and makes a new one.
            path.unlink(missing_ok=True)
            os.close(descriptor)

    def _lock(self, path: Path, waiting: OnWait | None, *, wait: bool) -> int:
        while True:
            try:
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except OSError as error:
                raise self._unwritable(error) from error
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _is_at(descriptor, path):
                    return descriptor
            except BlockingIOError:
                if not wait:
                    os.close(descriptor)
                    raise
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)
            self._wait(path, waiting)

    @staticmethod
    def _wait(path: Path, waiting: OnWait | None) -> None:
        if path.exists():
            if waiting is not None:
                waiting("waiting for another process that reads the same file", None)
            time.sleep(_WAIT)


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether an open file still has its name: another process may have removed it and made a new one."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def store_file(key: StoreName) -> FileName:
    """Return the name of a store's file."""
    return FileName(f"{key}{_SUFFIX}")


def _hash_until(stop: NDArray[np.int32], source: Path) -> str:
    """Return the SHA-256 of a file in hex, or of the part of it that was read before `stop`."""
    digest, block = hashlib.sha256(), memoryview(bytearray(_HASHED_BYTES))
    with source.open("rb", buffering=0) as file:
        while not stop[0] and (n_bytes := file.readinto(block)):
            digest.update(block[:n_bytes])
    return digest.hexdigest()


def _remove_beside(store: Path) -> None:
    for path in (Shelf.cell_sets_of(store), Shelf.parsed_cell_sets_of(store)):
        path.unlink(missing_ok=True)
