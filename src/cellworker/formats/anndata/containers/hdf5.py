"""Reads untrusted HDF5 files: all objects are inspected before any values are read.

HDF5 files can make a reader open other files (external links, external storage, virtual datasets) or load code
(filters from plugins). AnnData writes none of that, so a file that has any is refused. Only what AnnData writes is let
through: hard links, groups, datasets of numbers and text, stored whole or in chunks, with HDF5's own filters.
"""

import math
import mmap
import os
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Final

# HDF5 looks for filter plugins in system folders; this value forbids that.
os.environ.setdefault("HDF5_PLUGIN_PRELOAD", "::")

import h5py
import numpy as np
from numpy.typing import NDArray

from cellworker.errors import WorkerError
from cellworker.formats.anndata.containers.hdf5_inspection import MAX_OBJECTS, PlainArray, inspect
from cellworker.formats.anndata.containers.inflate import inflate
from cellworker.formats.anndata.containers.tree import Budget, Node, damaged
from cellworker.formats.common.matrices.sparse import blocks

__all__ = ["open_hdf5"]

_BLOCK: Final = 1 << 20  # values that are read at a time
_TEXTS: Final = 1 << 16
_ITERATES: Final = hasattr(h5py.h5d.DatasetID, "chunk_iter")  # since HDF5 1.12.3
_UNREADABLE = (OSError, RuntimeError, KeyError, ValueError, TypeError, UnicodeDecodeError)


@contextmanager
def open_hdf5(path: Path, max_bytes: int, threads: int = 1, *, maps: bool = False) -> Iterator["Hdf5Group"]:
    """Open a file after inspecting all of it.

    Parameters
    ----------
    path
        The file.
    max_bytes
        Max bytes that its arrays may claim together.
    threads
        Threads that inflate compressed chunks.
    maps
        Whether arrays may be maps of the file. A file that becomes shorter then ends the process.

    Raises
    ------
    WorkerError
        ``EXPERIMENT_UNREADABLE`` naming the content that AnnData does not write, and its place.
    """
    try:
        file = h5py.File(path, "r", locking=False)
    except OSError as error:
        raise damaged(path.name, f"HDF5 cannot open it ({error})") from None
    with file, ThreadPoolExecutor(threads, "inflate") as pool:
        with _readable(path.name):
            plain = inspect(file.id, Budget(max_bytes))
        yield Hdf5Group(file, "", _Shared(pool, threads, plain, _pages(file) if maps else None))


def _pages(file: h5py.File) -> mmap.mmap | None:
    """Map all of a file, None where the system cannot."""
    try:
        return mmap.mmap(file.id.get_vfd_handle(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError, NotImplementedError):
        return None


@contextmanager
def _readable(path: str) -> Iterator[None]:
    """Turn h5py's errors for damaged content into a sentence for the file's owner."""
    try:
        yield
    except WorkerError:
        raise
    except _UNREADABLE as error:
        raise damaged(path, error) from None


class _Shared:
    """What all nodes of a file have in common: the pool of threads, and what its inspection found."""

    def __init__(
        self, pool: ThreadPoolExecutor, threads: int, plain: dict[str, PlainArray], pages: mmap.mmap | None
    ) -> None:
        self.submit, self.ahead, self.plain, self.pages = pool.submit, 2 * threads, plain, pages


class Hdf5Group:
    """A group; see `cellworker.formats.anndata.containers.tree.TreeGroup`."""

    def __init__(self, group: h5py.Group, path: str, shared: _Shared) -> None:
        self.path = path
        self._group, self._shared = group, shared
        self.attrs: Mapping[str, Any] = _Attributes(group.id, path or "the root")

    def names(self) -> list[str]:
        """Return the names in it, sorted."""
        with _readable(self.path):
            return sorted(self._group)

    def get(self, name: str) -> Node | None:
        """Return a member by name or path."""
        path = f"{self.path}/{name}".lstrip("/")
        with _readable(path):
            try:
                item = h5py.h5o.open(self._group.id, name.encode())
            except _UNREADABLE:
                if name in self._group:
                    raise
                return None
            if isinstance(item, h5py.h5g.GroupID):
                return Hdf5Group(h5py.Group(item), path, self._shared)
            return Hdf5Array(item, path, self._shared)


class Hdf5Array:
    """A dataset; see `cellworker.formats.anndata.containers.tree.Array`."""

    def __init__(self, dataset: Any, path: str, shared: _Shared) -> None:  # noqa: ANN401 - h5py has no types
        self.path = path
        self._id, self._shared = dataset, shared
        self.attrs: Mapping[str, Any] = _Attributes(dataset, path)
        known = shared.plain.get(path)
        self.shape: tuple[int, ...]
        self.shape, dtype = known if known is not None else (tuple(dataset.shape or ()), dataset.dtype)
        self._stored = dtype
        self._is_plain = dtype.kind in "biufc"
        self._is_text = not self._is_plain and (dtype.kind == "S" or h5py.check_string_dtype(dtype) is not None)
        self.dtype: np.dtype[Any] | None = None if self._is_text else dtype.newbyteorder("=")

    @cached_property
    def _dataset(self) -> h5py.Dataset:
        """The selector of parts; a small column is read whole without it."""
        return h5py.Dataset(self._id)

    def _whole(self) -> NDArray[Any]:
        out = np.empty(self.shape, self._stored)
        self._id.read(h5py.h5s.ALL, h5py.h5s.ALL, out, _in_memory(self._stored))
        return out

    def read(self, start: int = 0, stop: int | None = None) -> NDArray[Any]:
        """Return the numbers of some rows, or of all."""
        if not self._is_plain:
            raise damaged(self.path, "expected numbers")
        with _readable(self.path):
            if not self.shape:
                return np.asarray(self._dataset[()], self.dtype)
            if not start and (stop is None or stop >= self.shape[0]) and 0 not in self.shape:
                return np.asarray(self._whole(), self.dtype)
            return np.asarray(self._dataset[start:stop], self.dtype)

    def mapped(self) -> NDArray[Any] | None:
        """Return the numbers where they lie; see `cellworker.formats.anndata.containers.tree.Mapped`."""
        pages, stored = self._shared.pages, self._stored
        if pages is None or not self._is_plain or not stored.isnative or not self.shape or 0 in self.shape:
            return None
        with _readable(self.path):
            contiguous = self._id.get_create_plist().get_layout() == h5py.h5d.CONTIGUOUS
            begin = self._id.get_offset() if contiguous else None  # None: no value was ever written
        size = math.prod(self.shape)
        if begin is None or begin % stored.itemsize or begin + size * stored.itemsize > len(pages):
            return None
        return np.frombuffer(pages, stored, size, begin).reshape(self.shape)

    def rows_at_once(self) -> int:
        """Return a whole number of chunks that comes to about a million values."""
        width = max(1, int(np.prod(self.shape[1:])))
        rows = max(1, _BLOCK // width)
        high = self._dataset.chunks[0] if self._dataset.chunks else 1
        return max(high, rows // high * high) if high * width <= 8 * _BLOCK else rows

    def blocks(self) -> Iterator[tuple[int, NDArray[Any]]]:
        """Walk over a one-dimensional array in order."""
        if not self._is_plain or len(self.shape) != 1:
            raise damaged(self.path, "expected a list of numbers")
        if self._inflates():
            yield from self._inflated()
            return
        for start, end in blocks(self.shape[0], _BLOCK):
            yield start, self.read(start, end)

    def _inflates(self) -> bool:
        """Return whether the chunks are plain gzip, which several threads here decompress faster than HDF5 does."""
        return (
            self._dataset.compression == "gzip"
            and not self._dataset.fletcher32
            and self._dataset.scaleoffset is None
            and self._dataset.dtype.itemsize * self._dataset.chunks[0] <= 8 * _BLOCK
            and self.shape[0] // self._dataset.chunks[0] <= MAX_OBJECTS
            and _ITERATES
        )

    def _inflated(self) -> Iterator[tuple[int, NDArray[Any]]]:
        length, step = self.shape[0], self._dataset.chunks[0]
        dtype, shuffled = self._dataset.dtype, bool(self._dataset.shuffle)
        size = step * dtype.itemsize
        waiting: deque[tuple[int, Future[bytes]]] = deque()
        # Asking for one chunk, HDF5 walks over all chunks before it.
        found: set[int] = set()
        with _readable(self.path):
            self._id.chunk_iter(lambda info: found.add(info.chunk_offset[0]))

        def finish() -> tuple[int, NDArray[Any]]:
            start, future = waiting.popleft()
            content = future.result()
            if len(content) != size:
                raise damaged(self.path, f"a piece holds {len(content)} bytes, not {size}")
            if shuffled:
                content = np.frombuffer(content, np.uint8).reshape(dtype.itemsize, step).T.tobytes()
            return start, np.frombuffer(content, dtype)[: length - start].astype(dtype.newbyteorder("="), copy=False)

        for start, end in blocks(length, step):
            stored = start in found
            with _readable(self.path):
                skipped, content = self._id.read_direct_chunk((start,)) if stored else (0, b"")
            if not stored or skipped:  # never written, or stored uncompressed: leave it to HDF5
                while waiting:
                    yield finish()
                yield start, self.read(start, end)
                continue
            waiting.append((start, self._shared.submit(inflate, content, size, self.path)))
            if len(waiting) > self._shared.ahead:
                yield finish()
        while waiting:
            yield finish()

    def texts(self) -> list[str]:
        """Return all strings."""
        if not self._is_text:
            raise damaged(self.path, "expected text")
        with _readable(self.path):
            values = self._whole() if self.shape and 0 not in self.shape else self._dataset[()]
        items = [values] if not self.shape else np.asarray(values).ravel().tolist()
        return [_text(item) for item in items]

    def text_pieces(self) -> Iterator[list[str]]:
        """Walk over the strings of a list of text, some at a time."""
        if not self._is_text or len(self.shape) != 1:
            raise damaged(self.path, "expected a list of text")
        step = max(_TEXTS, self._dataset.chunks[0] if self._dataset.chunks else 1)
        for start, end in blocks(self.shape[0], min(step, _BLOCK)):
            with _readable(self.path):
                values = self._dataset[start:end]
            yield [_text(item) for item in np.asarray(values).tolist()]

    def records(self) -> NDArray[Any]:
        """Return all records, fields of text as str."""
        dtype = self._dataset.dtype
        if not dtype.names:
            raise damaged(self.path, "expected records")
        with _readable(self.path):
            values = np.asarray(self._dataset[()])
        is_text = {name: h5py.check_string_dtype(dtype[name].base) is not None for name in dtype.names}
        for name in dtype.names:
            if dtype[name].base.kind not in "biufc" and (not is_text[name] or dtype[name].shape):
                raise damaged(self.path, f"the field {name} holds neither numbers nor text")
        out = np.empty(values.shape, [(name, object if is_text[name] else dtype[name]) for name in dtype.names])
        for name in dtype.names:
            column = values[name]
            out[name] = (
                np.reshape([_text(item) for item in column.ravel().tolist()], column.shape) if is_text[name] else column
            )
        return out

    def is_null(self) -> bool:
        """Return whether it holds nothing."""
        return self._dataset.shape is None


@lru_cache(maxsize=256)
def _in_memory(dtype: np.dtype[Any]) -> Any:  # noqa: ANN401 - h5py has no types
    return h5py.h5t.py_create(dtype)


class _Attributes(Mapping[str, Any]):
    """The attributes of one object, each read at its first use."""

    def __init__(self, item: Any, path: str) -> None:  # noqa: ANN401 - h5py has no types
        self._id, self._path = item, path

    @property
    def _attrs(self) -> h5py.AttributeManager:
        kind = h5py.Group if isinstance(self._id, h5py.h5g.GroupID) else h5py.Dataset
        return kind(self._id).attrs

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401
        with _readable(f"{self._path}, attribute {name}"):
            if not h5py.h5a.exists(self._id, name.encode()):
                raise _AbsentError(name)
            value = self._attrs[name]
        if isinstance(value, np.ndarray):
            return _plain_list(value)
        return _plain(value)

    def get(self, name: str, default: Any = None) -> Any:  # noqa: ANN401
        try:
            return self[name]
        except _AbsentError:
            return default

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.get(name) is not None

    def __iter__(self) -> Iterator[str]:
        with _readable(f"{self._path}, its attributes"):
            return iter(list(self._attrs))

    def __len__(self) -> int:
        with _readable(f"{self._path}, its attributes"):
            return len(self._attrs)


def _plain_list(values: np.ndarray[Any, Any]) -> list[Any]:
    """Return lists within lists, one for each dimension but the last."""
    if values.ndim > 1:
        return [_plain_list(row) for row in values]
    return [_plain(item) for item in values.ravel().tolist()]


class _AbsentError(LookupError):
    """No attribute of that name."""


def _text(value: Any) -> str:  # noqa: ANN401
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _plain(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value.item() if isinstance(value, np.generic) else value
