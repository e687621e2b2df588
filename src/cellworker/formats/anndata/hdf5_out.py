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

from cellworker.formats.anndata.inflate import deflate
from cellworker.formats.anndata.sink import Rows

__all__ = ["Hdf5Sink"]

_CHUNK: Final = 1 << 18
_LEAST: Final = 1 << 12
_TEXT = h5py.string_dtype("utf-8")


class Hdf5Sink:
    """A new file; see `cellworker.formats.anndata.sink.Sink`. Complete when its ``with`` block is left."""

    def __init__(self, path: Path, threads: int = 1) -> None:
        # Tables of thousands of columns need newer headers, which HDF5 reads since 1.10.
        self._file = h5py.File(path, "w-", libver=("v108", "v110"), locking=False)
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
        """Write an array; small ones as they are, large ones in compressed pieces."""
        dtype = np.dtype(dtype)
        width = int(np.prod(shape[1:], dtype=np.int64))
        if shape[0] * width < _LEAST:
            _describe(self._file.create_dataset(path, data=rows(0, shape[0]).astype(dtype).reshape(shape)), attrs)
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

        for start in range(0, shape[0], step):
            block = np.zeros((step, *shape[1:]), dtype)
            stop = min(start + step, shape[0])
            block[: stop - start] = rows(start, stop)
            waiting.append((start, self._pool.submit(_packed, block)))
            if len(waiting) > self._ahead:
                finish()
        while waiting:
            finish()

    def texts(self, path: str, texts: Sequence[str], attrs: Mapping[str, Any]) -> None:
        """Write a list of strings."""
        content = [text.replace("\0", "").encode("utf-8", "replace") for text in texts]
        _describe(self._file.create_dataset(path, (len(content),), _TEXT, data=content), attrs)

    def scalar(self, path: str, value: str, attrs: Mapping[str, Any]) -> None:
        """Write one string."""
        _describe(self._file.create_dataset(path, data=value.replace("\0", ""), dtype=_TEXT), attrs)


def _packed(block: NDArray[Any]) -> bytes:
    """Compress a piece as HDF5's filters shuffle and gzip do."""
    width = block.dtype.itemsize
    if width == 1:
        return deflate(block.tobytes())
    return deflate(block.reshape(-1).view(np.uint8).reshape(-1, width).T.tobytes())


def _describe(item: h5py.HLObject, attrs: Mapping[str, Any]) -> None:
    for name, value in attrs.items():
        if isinstance(value, list):
            item.attrs.create(name, value, (len(value),), _TEXT if value and isinstance(value[0], str) else None)
        else:
            item.attrs[name] = value
