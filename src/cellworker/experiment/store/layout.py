"""The layout of a store as an HDF5 file: AnnData's on-disk format, every array uncompressed and in one piece.

====================  ==========================================================================================
``X``                 normalised expression, compressed columns (cells x genes), each gene's values ascending
``layers/counts``     raw counts, compressed rows, genes ascending
``layers/by_cell``    the values of ``X`` as compressed rows, where counts do not tell them; its index arrays are hard
                      links to those of the counts where equal
``obs``, ``var``      cells (index: barcodes; ``cells_id``, metadata) and genes (index: ids; names)
``obsm``, ``obsp``    ``X_<reduction>``, ``scaled``; graphs
``uns``               dispersions, images, misc, origin; ``cellworker``: exact names that the file could not take;
                      ``cellworker/levels``: what the counts of each cell stand for in ``X``
====================  ==========================================================================================

The format is described in AnnData's documentation, "On-disk format". This module makes only the skeleton: HDF5 reserves
the space, and the contents are written later to the places in `StoreLayout`.
"""

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np
from numpy.typing import DTypeLike, NDArray

from cellworker.experiment.model import Categorical, Column
from cellworker.experiment.packed_texts import text_pieces
from cellworker.experiment.store.index import ArrayPlace

__all__ = ["PaddedTexts", "StoreLayout"]

_ALIGNMENT, _ALIGNED_FROM = 64, 1024
"""Arrays of at least this many bytes begin at a multiple of 64.

Gaps between smaller arrays and headers of objects would cost more time than all else: HDF5 keeps a list of the gaps,
and searches it for each object.
"""
_TEXT = h5py.string_dtype("utf-8")
# Made once: with tens of thousands of columns, a store has as many attributes.
_TEXT_ID, _SCALAR = h5py.h5t.py_create(_TEXT, logical=True), h5py.h5s.create(h5py.h5s.SCALAR)
_TEXT_IN_MEMORY = h5py.h5t.py_create(_TEXT)
_UTF8_NAME = h5py.h5p.create(h5py.h5p.LINK_CREATE)
_UTF8_NAME.set_char_encoding(h5py.h5t.CSET_UTF8)
_NO = np.zeros((), np.bool_)
_BOOLEAN_ID = h5py.h5t.py_create(_NO.dtype, logical=True)
# Fixed-width text can be used in place, but one long string would widen a million short ones.
_MAX_PADDING = 1 << 26
_MAX_SHARED_LABELS = 64
"""Longer lists of labels are hardly ever those of another column."""


@dataclass(frozen=True, slots=True)
class PaddedTexts:
    """Strings to be written with one width each, which are encoded on the way."""

    texts: Sequence[str]
    width: int

    def pieces(self) -> Iterator[NDArray[np.bytes_]]:
        """Encode some at a time."""
        for piece in text_pieces(self.texts):
            yield np.array(_encoded(piece), f"S{self.width}")


class StoreLayout:
    """An HDF5 file under construction. Leave its ``with`` block before writing contents.

    Attributes
    ----------
    places
        The place of each array, by its name in the store.
    pending
        Small contents to write there.
    """

    def __init__(self, path: Path) -> None:
        options = _timeless(h5py.h5p.FILE_CREATE)
        self._file = h5py.File(h5py.h5f.create(bytes(path), h5py.h5f.ACC_EXCL, options, _access()))
        self._parent: tuple[str, Any] = "", self._file.id
        self._types: dict[str, Any] = {}
        self._spaces: dict[tuple[int, ...], Any] = {}
        self._options, self._group_options = _contiguous(), _timeless(h5py.h5p.GROUP_CREATE)
        self._labels: dict[tuple[str, ...], tuple[str, Any]] = {}
        self.places: dict[str, ArrayPlace] = {}
        self.pending: dict[str, NDArray[Any] | PaddedTexts] = {}
        _encode(self._file.id, "anndata", "0.1.0")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._parent, self._labels = ("", None), {}
        self._file.close()

    def group(self, where: str) -> None:
        """Make a mapping."""
        _encode(self._file.create_group(where).id, "dict", "0.1.0")

    def array(
        self, name: str, where: str, shape: tuple[int, ...], dtype: DTypeLike, *, encoding: str = "array"
    ) -> None:
        """Reserve space for an array."""
        dtype = np.dtype(dtype)
        group, leaf = self._parent_of(where)
        made = h5py.h5d.create(group, leaf, self._type(dtype), self._space(shape), self._options)
        if encoding:
            _encode(made, encoding, "0.2.0")
        self.places[name] = ArrayPlace(made.get_offset() or 0, dtype.str, shape)

    def put(self, name: str, where: str, values: NDArray[Any], *, encoding: str = "array") -> None:
        """Reserve space for a small array and remember its contents."""
        self.array(name, where, values.shape, values.dtype, encoding=encoding)
        self.pending[name] = values

    def strings(self, name: str, where: str, texts: Sequence[str]) -> None:
        """Add a list of strings."""
        width, total = 1, 0
        for piece in text_pieces(texts):
            sizes = list(map(len, _encoded(piece)))
            width, total = max(width, *sizes), total + sum(sizes)
        if width * len(texts) <= _MAX_PADDING + 4 * total:
            self.array(name, where, (len(texts),), f"S{width}", encoding="string-array")
            self.pending[name] = PaddedTexts(texts, width)
            return
        raw = [one for piece in text_pieces(texts) for one in _encoded(piece)]
        lengths = np.fromiter(map(len, raw), np.int64, len(raw))
        _encode(self._file.create_dataset(where, data=raw, dtype=_TEXT).id, "string-array", "0.2.0")
        bounds = np.zeros(len(raw) + 1, np.int64)
        np.cumsum(lengths, out=bounds[1:])
        self._plain_group("uns/cellworker/long_text")
        place = f"uns/cellworker/long_text/{file_name(name, self._file['uns/cellworker/long_text'])}"
        self.put(f"{name}/text", f"{place}_text", np.frombuffer(b"".join(raw), np.uint8))
        self.put(f"{name}/bounds", f"{place}_bounds", bounds)

    def labels(self, name: str, where: str, column: Categorical) -> None:
        """Add a categorical column."""
        parent, leaf = self._parent_of(where)
        group = h5py.h5g.create(parent, leaf, _UTF8_NAME, self._group_options)
        _encode(group, "categorical", "0.2.0")
        h5py.h5a.create(group, b"ordered", _BOOLEAN_ID, _SCALAR).write(_NO, _BOOLEAN_ID)
        held, self._parent = self._parent, (where, group)
        self._categories(name, where, group, column.categories)
        self.put(f"{name}/codes", f"{where}/codes", np.ascontiguousarray(column.codes, np.int32))
        self._parent = held

    def _categories(self, name: str, where: str, group: Any, texts: Sequence[str]) -> None:  # noqa: ANN401
        """Add the labels of a column; columns with the same few labels have one list of them (hard links)."""
        same = tuple(texts) if len(texts) <= _MAX_SHARED_LABELS else ()
        if same not in self._labels:
            self.strings(f"{name}/categories", f"{where}/categories", texts)
            if same and f"{name}/categories" in self.pending:
                self._labels[same] = name, group
            return
        other, its_group = self._labels[same]
        group.links.create_hard(b"categories", its_group, b"categories")
        self.places[f"{name}/categories"] = self.places[f"{other}/categories"]

    def table(
        self, where: str, index: tuple[str, Sequence[str]], columns: Iterable[tuple[str, str, Column | Sequence[str]]]
    ) -> None:
        """Add a data frame: its index (store name and labels), and columns as (store name, column name, contents)."""
        group = self._file.create_group(where)
        _encode(group.id, "dataframe", "0.2.0")
        group.attrs["_index"] = "_index"
        self.strings(index[0], f"{where}/_index", index[1])
        order: dict[str, None] = {"_index": None}
        for name, title, column in columns:
            leaf = file_name(title, order)
            order[leaf] = None
            if isinstance(column, Categorical):
                self.labels(name, f"{where}/{leaf}", column)
            elif isinstance(column, np.ndarray):
                self.put(name, f"{where}/{leaf}", np.ascontiguousarray(column))
            else:
                self.strings(name, f"{where}/{leaf}", column)
        del order["_index"]
        group.attrs.create("column-order", list(order), (len(order),), _TEXT)

    def sparse(
        self,
        name: str,
        where: str,
        *,
        form: str,
        shape: tuple[int, int],
        nnz: int,
        dtype: DTypeLike,
        indices: DTypeLike = np.int32,
        share: tuple[str, str] | None = None,
    ) -> None:
        """Reserve space for a compressed matrix, "csr" or "csc".

        `share` is the name and the place of a matrix whose index arrays this one uses too.
        """
        group = self._file.create_group(where)
        _encode(group.id, f"{form}_matrix", "0.1.0")
        group.attrs["shape"] = np.array(shape, np.int64)
        self.array(f"{name}/data", f"{where}/data", (nnz,), dtype, encoding="")
        if share:
            for part in ("indptr", "indices"):
                group[part] = self._file[f"{share[1]}/{part}"]
                self.places[f"{name}/{part}"] = self.places[f"{share[0]}/{part}"]
            return
        self.array(f"{name}/indices", f"{where}/indices", (nnz,), indices, encoding="")
        self.array(f"{name}/indptr", f"{where}/indptr", (shape[form == "csc"] + 1,), np.int64, encoding="")

    def plain(self, where: str, values: Mapping[str, Any]) -> None:
        """Add a mapping of strings, numbers, lists of strings and such mappings; None is left out."""
        self._plain_group(where)
        for name, value in values.items():
            place = f"{where}/{name}"
            if value is None:
                continue
            if isinstance(value, Mapping):
                self.plain(place, value)
                continue
            if isinstance(value, str):
                made, kind = self._file.create_dataset(place, data=_clean(value), dtype=_TEXT), "string"
            elif isinstance(value, list):
                texts = [_clean(text) for text in value]
                made = self._file.create_dataset(place, data=texts, shape=(len(texts),), dtype=_TEXT)
                kind = "string-array"
            else:
                made, kind = self._file.create_dataset(place, data=value), "numeric-scalar"
            _encode(made.id, kind, "0.2.0")

    def free_name(self, where: str, wanted: str) -> str:
        """Return a path for a part of that name; the name is unchanged where HDF5 and the group allow."""
        return f"{where}/{file_name(wanted, self._file[where])}"

    def _parent_of(self, where: str) -> tuple[Any, bytes]:
        """Return the group of a path, and the name in it. The group stays open for the next column in it."""
        parent, _, leaf = where.rpartition("/")
        if parent != self._parent[0]:
            self._parent = parent, (self._file[parent] if parent else self._file).id
        return self._parent[1], leaf.encode()

    def _type(self, dtype: np.dtype[Any]) -> Any:  # noqa: ANN401 - h5py has no types
        if dtype.str not in self._types:
            fixed = h5py.string_dtype("utf-8", dtype.itemsize) if dtype.kind == "S" else dtype
            self._types[dtype.str] = h5py.h5t.py_create(fixed, logical=True)
        return self._types[dtype.str]

    def _space(self, shape: tuple[int, ...]) -> Any:  # noqa: ANN401
        if shape not in self._spaces:
            self._spaces[shape] = h5py.h5s.create_simple(shape)
        return self._spaces[shape]

    def _plain_group(self, where: str) -> None:
        if where not in self._file:
            self.group(where)


def _access() -> Any:  # noqa: ANN401 - h5py has no types
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    access.set_fclose_degree(h5py.h5f.CLOSE_STRONG)
    # Newer object headers allow wide tables (attributes over 64 kB); HDF5 1.10 and later read them.
    access.set_libver_bounds(h5py.h5f.LIBVER_V18, h5py.h5f.LIBVER_V110)
    access.set_file_locking(use_file_locking=False, ignore_when_disabled=True)
    access.set_alignment(_ALIGNED_FROM, _ALIGNMENT)
    # Flush at once: HDF5 crashes if a full disk stops it from writing the values when it closes.
    access.set_sieve_buf_size(0)
    return access


def _contiguous() -> Any:  # noqa: ANN401 - h5py has no types
    options = _timeless(h5py.h5p.DATASET_CREATE)
    options.set_layout(h5py.h5d.CONTIGUOUS)
    options.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    options.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    return options


def _timeless(kind: Any) -> Any:  # noqa: ANN401
    """Return options of a new object without times, so that the same contents give the same bytes."""
    options = h5py.h5p.create(kind)
    options.set_obj_track_times(False)
    return options


def file_name(wanted: str, group: Container[str]) -> str:
    """Turn a name into one that HDF5 accepts and that is unused in a group."""
    name = wanted.replace("/", "_").replace("\0", "").encode("utf-8", "replace").decode() or "_"
    name = "_" * len(name) if set(name) == {"."} else name
    free, number = name, 1
    while free in group:
        free, number = f"{name}_{number}", number + 1
    return free


def _encoded(texts: Sequence[str]) -> list[bytes]:
    joined = "".join(texts)
    as_they_are = joined.isascii() and "\0" not in joined  # the usual case, and much faster
    return list(map(str.encode if as_they_are else _clean, texts))


def _clean(text: str) -> bytes:
    """Return UTF-8 that HDF5 can hold: without zero bytes and lone surrogates."""
    return text.replace("\0", "").encode("utf-8", "replace")


def _encode(target: Any, kind: str, version: str) -> None:  # noqa: ANN401
    for name, value in ((b"encoding-type", kind), (b"encoding-version", version)):
        h5py.h5a.create(target, name, _TEXT_ID, _SCALAR).write(_text(value), _TEXT_IN_MEMORY)


@cache
def _text(value: str) -> NDArray[Any]:
    return np.array(value.encode(), _TEXT)
