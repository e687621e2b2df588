"""The local copy of an experiment: which files are current, and their replacement as a whole."""

import contextlib
import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import orjson

from cellworker.errors import ErrorCode, WorkerError
from cellworker.identifiers import ExperimentId, FileName, ObjectName, parse, refuse

__all__ = ["ExperimentFolder", "RemoteFiles", "RemoteObject", "forget_experiment"]

_INCOMING = ".incoming"
_MANIFEST = ".sync.json"
_UPDATING = ".updating"
_PART = ".part"
_NEXT_MANIFEST = _MANIFEST + _PART
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_SERVED = ("r.qs", "r.rds", "matrix_dir.tar.zst")
"""Files that the engine reads: one that is not in the store must not be here (contract 6.3)."""
_NO_SPACE = "There is no room for the experiment's data on the worker's disk."


class RemoteObject(Protocol):
    """One object of the store."""

    @property
    def key(self) -> str:
        """Its name, with the experiment's id in front."""
        ...

    @property
    def size(self) -> int:
        """In bytes."""
        ...

    @property
    def etag(self) -> str:
        """Another one for another content."""
        ...


class RemoteFiles(Protocol):
    """The store's objects of one experiment."""

    async def list(self) -> Sequence[RemoteObject]:
        """Return all objects whose name begins with the experiment's id and a slash."""
        ...

    async def download(self, item: Any, path: Path, on_bytes: Callable[[int], object]) -> None:  # noqa: ANN401
        """Write an object's content to a path.

        Parameters
        ----------
        item
            One of those listed; an error where the store holds another one by now.
        path
            A file that does not exist.
        on_bytes
            Called with numbers of bytes as they arrive.
        """
        ...


class ExperimentFolder:
    """A folder with the same files as the store.

    New files are made under ``.incoming`` and put in place together, while ``.updating`` is there: so the engine,
    which waits for its removal, never reads a file of one version beside a file of another, not even when this process
    is killed in between.

    Parameters
    ----------
    data_dir
        Where the folder is, or will be.
    experiment_id
        Its name; with a slash, what the keys of the experiment's objects begin with.
    """

    def __init__(self, data_dir: Path, experiment_id: ExperimentId) -> None:
        self.path = data_dir / ExperimentId(experiment_id)
        self._prefix = f"{experiment_id}/"
        self._manifest: dict[str, list[Any]] | None = None

    def wanted(self, objects: Sequence[RemoteObject]) -> list[RemoteObject]:
        """Return the objects that are files of this experiment: not empty, and with names that files can have together.

        An object store may hold ``a`` and ``a/b``, where a folder holds one of them: the file that needs no folder goes
        first.
        """
        wanted: dict[ObjectName, RemoteObject] = {}
        for item in objects:
            if item.size and (name := self._name(item.key)) is not None:
                wanted[name] = item
        for name in [*wanted]:
            if any(above in wanted for above in _folders(name)):
                refuse(ObjectName.KIND, name, "a file is where its folder would be")
                del wanted[name]
        return [*wanted.values()]

    def outdated(self, objects: Sequence[RemoteObject]) -> bool:
        """Whether the folder differs from these objects."""
        if (self.path / _UPDATING).exists() or set(self._known()) != {item.key for item in objects}:
            return True
        return any(not self._is_current(item) for item in objects) or bool(self._unexpected(objects))

    def missing(self, objects: Sequence[RemoteObject]) -> list[RemoteObject]:
        """Return the objects that are neither in place nor staged."""
        return [item for item in objects if not self._is_current(item) and not self._is_staged(item)]

    async def fetch(self, files: RemoteFiles, item: RemoteObject) -> None:
        """Stage an object: fetch it, ready to be put in place.

        Raises
        ------
        WorkerError
            ``DISK_FULL``.
        Exception
            Errors of the store's client; `OSError` where it cannot be written, or differs from the listing.
        """
        staged = self._staged(item)
        part = staged.with_name(staged.name + _PART)
        try:
            staged.parent.mkdir(parents=True, exist_ok=True)
            part.unlink(missing_ok=True)
            await files.download(item, part, lambda _: None)
            _verify(part, item.size)
            part.replace(staged)
        except OSError as error:
            raise _named(error) from None
        finally:
            part.unlink(missing_ok=True)

    def commit(self, objects: Sequence[RemoteObject]) -> None:
        """Remove what is no longer in the store, and put the rest in place: the matrix first, files about it last."""
        try:
            self._commit(objects)
        except OSError as error:
            raise _named(error) from None

    def _commit(self, objects: Sequence[RemoteObject]) -> None:
        marker = self.path / _UPDATING
        self.path.mkdir(parents=True, exist_ok=True)
        marker.touch()
        for path in self._unexpected(objects):
            path.unlink(missing_ok=True)
        _remove_empty_folders(self.path)
        known = {item.key: self._known()[item.key] for item in objects if self._is_current(item)}
        self._write(known)
        for item in sorted(objects, key=lambda item: self._local(item.key).name in _SERVED[:2]):
            staged = self._staged(item)
            if item.key not in known and staged.exists():
                local = self._local(item.key)
                local.parent.mkdir(parents=True, exist_ok=True)
                staged.replace(local)
                known[item.key] = [item.etag, item.size, local.stat().st_mtime_ns]
        self._write(known)
        marker.unlink()
        shutil.rmtree(self.path / _INCOMING, ignore_errors=True)

    def _known(self) -> dict[str, list[Any]]:
        """Return the files in place: ETag, size, and time of each by the object's name."""
        if self._manifest is None:
            self._manifest = {}
            with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
                files = orjson.loads((self.path / _MANIFEST).read_bytes())["files"]
                self._manifest = {
                    key: [*entry] for key, entry in files.items() if len(entry) == 3 and self._name(key) is not None
                }
        return self._manifest

    def _write(self, known: dict[str, list[Any]]) -> None:
        temporary = self.path / _NEXT_MANIFEST
        temporary.write_bytes(orjson.dumps({"files": known}, option=orjson.OPT_INDENT_2))
        temporary.replace(self.path / _MANIFEST)
        self._manifest = dict(known)

    def _is_current(self, item: RemoteObject) -> bool:
        entry = self._known().get(item.key)
        if entry is None or entry[:2] != [item.etag, item.size]:
            return False
        try:
            status = os.stat(self._local(item.key))  # noqa: PTH116 - at every request
        except OSError:
            return False
        return [status.st_size, status.st_mtime_ns] == entry[1:]

    def _is_staged(self, item: RemoteObject) -> bool:
        try:
            return self._staged(item).stat().st_size == item.size
        except OSError:
            return False

    def _unexpected(self, objects: Sequence[RemoteObject]) -> list[Path]:
        """Return local files that are served or that we wrote, and that are no longer in the store."""
        names = {item.key for item in objects}
        keys = {*self._known(), *(self._prefix + name for name in _SERVED)} - names
        return [path for path in map(self._local, sorted(keys)) if path.is_file()]

    def _name(self, key: str) -> ObjectName | None:
        """Return the name of a file of this experiment; None for any other key."""
        if not key.startswith(self._prefix):
            return None
        return parse(ObjectName, key.removeprefix(self._prefix), "bucket")

    def _local(self, key: str) -> Path:
        """Return the path of an object's file, of those that `wanted` has returned."""
        return self.path / ObjectName(key.removeprefix(self._prefix))

    def _staged(self, item: RemoteObject) -> Path:
        """Return the temporary path of an object; named by its version, so that a retry can resume."""
        version = hashlib.sha256(f"{item.key}\n{item.etag}".encode()).hexdigest()[:32]
        return self.path / _INCOMING / FileName(version)


def forget_experiment(data_dir: Path, experiment_id: ExperimentId) -> None:
    """Remove the folder of an experiment that was fetched; any other folder of that name stays."""
    folder = data_dir / ExperimentId(experiment_id)
    if any(mark.exists() for mark in (folder / _MANIFEST, folder / _UPDATING, folder / _INCOMING)):
        shutil.rmtree(folder, ignore_errors=True)


def _remove_empty_folders(folder: Path) -> None:
    """Remove a folder without files, and all in it: an object may get the name that was a folder of others before."""
    for path, _, _ in os.walk(folder, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(path)  # noqa: PTH106 - as `os.walk` gives it


def _folders(name: ObjectName) -> list[str]:
    parts = name.split("/")[:-1]
    return ["/".join(parts[: number + 1]) for number in range(len(parts))]


def _verify(path: Path, size: int) -> None:
    found = path.stat().st_size
    if found != size:
        message = f"{found} bytes instead of {size}"
        raise OSError(message)


def _named(error: OSError) -> OSError | WorkerError:
    return WorkerError(ErrorCode.DISK_FULL, _NO_SPACE) if error.errno in _FULL else error
