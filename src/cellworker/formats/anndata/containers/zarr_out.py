"""Writing Zarr for AnnData: new stores in version 2, which every anndata since 0.7 reads, with Zstandard inside.

A store of version 3 that is there already gets its new parts in version 3.
"""

import base64
import json
import os
import shutil
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

from cellworker.formats.anndata.containers.sink import Rows
from cellworker.formats.common.matrices.sparse import blocks

__all__ = ["ZarrSink"]

_CHUNK: Final = 1 << 20
_TEXTS: Final = 1 << 17
_LEVEL: Final = 3
_THREE: Final = "zarr.json"
_TWO: Final = (".zgroup", ".zarray", ".zattrs")


class ZarrSink:
    """A new store in a folder, or with `edit` an existing one; see `cellworker.formats.anndata.containers.sink`."""

    def __init__(self, folder: Path, threads: int = 1, *, edit: bool = False) -> None:
        if not edit:
            folder.mkdir()
        self._folder = folder
        self._pool = ThreadPoolExecutor(threads, "compress")
        self._ahead = 2 * threads
        self._is_three = (folder / _THREE).is_file()
        # One file with all descriptions, so that a store behind a network is opened in one step.
        self._consolidate = not edit or self._is_consolidated()
        # What a new store describes, by the file's path; of one that was there before, the files are read again.
        self._written: dict[str, dict[str, Any]] | None = None if edit else {}

    def _is_consolidated(self) -> bool:
        if self._is_three:
            return "consolidated_metadata" in json.loads((self._folder / _THREE).read_bytes())
        return (self._folder / ".zmetadata").is_file()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)
        if kind is None and self._consolidate:
            if self._is_three:
                self._consolidate_three()
            else:
                content = {"zarr_consolidated_format": 1, "metadata": self._descriptions(_TWO)}
                (self._folder / ".zmetadata").write_text(json.dumps(content), "utf-8")

    def _consolidate_three(self) -> None:
        root = json.loads((self._folder / _THREE).read_bytes())
        found = {
            place.removesuffix(_THREE).rstrip("/"): content
            for place, content in self._descriptions((_THREE,)).items()
            if place != _THREE
        }
        root["consolidated_metadata"] = {"kind": "inline", "must_understand": False, "metadata": found}
        (self._folder / _THREE).write_text(json.dumps(root), "utf-8")

    def _descriptions(self, names: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Return what every description says, by its path in the store, in order."""
        if self._written is not None:
            return dict(sorted(self._written.items()))
        found = (Path(place, name) for place, _, files in os.walk(self._folder) for name in files if name in names)
        return {
            place: json.loads((self._folder / place).read_bytes())
            for place in sorted(file.relative_to(self._folder).as_posix() for file in found)
        }

    def group(self, path: str, attrs: Mapping[str, Any]) -> None:
        """Make a group."""
        (self._folder / path).mkdir(exist_ok=not path)
        if self._is_three:
            self._describe(path, _THREE, {"attributes": dict(attrs), "zarr_format": 3, "node_type": "group"})
            return
        self._describe(path, ".zgroup", {"zarr_format": 2})
        self._describe(path, ".zattrs", dict(attrs))

    def array(self, path: str, shape: tuple[int, ...], dtype: DTypeLike, rows: Rows, attrs: Mapping[str, Any]) -> None:
        """Write an array in compressed pieces."""
        dtype = np.dtype(dtype)
        width = max(1, int(np.prod(shape[1:], dtype=np.int64)))
        length = shape[0] if shape else 1
        step = max(1, min(length, max(1, _CHUNK // width)))
        self._array(path, shape, (step, *(max(1, n) for n in shape[1:]))[: len(shape)], dtype, attrs)
        waiting: deque[Future[None]] = deque()
        for start, stop in blocks(length, step):
            block = np.zeros((step, *shape[1:]), dtype)
            block[: stop - start] = rows(start, stop)
            place = self._folder / path / self._piece_name(start // step, len(shape))
            if length <= step:  # another thread would only be waited for; tables have thousands of short columns
                _store(place, block)
                return
            waiting.append(self._pool.submit(_store, place, block))
            if len(waiting) > self._ahead:
                waiting.popleft().result()
        for future in waiting:
            future.result()

    def texts(
        self, path: str, texts: Sequence[str], attrs: Mapping[str, Any], shape: tuple[int, ...] | None = None
    ) -> None:
        """Write strings."""
        shape = (len(texts),) if shape is None else shape
        width = max(1, int(np.prod(shape[1:], dtype=np.int64)))
        length = shape[0] if shape else 1
        step = max(1, min(length, max(1, _TEXTS // width)))
        self._array(path, shape, (step, *(max(1, n) for n in shape[1:]))[: len(shape)], None, attrs)
        for number, start in enumerate(range(0, length if texts else 0, step)):
            part = list(texts[start * width : (start + step) * width])
            self._texts(path, self._piece_name(number, len(shape)), part + [""] * (step * width - len(part)))

    def scalar(self, path: str, value: str, attrs: Mapping[str, Any]) -> None:
        """Write one string."""
        self.texts(path, [value], attrs, ())

    def records(self, path: str, values: NDArray[Any], attrs: Mapping[str, Any]) -> None:
        """Write records; text as long as the longest, as anndata does."""
        assert values.dtype.names
        columns = {name: values[name] for name in values.dtype.names}
        columns = {name: _fixed(column) if column.dtype.kind == "O" else column for name, column in columns.items()}
        out = np.empty(values.shape, [(name, column.dtype) for name, column in columns.items()])
        for name, column in columns.items():
            out[name] = column
        self.array(path, out.shape, out.dtype, lambda start, stop: out[start:stop] if out.ndim else out, attrs)

    def null(self, path: str, attrs: Mapping[str, Any]) -> None:
        """Write a scalar whose attributes say that it is None."""
        self._array(path, (), (), np.dtype(np.bool_), attrs)

    def reference(self, path: str, name: str, place: str) -> None:
        """Set an attribute to the place, by name."""
        self.attribute(path, name, place)

    def has(self, path: str) -> bool:
        """Return whether there is something under a path."""
        return (self._folder / path).is_dir()

    def remove(self, path: str) -> None:
        """Remove a group or array."""
        if (self._folder / path).is_dir():
            shutil.rmtree(self._folder / path)
        if self._written is not None:
            self._written = {
                place: content for place, content in self._written.items() if not place.startswith(f"{path}/")
            }

    def attribute(self, path: str, name: str, value: Any) -> None:  # noqa: ANN401
        """Set an attribute."""
        file = self._folder / path / (_THREE if self._is_three else ".zattrs")
        content = json.loads(file.read_bytes()) if file.is_file() else {}
        (content.setdefault("attributes", {}) if self._is_three else content)[name] = value
        self._describe(path, file.name, content)

    def _piece_name(self, number: int, ndim: int) -> str:
        if self._is_three:
            return "/".join(["c", *([str(number)] if ndim else []), *("0" for _ in range(ndim - 1))])
        return ".".join([str(number), *("0" for _ in range(ndim - 1))])

    def _texts(self, path: str, name: str, texts: Sequence[str]) -> None:
        content = [text.encode("utf-8", "replace") for text in texts]
        joined = b"".join(part for text in content for part in (struct.pack("<I", len(text)), text))
        packed = zstandard.ZstdCompressor(_LEVEL).compress(struct.pack("<I", len(content)) + joined)
        file = self._folder / path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(packed)

    def _array(
        self,
        path: str,
        shape: tuple[int, ...],
        chunks: tuple[int, ...],
        dtype: np.dtype[Any] | None,
        attrs: Mapping[str, Any],
    ) -> None:
        """Describe an array; without a type one of strings."""
        (self._folder / path).mkdir()
        if self._is_three:
            self._describe(path, _THREE, _version_3(shape, chunks, dtype, attrs))
            return
        about = {
            "zarr_format": 2, "shape": shape, "chunks": chunks, "dtype": "|O" if dtype is None else _named(dtype),
            "fill_value": _fill(dtype), "order": "C", "compressor": {"id": "zstd", "level": _LEVEL},
            "filters": [{"id": "vlen-utf8"}] if dtype is None else None,
        }  # fmt: skip
        self._describe(path, ".zarray", about)
        self._describe(path, ".zattrs", dict(attrs))

    def _describe(self, path: str, name: str, content: dict[str, Any]) -> None:
        if self._written is not None:
            self._written[f"{path}/{name}" if path else name] = content
        (self._folder / path / name).write_text(json.dumps(content), "utf-8")


def _fixed(column: NDArray[Any]) -> NDArray[Any]:
    """Return text of equal lengths; an array of no letters has none of length 0."""
    fixed = column.astype(np.str_)
    return fixed if fixed.dtype.itemsize else fixed.astype("U1")


def _named(dtype: np.dtype[Any]) -> Any:  # noqa: ANN401 - a word, or a list of fields
    return [[name, dtype[name].str] for name in dtype.names] if dtype.names else dtype.str


def _fill(dtype: np.dtype[Any] | None) -> Any:  # noqa: ANN401
    if dtype is None:
        return ""
    if dtype.names:
        return base64.standard_b64encode(bytes(dtype.itemsize)).decode()
    return [0.0, 0.0] if dtype.kind == "c" else False if dtype.kind == "b" else 0


def _version_3(
    shape: tuple[int, ...], chunks: tuple[int, ...], dtype: np.dtype[Any] | None, attrs: Mapping[str, Any]
) -> dict[str, Any]:
    first: dict[str, Any] = {"name": "bytes", "configuration": {"endian": "little"}}
    if dtype is None:
        first = {"name": "vlen-utf8", "configuration": {}}
    return {
        "shape": shape, "data_type": "string" if dtype is None else _type_3(dtype),
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunks}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": _fill(dtype), "codecs": [first, {"name": "zstd", "configuration": {"level": _LEVEL,
                                                                                        "checksum": False}}],
        "attributes": dict(attrs), "zarr_format": 3, "node_type": "array", "storage_transformers": [],
    }  # fmt: skip


def _type_3(dtype: np.dtype[Any]) -> Any:  # noqa: ANN401
    if dtype.names:
        fields = [[name, _type_3(dtype[name])] for name in dtype.names]
        return {"name": "structured", "configuration": {"fields": fields}}
    if dtype.kind == "U":
        return {"name": "fixed_length_utf32", "configuration": {"length_bytes": dtype.itemsize}}
    return dtype.name


def _store(path: Path, block: NDArray[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(zstandard.ZstdCompressor(_LEVEL).compress(block.tobytes()))
