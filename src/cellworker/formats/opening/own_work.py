"""A person's own work in local runs (cell sets, new clusters), kept beside the experiment's file.

It is in ``<file>.cellworker.json``; where that folder may not be written to, in the user's data folder
(``$XDG_DATA_HOME/cellworker``, else ``~/.local/share/cellworker``). The file's own cell sets are never changed.

The document holds all cell sets as they were left, which of them are the person's own, and the barcodes of the own
ones' cells. When the file has been replaced by other content, the own sets are found again by these barcodes; the
document of the older content is kept under another name before it is written over.
"""

import contextlib
import fcntl
import functools
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson
from numpy.typing import NDArray

from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.cell_sets import CellClass, CellSet, CellSets
from cellworker.formats.common.whole_files import write_whole

__all__ = ["OwnWork", "OwnWorkFile", "may_write", "own_part", "version_of"]

_SUFFIX: Final = ".cellworker.json"
_VERSION: Final = 1
_FIELDS: Final = ("cellworker", "experiment", "base", "own", "cells", "barcodes")


@dataclass(frozen=True, slots=True)
class OwnWork:
    """A person's own work, as read.

    Attributes
    ----------
    cell_sets
        All cell sets: the file's, and the person's own.
    own
        The person's own alone: in a class of the file only the sets that are not the file's.
    path
        Where it is.
    notes
        Sets that are missing in a file that was replaced, in sentences.
    """

    cell_sets: CellSets
    own: CellSets
    path: Path
    notes: list[str] = field(default_factory=list)

    @property
    def n_sets(self) -> int:
        """Number of the person's own cell sets."""
        return sum(1 for _ in self.own.sets())


class OwnWorkFile:
    """A person's own work on one experiment.

    Parameters
    ----------
    source
        The experiment's file, or the folder of its Zarr store.
    key
        Names its content.
    base
        The cell sets that the file has without it.
    cell_ids, barcodes
        Of the experiment, in matrix order: int32 ``(n_cells,)``, and what returns as many names.
    keep_out
        Never write beside `source`, even where it is possible: for the bundled sample.
    earlier
        Where version 0.1 kept such work, as a plain cell_sets.json; read as long as there is no newer.
    """

    def __init__(
        self,
        source: Path,
        key: str,
        base: CellSets,
        cell_ids: NDArray[np.int32],
        barcodes: Callable[[], Sequence[str]],
        *,
        keep_out: bool = False,
        earlier: Path | None = None,
    ) -> None:
        resolved = source.resolve()
        mark = hashlib.sha256(os.fsencode(resolved)).hexdigest()[:16]
        self.beside = resolved.with_name(resolved.name + _SUFFIX)
        self.in_data_folder = _data_folder() / f"{resolved.name[:100]}-{mark}{_SUFFIX}"
        self._key, self.base = key, base
        self._cell_ids, self._barcodes = cell_ids, barcodes
        self._keep_out, self._earlier = keep_out, earlier
        self._seen: tuple[object, OwnWork] | None = None

    def read(self) -> OwnWork | None:
        """Return the work, None where there is none.

        Raises
        ------
        WorkerError
            ``CELL_SETS_INVALID``: the document is damaged; it is left as it is.
        """
        path = self._newest()
        if path is None:
            return None
        seen = (path, version_of(path))
        if self._seen is None or self._seen[0] != seen:
            self._seen = (seen, self._parse(path))
        return self._seen[1]

    def version(self) -> str | None:
        """Name the current content without reading it; None where there is no work."""
        path = self._newest()
        return None if path is None else version_of(path)

    def write(self, content: bytes) -> Path:
        """Keep a whole cell_sets.json; returns where.

        Raises
        ------
        WorkerError
            ``CELL_SETS_UPDATE_FAILED`` when there is no place for it, ``DISK_FULL``.
        """
        cell_sets = CellSets.parse(content)
        own = own_part(self.base, cell_sets)
        cells = np.intersect1d(own.all_cell_ids(), self._cell_ids)
        places = np.argsort(self._cell_ids, kind="stable")
        found = places[np.searchsorted(self._cell_ids, cells, sorter=places)]
        barcodes = self._barcodes()
        document = {
            "cellworker": _VERSION,
            "experiment": self._key,
            "base": self._base_hash,
            "own": _described(self.base, cell_sets, own),
            "cells": cells.tolist(),
            "barcodes": [barcodes[place] for place in found.tolist()],
            **orjson.loads(content),
        }
        path = self.place()
        try:
            self._put_aside(path)
            write_whole(path, orjson.dumps(document))
        except OSError as error:
            message = f"The cell sets were not changed: {path} cannot be written ({error.strerror or error})."
            raise WorkerError(ErrorCode.CELL_SETS_UPDATE_FAILED, message) from error
        return path

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other processes from changing the work at the same time."""
        folder = self.place().parent
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)  # a lock on the folder leaves no file behind
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    @functools.cached_property
    def _base_hash(self) -> str:
        """Hash of the cell sets of the file; made when there is something to compare it with."""
        return hashlib.sha256(self.base.encode()).hexdigest()

    def _newest(self) -> Path | None:
        found = [path for path in (self.beside, self.in_data_folder) if path.is_file()]
        if not found and self._earlier is not None and self._earlier.is_file():
            return self._earlier
        return max(found, key=lambda path: path.stat().st_mtime_ns, default=None)

    def place(self) -> Path:
        """Return the file that the next change is written to."""
        return self.beside if not self._keep_out and may_write(self.beside) else self.in_data_folder

    def _put_aside(self, path: Path) -> None:
        """Keep the document of an older content, which may name cells that the new one has not."""
        newest = self._newest()
        if newest is None or newest == self._earlier:
            return
        key = str(_document(newest).get("experiment"))
        if key != self._key:
            name = path.name.removesuffix(_SUFFIX) + f".{_plain(key)[:12]}{_SUFFIX}"
            write_whole(path.with_name(name), newest.read_bytes())

    def _parse(self, path: Path) -> OwnWork:
        document = _document(path)
        if path == self._earlier:
            document |= {"experiment": self._key, "base": self._base_hash}
        elif document.get("cellworker") != _VERSION:
            raise _damaged(path, "it was not written by this version of cellworker; a later one reads it")
        stored = orjson.dumps({name: value for name, value in document.items() if name not in _FIELDS})
        try:
            cell_sets = CellSets.parse(stored)
        except WorkerError as error:
            raise _damaged(path, error.message.rstrip(".")) from None
        if (document.get("experiment"), document.get("base")) == (self._key, self._base_hash):
            return OwnWork(cell_sets, own_part(self.base, cell_sets), path)
        notes: list[str] = []
        if document.get("experiment") != self._key:
            cell_sets = self._found_again(cell_sets, document, path, notes)
        merged = _merged(self.base, cell_sets, document, path)
        return OwnWork(merged, own_part(self.base, merged), path, notes)

    def _found_again(self, cell_sets: CellSets, document: dict[str, Any], path: Path, notes: list[str]) -> CellSets:
        """Return the cell sets with the ids that their cells have now."""
        cells, barcodes = document.get("cells"), document.get("barcodes")
        if not (isinstance(cells, list) and isinstance(barcodes, list) and len(cells) == len(barcodes)):
            raise _damaged(path, "its lists of cells and barcodes do not belong together")
        now = dict(zip(self._barcodes(), self._cell_ids.tolist(), strict=True))
        try:
            moved = {cell: now[barcode] for cell, barcode in zip(cells, barcodes, strict=True) if barcode in now}
        except TypeError:
            raise _damaged(path, "its lists of cells and barcodes hold something else") from None

        def found(item: CellSet) -> CellSet:
            ids = [moved[cell] for cell in item.cell_ids.tolist() if cell in moved]
            if item.key in own and len(ids) < len(item.cell_ids):
                gone = len(item.cell_ids) - len(ids)
                notes.append(
                    f"{gone:,} of the {len(item.cell_ids):,} cells of {item.name!r} are not in the file any more"
                )
            return replace(item, cell_ids=np.array(ids, np.int32))

        own = {key for one in _own_of(document, path) for key in one["sets"]}
        classes = [replace(item, children=[found(child) for child in item.children]) for item in cell_sets.classes]
        return CellSets(classes, cell_sets.extra)


def version_of(path: Path) -> str:
    """Name the content of a file that `write_whole` writes, without reading it."""
    # each content is written to a file of its own, which takes the place of the one before
    status = path.stat()
    return f"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}"


def own_part(base: CellSets, current: CellSets) -> CellSets:
    """Return what is in `current` and not in `base`: whole classes, and in known classes the sets that are new there.

    A class that lacks a set of `base`, as new clusters replace the old, is the person's own as a whole.
    """
    out, known_classes = [], base.classes_by_key()
    for item in current.classes:
        before = known_classes.get(item.key)
        if _replaced(before, item):
            out.append(item)
            continue
        known = {child.key: child for child in before.children} if before is not None else {}
        new = [child for child in item.children if not _same(known.get(child.key), child)]
        if new:
            out.append(replace(item, children=new))
    return CellSets(out)


def _replaced(before: CellClass | None, now: CellClass) -> bool:
    return before is None or bool({child.key for child in before.children} - {child.key for child in now.children})


def may_write(path: Path) -> bool:
    """Whether a file may be replaced; root may do anything, so what is marked read-only counts as well."""
    marked = all(place.stat().st_mode & 0o222 for place in (path, path.parent) if place.exists())
    return marked and os.access(path.parent, os.W_OK)


def _data_folder() -> Path:
    folder = os.environ.get("XDG_DATA_HOME")
    return (Path(folder) if folder else Path.home() / ".local" / "share") / "cellworker"


def _same(one: CellSet | None, other: CellSet) -> bool:
    return (
        one is not None
        and (one.name, one.color) == (other.name, other.color)
        and np.array_equal(one.cell_ids, other.cell_ids)
    )


def _described(base: CellSets, current: CellSets, own: CellSets) -> list[dict[str, Any]]:
    out, known_before, known_now = [], base.classes_by_key(), current.classes_by_key()
    for item in own.classes:
        whole = _replaced(known_before.get(item.key), known_now.get(item.key) or item)
        out.append({"key": item.key, "whole": whole, "sets": [child.key for child in item.children]})
    return out


def _merged(base: CellSets, stored: CellSets, document: dict[str, Any], path: Path) -> CellSets:
    """Put the own sets of a document into the cell sets that the file has now."""
    classes, known = list(base.classes), stored.classes_by_key()
    places = {item.key: place for place, item in reversed([*enumerate(classes)])}
    for one in _own_of(document, path):
        item, keys = known.get(one["key"]), frozenset(one["sets"])
        if item is None:
            continue
        own = [child for child in item.children if child.key in keys]
        place = places.get(item.key)
        if place is None:
            places[item.key] = len(classes)
            classes.append(replace(item, children=own))
            continue
        kept = [] if one["whole"] else [child for child in classes[place].children if child.key not in keys]
        classes[place] = replace(item if one["whole"] else classes[place], children=[*kept, *own])
    return CellSets(classes, base.extra)


def _own_of(document: dict[str, Any], path: Path) -> list[dict[str, Any]]:
    own = document.get("own")
    if not isinstance(own, list):
        raise _damaged(path, "own: expected a list")
    for one in own:
        sets = one.get("sets") if isinstance(one, dict) else None
        texts = isinstance(sets, list) and all(isinstance(key, str) for key in sets)
        if not (texts and isinstance(one.get("key"), str) and isinstance(one.get("whole"), bool)):
            raise _damaged(path, "own: expected objects with key, whole and sets")
    return own


def _document(path: Path) -> dict[str, Any]:
    try:
        document = orjson.loads(path.read_bytes())
    except OSError as error:
        raise _damaged(path, error.strerror or str(error)) from None
    except orjson.JSONDecodeError as error:
        raise _damaged(path, f"not JSON: {error}") from None
    if not isinstance(document, dict):
        raise _damaged(path, "expected an object")
    return document


def _damaged(path: Path, why: str) -> WorkerError:
    message = (
        f"{path} holds your own cell sets and cannot be read ({why}). It is left as it is: repair it, put a copy of it "
        "there, or move it away to go on without it."
    )
    return WorkerError(ErrorCode.CELL_SETS_INVALID, message)


def _plain(key: str) -> str:
    return "".join(letter for letter in key if letter.isascii() and letter.isalnum()) or "before"
