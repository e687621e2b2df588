"""Reading untrusted Zarr stores (versions 2 and 3, in a folder), without the zarr package.

A store is files of JSON and of compressed pieces. This reader opens regular files below the store's folder only (a
symbolic link anywhere is refused), decodes the codecs of `containers.codecs` and no other, and trusts no
declared size.
"""

import itertools
import struct
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cellworker.formats.anndata.containers.codecs import decompress, split_text, without_sum
from cellworker.formats.anndata.containers.tree import Budget, Node, damaged, refused
from cellworker.formats.anndata.containers.zarr_files import MAX_FILES, StoreFiles
from cellworker.formats.anndata.containers.zarr_layout import ChunkLayout, Codecs, Shard, version_2, version_3
from cellworker.formats.common.folder_hash import FolderHash

__all__ = ["open_zarr"]

_BLOCK: Final = 1 << 22
_MAX_KEPT: Final = 200_000
"""Max descriptions kept in memory; others are read again at their next use."""
_MAX_PIECE: Final = 4 << 30
_MISSING: Final = 2**64 - 1


def open_zarr(path: Path, max_bytes: int, threads: int = 1, hashes: FolderHash | None = None) -> "ZarrGroup":
    """Open a store after inspecting all of its files; `hashes` gets them and what is read of them.

    Raises
    ------
    WorkerError
        ``EXPERIMENT_UNREADABLE`` naming the content that AnnData does not write, and its place.
    """
    root = _node("", _Store(StoreFiles(path, hashes), Budget(max_bytes), threads, path.name))
    if not isinstance(root, ZarrGroup):
        raise damaged(path.name, "its root is no group")
    _claim(root)
    return root


@dataclass(slots=True)
class _Store:
    files: StoreFiles
    budget: Budget
    threads: int
    name: str
    nodes: dict[str, Node] = field(default_factory=dict)


def _claim(group: "ZarrGroup") -> None:
    for name in group.names():
        node = group.get(name)
        if isinstance(node, ZarrGroup):
            _claim(node)
        elif isinstance(node, ZarrArray):
            node.claim()


def _node(path: str, store: _Store) -> Node | None:
    """Return what a folder of the store is; each is read once, when the claims are counted."""
    known = store.nodes.get(path)
    if known is not None:
        return known
    found = _described(path, store)
    if found is not None and len(store.nodes) < _MAX_KEPT:
        store.nodes[path] = found
    return found


def _described(path: str, store: _Store) -> Node | None:
    files, name = store.files, path or store.name
    three = files.description(path, "zarr.json")
    if three is not None:
        attrs = three.get("attributes")
        attributes = attrs if isinstance(attrs, dict) else {}
        if three.get("node_type") == "group":
            return ZarrGroup(path, attributes, store)
        return ZarrArray(path, attributes, store, version_3(name, three))
    two = files.description(path, ".zarray")
    if two is not None:
        return ZarrArray(path, files.attributes(path), store, version_2(name, two))
    if files.description(path, ".zgroup") is not None:
        return ZarrGroup(path, files.attributes(path), store)
    return None


class ZarrGroup:
    """A group; see `cellworker.formats.anndata.containers.tree.TreeGroup`."""

    def __init__(self, path: str, attrs: Mapping[str, Any], store: _Store) -> None:
        self.path = path
        self.attrs = attrs
        self._store = store

    def names(self) -> list[str]:
        """Return the names in it, sorted."""
        return self._store.files.members(self.path)

    def get(self, name: str) -> Node | None:
        """Return a member by name or path."""
        parts = name.split("/")
        if any(part in {"", ".", ".."} or "\0" in part or "\\" in part for part in parts):
            return None
        return _node(f"{self.path}/{name}" if self.path else name, self._store)


class ZarrArray:
    """An array; see `cellworker.formats.anndata.containers.tree.Array`."""

    def __init__(self, path: str, attrs: Mapping[str, Any], store: _Store, layout: ChunkLayout) -> None:
        self.path = path
        self.attrs = attrs
        self.shape = layout.shape
        stored = layout.stored
        self._is_text = stored is None or stored.kind in "US"
        self.dtype: np.dtype[Any] | None = None if stored is None or stored.kind in "US" else stored.newbyteorder("=")
        self._store, self._layout = store, layout
        if prod(layout.chunks) * (stored.itemsize if stored is not None else 8) > _MAX_PIECE:
            raise refused(what=f"{path} has pieces of more than 4 GiB", advice="write it with smaller chunks")
        if prod(-(-n // chunk) for n, chunk in zip(layout.shape, layout.chunks, strict=True)) > MAX_FILES:
            raise refused(what=f"{path} has more than {MAX_FILES:,} pieces", advice="write it with larger chunks")

    def claim(self) -> None:
        """Count it against the store's budget."""
        stored = self._store.files.size(self.path)
        width = self._layout.stored.itemsize if self._layout.stored is not None else 1
        self._store.budget.claim(self.path, prod(self.shape) * width if self.shape else 0, stored)

    def read(self, start: int = 0, stop: int | None = None) -> NDArray[Any]:
        """Return the numbers of some rows, or of all."""
        if self.dtype is None or self.dtype.kind not in "biufcMm":
            raise damaged(self.path, "expected numbers")
        return self._rows(start, stop)

    def records(self) -> NDArray[Any]:
        """Return all records, fields of text as str."""
        if self.dtype is None or not self.dtype.names:
            raise damaged(self.path, "expected records")
        values, dtype = self._rows(0, None), self.dtype
        names = self.dtype.names
        out = np.empty(values.shape, [(name, object if dtype[name].kind in "US" else dtype[name]) for name in names])
        for name in names:
            column = values[name]
            out[name] = np.strings.decode(column, "utf-8", "replace") if column.dtype.kind == "S" else column
        return out

    def is_null(self) -> bool:
        """Return whether it stands for None."""
        return bool(self.attrs.get("encoding-type") == "null")

    def _rows(self, start: int, stop: int | None) -> NDArray[Any]:
        assert self.dtype is not None
        if not self.shape:
            return np.asarray(self._piece(()).reshape(())[()], self.dtype)
        stop = self.shape[0] if stop is None else min(stop, self.shape[0])
        start = min(start, stop)
        out = np.empty((stop - start, *self.shape[1:]), self.dtype)
        high = self._layout.chunks[0]
        others = [range(-(-n // chunk)) for n, chunk in zip(self.shape[1:], self._layout.chunks[1:], strict=True)]
        for row in range(start // high, -(-stop // high)) if stop > start else ():
            for index in itertools.product([row], *others):
                self._lay(out, start, stop, index)
        return out

    def _lay(self, out: NDArray[Any], start: int, stop: int, index: tuple[int, ...]) -> None:
        piece = self._piece(index)
        source, target = [], []
        for axis, (number, chunk) in enumerate(zip(index, self._layout.chunks, strict=True)):
            low, high = (start, stop) if axis == 0 else (0, self.shape[axis])
            first, last = max(low, number * chunk), min(high, (number + 1) * chunk)
            source.append(slice(first - number * chunk, last - number * chunk))
            target.append(slice(first - low, last - low))
        out[tuple(target)] = piece[tuple(source)]

    def rows_at_once(self) -> int:
        """Return a whole number of chunks that comes to about four million values."""
        width = max(1, prod(self.shape[1:]))
        high = self._layout.chunks[0] if self._layout.chunks else 1
        return max(high, max(1, _BLOCK // width) // high * high)

    def blocks(self) -> Iterator[tuple[int, NDArray[Any]]]:
        """Walk over a one-dimensional array in order; pieces are decompressed in threads."""
        if self.dtype is None or self.dtype.kind not in "biuf" or len(self.shape) != 1:
            raise damaged(self.path, "expected a list of numbers")
        step, length, ahead = self._layout.chunks[0], self.shape[0], 2 * self._store.threads
        waiting: deque[tuple[int, Future[NDArray[Any]]]] = deque()
        with ThreadPoolExecutor(self._store.threads, "inflate") as pool:
            for number in range(-(-length // step)):
                waiting.append((number * step, pool.submit(self._piece, (number,))))
                if len(waiting) > ahead:
                    start, future = waiting.popleft()
                    yield start, future.result()[: length - start]
            for start, future in waiting:
                yield start, future.result()[: length - start]

    def texts(self) -> list[str]:
        """Return all strings."""
        if not self._is_text:
            raise damaged(self.path, "expected text")
        if not self.shape:
            return [_text(item) for item in np.atleast_1d(self._piece(())).ravel()[:1].tolist()]
        if len(self.shape) > 1:
            return self._table_of_texts()
        return [text for piece in self.text_pieces() for text in piece]

    def text_pieces(self) -> Iterator[list[str]]:
        """Walk over the strings of a list of text, a chunk at a time."""
        if not self._is_text or len(self.shape) != 1:
            raise damaged(self.path, "expected a list of text")
        step = self._layout.chunks[0]
        for number in range(-(-self.shape[0] // step)):
            piece = self._piece((number,))[: self.shape[0] - number * step].tolist()
            yield [_text(item) for item in piece]

    def _table_of_texts(self) -> list[str]:
        out = np.empty(self.shape, object)
        grid = [range(-(-n // chunk)) for n, chunk in zip(self.shape, self._layout.chunks, strict=True)]
        for index in itertools.product(*grid):
            self._lay(out, 0, self.shape[0], index)
        return [_text(item) for item in out.ravel().tolist()]

    def _piece(self, index: tuple[int, ...]) -> NDArray[Any]:
        """Return one chunk, native byte order, of the full chunk's shape."""
        layout = self._layout
        name = layout.separator.join([*layout.prefix, *map(str, index)]) or "0"
        try:
            content = self._store.files.content(self.path, name, _MAX_PIECE)
        except FileNotFoundError:
            return self._filled(layout.chunks)
        except OSError as error:
            raise damaged(self.path, error.strerror) from None
        if content is None:
            raise refused(what=f"{self.path} has pieces of more than 4 GiB", advice="write it with smaller chunks")
        if layout.codecs.shard is not None:
            return self._from_shard(content, layout.codecs.shard)
        return self._decode(content, layout.chunks, layout.codecs)

    def _filled(self, shape: tuple[int, ...]) -> NDArray[Any]:
        fill = self._layout.fill
        if self._layout.stored is None:
            return np.full(shape, fill if isinstance(fill, str) else "", object)
        try:
            if self._layout.stored.names or isinstance(fill, list):  # anndata fills neither records nor complex numbers
                return np.zeros(shape, self._layout.stored.newbyteorder("="))
            return np.full(shape, 0 if fill is None else fill, self._layout.stored.newbyteorder("="))
        except (TypeError, ValueError):
            raise damaged(self.path, f"the fill value {fill!r}") from None

    def _decode(self, content: bytes, shape: tuple[int, ...], codecs: Codecs) -> NDArray[Any]:
        stored, count = self._layout.stored, prod(shape)
        # Strings say their own lengths; 1 kB each and 64 MB together is far beyond any label.
        size = count * stored.itemsize if stored is not None else (64 << 20) + 1024 * count
        for name in reversed(codecs.packed):
            content = decompress(name, content, size + 4 * codecs.packed.count("crc32c"), self.path)
        if stored is None:
            out = np.empty(count, object)
            out[:] = split_text(content, count, self.path)
            return out.reshape(shape)
        if len(content) != size:
            raise damaged(self.path, f"a piece holds {len(content)} bytes, not {size}")
        values = np.frombuffer(content, stored).astype(stored.newbyteorder("="), copy=False)
        if codecs.order is None:
            return values.reshape(shape)
        return values.reshape([shape[axis] for axis in codecs.order]).transpose(np.argsort(codecs.order))

    def _from_shard(self, content: bytes, shard: Shard) -> NDArray[Any]:
        """Put a piece together from the pieces in it; an index says where each begins and how long it is."""
        whole = self._layout.chunks
        if any(outer % inner for outer, inner in zip(whole, shard.chunks, strict=True)):
            raise damaged(self.path, "shards that do not divide into chunks")
        counts = [outer // inner for outer, inner in zip(whole, shard.chunks, strict=True)]
        length = 16 * prod(counts) + 4 * len(shard.index.packed)
        if set(shard.index.packed) - {"crc32c"} or len(content) < length:
            raise damaged(self.path, "a shard without a plain index")
        listed = content[len(content) - length :] if shard.at_end else content[:length]
        for _ in shard.index.packed:
            listed = without_sum(listed, self.path)
        places = struct.unpack(f"<{2 * prod(counts)}Q", listed)
        out = self._filled(whole)
        for number, index in enumerate(itertools.product(*map(range, counts))):
            at, size = places[2 * number : 2 * number + 2]
            if at == _MISSING and size == _MISSING:
                continue
            if at + size > len(content):
                raise damaged(self.path, "a shard that is cut short")
            where = tuple(slice(i * n, (i + 1) * n) for i, n in zip(index, shard.chunks, strict=True))
            out[where] = self._decode(content[at : at + size], shard.chunks, shard.inner)
        return out


def _text(value: Any) -> str:  # noqa: ANN401
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
