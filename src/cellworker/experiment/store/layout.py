"""How a store looks as an HDF5 file: AnnData's on-disk format, every array uncompressed and in one piece.

====================  ==========================================================================================
``X``                 normalised expression, compressed rows (cells x genes), genes ascending
``layers/counts``     raw counts, compressed rows; its index arrays are hard links to those of ``X`` where equal
``layers/sorted``     the values of ``X`` as compressed columns, each gene's values ascending
``obs``, ``var``      cells (index: barcodes; ``cells_id``, metadata) and genes (index: ids; names)
``obsm``, ``obsp``    ``X_<reduction>``, ``scaled``; graphs
``uns``               dispersions, images, misc, origin; ``cellworker``: exact names that the file could not take
====================  ==========================================================================================

The format is described in AnnData's documentation, "On-disk format". Only the skeleton is made here: HDF5 reserves the
room, the contents are written to the file at the places that `Layout` hands out.
"""

from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np
from numpy.typing import DTypeLike, NDArray

from cellworker.experiment.model import Categorical, Column
from cellworker.experiment.store.index import ArrayPlace

__all__ = ["Layout"]

_ALIGNMENT = 64
_TEXT = h5py.string_dtype("utf-8")
# Made once: a store has tens of thousands of attributes where the experiment has as many columns.
_TEXT_ID, _SCALAR = h5py.h5t.py_create(_TEXT, logical=True), h5py.h5s.create(h5py.h5s.SCALAR)
# Fixed-width text is used where it lies, but one long string would blow up a million short ones.
_MAX_PADDING = 1 << 26


class Layout:
    """An HDF5 file in the making. Leave its ``with`` block before contents are written.

    Attributes
    ----------
    places
        Where each array of the store lies, by the store's name for it.
    pending
        Small contents to be written there.
    """

    def __init__(self, path: Path) -> None:
        # Newer object headers allow wide tables (attributes over 64 kB); HDF5 1.10 and later read them.
        self._file = h5py.File(
            path, "w-", libver=("v108", "v110"), locking=False, alignment_threshold=1, alignment_interval=_ALIGNMENT
        )
        self._options = _contiguous()
        self.places: dict[str, ArrayPlace] = {}
        self.pending: dict[str, NDArray[Any]] = {}
        _encode(self._file, "anndata", "0.1.0")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def group(self, where: str) -> None:
        """Make a mapping."""
        _encode(self._file.create_group(where), "dict", "0.1.0")

    def array(
        self, name: str, where: str, shape: tuple[int, ...], dtype: DTypeLike, *, encoding: str = "array"
    ) -> None:
        """Reserve room for an array."""
        dtype = np.dtype(dtype)
        fixed = h5py.string_dtype("utf-8", dtype.itemsize) if dtype.kind == "S" else dtype
        parent, _, leaf = where.rpartition("/")
        group = self._file[parent] if parent else self._file
        made = h5py.h5d.create(
            group.id,
            leaf.encode(),
            h5py.h5t.py_create(fixed, logical=True),
            h5py.h5s.create_simple(shape),
            self._options,
        )
        if encoding:
            _encode(h5py.Dataset(made), encoding, "0.2.0")
        self.places[name] = ArrayPlace(made.get_offset() or 0, dtype.str, shape)

    def put(self, name: str, where: str, values: NDArray[Any], *, encoding: str = "array") -> None:
        """Reserve room for a small array and remember its contents."""
        self.array(name, where, values.shape, values.dtype, encoding=encoding)
        self.pending[name] = values

    def strings(self, name: str, where: str, texts: Sequence[str]) -> None:
        """Add a list of strings."""
        raw = [_clean(text) for text in texts]
        lengths = np.fromiter(map(len, raw), np.int64, len(raw))
        width = max(1, int(lengths.max(initial=0)))
        if width * len(raw) <= _MAX_PADDING + 4 * int(lengths.sum()):
            self.put(name, where, np.array(raw, f"S{width}"), encoding="string-array")
            return
        _encode(self._file.create_dataset(where, data=raw, dtype=_TEXT), "string-array", "0.2.0")
        bounds = np.zeros(len(raw) + 1, np.int64)
        np.cumsum(lengths, out=bounds[1:])
        self._plain_group("uns/cellworker/long_text")
        place = f"uns/cellworker/long_text/{file_name(name, self._file['uns/cellworker/long_text'])}"
        self.put(f"{name}/text", f"{place}_text", np.frombuffer(b"".join(raw), np.uint8))
        self.put(f"{name}/bounds", f"{place}_bounds", bounds)

    def labels(self, name: str, where: str, column: Categorical) -> None:
        """Add a categorical column."""
        group = self._file.create_group(where)
        _encode(group, "categorical", "0.2.0")
        group.attrs["ordered"] = False
        self.strings(f"{name}/categories", f"{where}/categories", column.categories)
        self.put(f"{name}/codes", f"{where}/codes", np.ascontiguousarray(column.codes, np.int32))

    def table(
        self, where: str, index: tuple[str, Sequence[str]], columns: Iterable[tuple[str, str, Column | Sequence[str]]]
    ) -> None:
        """Add a data frame: its index (store name and labels), and columns as (store name, column name, contents)."""
        group = self._file.create_group(where)
        _encode(group, "dataframe", "0.2.0")
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
        share: str = "",
    ) -> None:
        """Reserve room for a compressed matrix, "csr" or "csc".

        `share` names one whose index arrays serve for this too.
        """
        group = self._file.create_group(where)
        _encode(group, f"{form}_matrix", "0.1.0")
        group.attrs["shape"] = np.array(shape, np.int64)
        self.array(f"{name}/data", f"{where}/data", (nnz,), dtype, encoding="")
        if share:
            for part in ("indptr", "indices"):
                group[part] = self._file[f"{share}/{part}"]
                self.places[f"{name}/{part}"] = self.places[f"{share}/{part}"]
            return
        self.array(f"{name}/indices", f"{where}/indices", (nnz,), np.int32, encoding="")
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
            _encode(made, kind, "0.2.0")

    def free_name(self, where: str, wanted: str) -> str:
        """Return a path for a part of that name: as it is where HDF5 and the group allow."""
        return f"{where}/{file_name(wanted, self._file[where])}"

    def _plain_group(self, where: str) -> None:
        if where not in self._file:
            self.group(where)


def _contiguous() -> Any:  # noqa: ANN401 - h5py has no types
    options = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    options.set_layout(h5py.h5d.CONTIGUOUS)
    options.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    options.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    options.set_obj_track_times(False)  # the same contents give the same bytes
    return options


def file_name(wanted: str, group: Container[str]) -> str:
    """Turn a name into one that HDF5 takes and that is still free in a group."""
    name = wanted.replace("/", "_").replace("\0", "").encode("utf-8", "replace").decode() or "_"
    name = "_" * len(name) if set(name) == {"."} else name
    free, number = name, 1
    while free in group:
        free, number = f"{name}_{number}", number + 1
    return free


def _clean(text: str) -> bytes:
    """Return UTF-8 that HDF5 can hold: without zero bytes and halves of characters."""
    return text.replace("\0", "").encode("utf-8", "replace")


def _encode(target: h5py.HLObject, kind: str, version: str) -> None:
    for name, value in ((b"encoding-type", kind), (b"encoding-version", version)):
        attribute = h5py.h5a.create(target.id, name, _TEXT_ID, _SCALAR)
        # In memory the type is that of Python objects: with the file's own, HDF5 takes an object's address for text.
        attribute.write(np.array(value.encode(), _TEXT))
