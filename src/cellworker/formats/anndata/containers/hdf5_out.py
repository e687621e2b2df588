"""Writing HDF5 for AnnData: arrays in pieces, gzip-compressed by ISA-L in threads while HDF5 only stores them."""

from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import h5py
import numpy as np
from numpy.typing import DTypeLike, NDArray

from cellworker.formats.anndata.containers.inflate import deflate
from cellworker.formats.anndata.containers.sink import Rows
from cellworker.formats.common.matrices.sparse import blocks

__all__ = ["Hdf5Sink"]

_CHUNK: Final = 1 << 18
_MIN: Final = 1 << 12
_TEXT = h5py.string_dtype("utf-8")


class Hdf5Sink:
    """A new file, or with `edit` an existing one; see `cellworker.formats.anndata.containers.sink`."""

    def __init__(self, path: Path, threads: int = 1, *, edit: bool = False) -> None:
        # Tables of thousands of columns need newer headers, which HDF5 reads since 1.10.
        self._file = h5py.File(path, "r+" if edit else "w-", libver=("v108", "v110"), locking=False)
        self._pool = ThreadPoolExecutor(threads, "deflate")
        self._ahead = 2 * threads

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._file.close()

    def group(self, path: str, attrs: Mapping[str, Any]) -> None:
        """Make a group."""
        _describe(self._file.create_group(path) if path else self._file, attrs)

    def array(self, path: str, shape: tuple[int, ...], dtype: DTypeLike, rows: Rows, attrs: Mapping[str, Any]) -> None:
        """Write an array; small ones uncompressed, large ones in compressed chunks."""
        dtype = np.dtype(dtype)
        width = int(np.prod(shape[1:], dtype=np.int64))
        length = shape[0] if shape else 1
        if length * width < _MIN:
            values = np.asarray(rows(0, length)).astype(dtype).reshape(shape)
            _describe(self._file.create_dataset(path, data=values), attrs)
            return
        step = min(shape[0], max(1, _CHUNK // width))
        made = self._file.create_dataset(
            path, shape, dtype, chunks=(step, *shape[1:]), compression="gzip", compression_opts=4,
            shuffle=dtype.itemsize > 1, track_times=False,
        )  # fmt: skip
        _describe(made, attrs)
        waiting: deque[tuple[int, Future[bytes]]] = deque()

        def finish() -> None:
            start, future = waiting.popleft()
            made.id.write_direct_chunk((start, *(0 for _ in shape[1:])), future.result())

        for start, stop in blocks(shape[0], step):
            block = np.zeros((step, *shape[1:]), dtype)
            block[: stop - start] = rows(start, stop)
            waiting.append((start, self._pool.submit(_packed, block)))
            if len(waiting) > self._ahead:
                finish()
        while waiting:
            finish()

    def texts(
        self, path: str, texts: Sequence[str], attrs: Mapping[str, Any], shape: tuple[int, ...] | None = None
    ) -> None:
        """Write strings."""
        content = np.empty(len(texts), object)
        content[:] = [_bytes(text) for text in texts]
        shape = (len(content),) if shape is None else shape
        _describe(self._file.create_dataset(path, shape, _TEXT, data=content.reshape(shape)), attrs)

    def scalar(self, path: str, value: str, attrs: Mapping[str, Any]) -> None:
        """Write one string."""
        _describe(self._file.create_dataset(path, data=_bytes(value), dtype=_TEXT), attrs)

    def records(self, path: str, values: NDArray[Any], attrs: Mapping[str, Any]) -> None:
        """Write records, as anndata does."""
        assert values.dtype.names
        kinds = {name: values.dtype[name] for name in values.dtype.names}
        fields = [(name, _TEXT if kind.kind == "O" else kind) for name, kind in kinds.items()]
        out = np.empty(values.shape, fields)
        for name in values.dtype.names:
            column = values[name]
            out[name] = np.vectorize(_bytes, [object])(column) if column.dtype == object and column.size else column
        _describe(self._file.create_dataset(path, data=out), attrs)

    def null(self, path: str, attrs: Mapping[str, Any]) -> None:
        """Write a dataset without a shape."""
        _describe(self._file.create_dataset(path, data=h5py.Empty("f")), attrs)

    def reference(self, path: str, name: str, place: str) -> None:
        """Set an attribute that is an object reference."""
        group = self._file[path].parent
        self._file[path].attrs[name] = group[place].ref

    def has(self, path: str) -> bool:
        """Return whether there is something under a path."""
        return path in self._file

    def remove(self, path: str) -> None:
        """Remove a group or dataset."""
        if path in self._file:
            del self._file[path]

    def attribute(self, path: str, name: str, value: Any) -> None:  # noqa: ANN401
        """Set an attribute. A table of more columns than its old header holds is moved under a new one."""
        item = self._file[path or "/"]
        try:
            _describe(item, {name: value})
        except (OSError, RuntimeError, ValueError):
            self._renew(path)
            _describe(self._file[path], {name: value})

    def _renew(self, path: str) -> None:
        """Give a group a header of this version of HDF5: made again, its members linked to it."""
        old = self._file[path]
        new = self._file.create_group(f"{path}.new")
        for name in old:
            new[name] = old[name]
        for name in old.attrs:
            new.attrs.create(name, old.attrs[name], dtype=old.attrs.get_id(name).dtype)
        del self._file[path]
        self._file.move(f"{path}.new", path)


def _bytes(text: str) -> bytes:
    return text.replace("\0", "").encode("utf-8", "replace")


def _packed(block: NDArray[Any]) -> bytes:
    """Compress a piece as HDF5's filters shuffle and gzip do."""
    width = block.dtype.itemsize
    if width == 1:
        return deflate(block.tobytes())
    return deflate(block.reshape(-1).view(np.uint8).reshape(-1, width).T.tobytes())


def _describe(item: h5py.HLObject, attrs: Mapping[str, Any]) -> None:
    for name, value in attrs.items():
        if isinstance(value, list):
            # Deleted first: HDF5 would otherwise keep the old one beside it, under the same limit of the header.
            if name in item.attrs:
                del item.attrs[name]
            item.attrs.create(name, value, (len(value),), _TEXT if value and isinstance(value[0], str) else None)
        else:
            item.attrs[name] = value
