"""Writing Zarr for AnnData: version 2 of the format, which every anndata since 0.7 reads, with Zstandard inside."""

import json
import struct
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
import zstandard
from numpy.typing import DTypeLike, NDArray

from cellworker.formats.anndata.sink import Rows

__all__ = ["ZarrSink"]

_CHUNK: Final = 1 << 20
_TEXTS: Final = 1 << 17
_LEVEL: Final = 3


class ZarrSink:
    """A new store in a folder; see `cellworker.formats.anndata.sink.Sink`. Complete when its ``with`` block is left."""

    def __init__(self, folder: Path, threads: int = 1) -> None:
        folder.mkdir()
        self._folder = folder
        self._pool = ThreadPoolExecutor(threads, "compress")
        self._ahead = 2 * threads
        self._about: dict[str, Any] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)
        if kind is None:
            # One file with all descriptions, so that a store behind a network is opened in one step.
            content = {"zarr_consolidated_format": 1, "metadata": self._about}
            (self._folder / ".zmetadata").write_text(json.dumps(content, indent=1), "utf-8")

    def group(self, path: str, attrs: Mapping[str, Any]) -> None:
        """Make a group."""
        (self._folder / path).mkdir(exist_ok=not path)
        self._describe(path, ".zgroup", {"zarr_format": 2})
        self._describe(path, ".zattrs", dict(attrs))

    def array(self, path: str, shape: tuple[int, ...], dtype: DTypeLike, rows: Rows, attrs: Mapping[str, Any]) -> None:
        """Write an array in compressed pieces."""
        dtype = np.dtype(dtype)
        width = max(1, int(np.prod(shape[1:], dtype=np.int64)))
        step = max(1, min(shape[0], max(1, _CHUNK // width)))
        fill: float = False if dtype == np.bool_ else 0
        self._array(path, shape, (step, *(max(1, n) for n in shape[1:])), dtype.str, fill=fill, attrs=attrs)

        waiting: deque[Future[None]] = deque()
        for start in range(0, shape[0], step):
            block = np.zeros((step, *shape[1:]), dtype)
            stop = min(start + step, shape[0])
            block[: stop - start] = rows(start, stop)
            name = ".".join([str(start // step), *("0" for _ in shape[1:])])
            waiting.append(self._pool.submit(_store, self._folder / path / name, block))
            if len(waiting) > self._ahead:
                waiting.popleft().result()
        for future in waiting:
            future.result()

    def texts(self, path: str, texts: Sequence[str], attrs: Mapping[str, Any]) -> None:
        """Write a list of strings."""
        step = max(1, min(len(texts), _TEXTS))
        self._array(path, (len(texts),), (step,), "|O", fill="", attrs=attrs)
        for number, start in enumerate(range(0, len(texts), step)):
            part = list(texts[start : start + step])
            self._texts(path, str(number), part + [""] * (step - len(part)))

    def scalar(self, path: str, value: str, attrs: Mapping[str, Any]) -> None:
        """Write one string."""
        self._array(path, (), (), "|O", fill="", attrs=attrs)
        self._texts(path, "0", [value])

    def _texts(self, path: str, name: str, texts: Sequence[str]) -> None:
        content = [text.encode("utf-8", "replace") for text in texts]
        joined = b"".join(part for text in content for part in (struct.pack("<I", len(text)), text))
        packed = zstandard.ZstdCompressor(_LEVEL).compress(struct.pack("<I", len(content)) + joined)
        (self._folder / path / name).write_bytes(packed)

    def _array(
        self,
        path: str,
        shape: tuple[int, ...],
        chunks: tuple[int, ...],
        dtype: str,
        *,
        fill: float | str,
        attrs: Mapping[str, Any],
    ) -> None:
        (self._folder / path).mkdir()
        about = {
            "zarr_format": 2, "shape": shape, "chunks": chunks, "dtype": dtype, "fill_value": fill, "order": "C",
            "compressor": {"id": "zstd", "level": _LEVEL},
            "filters": [{"id": "vlen-utf8"}] if dtype == "|O" else None,
        }  # fmt: skip
        self._describe(path, ".zarray", about)
        self._describe(path, ".zattrs", dict(attrs))

    def _describe(self, path: str, name: str, content: dict[str, Any]) -> None:
        self._about[f"{path}/{name}".lstrip("/")] = content
        (self._folder / path / name).write_text(json.dumps(content, indent=1), "utf-8")


def _store(path: Path, block: NDArray[Any]) -> None:
    path.write_bytes(zstandard.ZstdCompressor(_LEVEL).compress(block.tobytes()))
