"""Values of R as elements of AnnData, so that anndata and scanpy open them, and nothing of them is left out.

======================  ============================================================================================
R                       AnnData
======================  ============================================================================================
vectors, matrices       arrays; with NA: nullable integers and booleans, or categories that may be missing
factor                  categorical, ordered where it is
dgCMatrix, dgRMatrix    csc and csr
names of any of these   a dict of ``values`` and ``names`` (``rows``, ``columns``)
data.frame, list, S4    a dict; its class is the attribute ``r-class``
further attributes      members whose names begin with ``@``, beside ``values``
many small elements     their bytes as R's ``saveRDS`` writes them (uint8), which ``readRDS`` takes
======================  ============================================================================================
"""

import io
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cellworker.formats.anndata.columns_out import ARRAY, DICT, TEXT, ColumnOut, Nullable, OrderedLabels, write_column
from cellworker.formats.anndata.containers.sink import Sink
from cellworker.formats.anndata.leaves import Leaves
from cellworker.formats.common.ledger import Ledger, Path
from cellworker.formats.r.code import without_code
from cellworker.formats.r.rds.elements import (
    CODE,
    MAX_DEPTH,
    attribute_name,
    attributes_beyond,
    children_of,
    elements_of,
    is_sparse,
)
from cellworker.formats.r.rds.model import RS4, RList, RNull, RStrings, RSymbol, RValue, RVector, Skipped
from cellworker.formats.r.rds.writer import write_rds

__all__ = ["FromR", "has_na_level", "plain_column"]

NA_INTEGER: Final = -(2**31)
_MANY: Final = 20_000
"""Max elements of a subtree; a larger one is written as R's own bytes, since HDF5 and Zarr want few, large arrays."""


class FromR:
    """Writes values into a sink and settles them.

    Parameters
    ----------
    sink
        Where they go.
    ledger
        Of the object that they come from.
    leaves
        Gives out names.
    """

    def __init__(self, sink: Sink, ledger: Ledger, leaves: Leaves) -> None:
        self._sink, self._ledger, self._leaves = sink, ledger, leaves

    def put(self, place: str, value: RValue, path: Path, note: str = "") -> None:
        """Write a value at a place, with what is open of it, and settle it as renamed; `note` tells what else."""
        if not self._ledger.is_open(path):
            return
        self._value(place, value, path, place.count("/") + 1)
        if self._ledger.is_open(path):
            self._ledger.rename(path, place, note)

    def _is_large(self, value: RValue, path: Path) -> bool:
        """Tell the smallest subtrees that hold too many elements."""
        if self._ledger.count(path) <= _MANY or not self._ledger.is_whole(path):
            return False
        return all(self._ledger.count((*path, name)) <= _MANY for name, _ in children_of(value) or [])

    def _as_bytes(self, place: str, value: RValue, path: Path) -> None:
        if any(isinstance(item, Skipped) for item in _walk(value)):
            for element in elements_of(value):
                if element.kind in CODE and self._ledger.is_open((*path, *element.path)):
                    self._ledger.lose((*path, *element.path), "R code and its environments are not read")
            value = without_code(value)
        buffer = io.BytesIO()
        write_rds(value, buffer, level=3)
        content = np.frombuffer(buffer.getbuffer(), np.uint8)
        self._sink.array(place, content.shape, np.uint8, lambda a, b: content[a:b], {**ARRAY, "r-class": "saveRDS"})
        self._ledger.rename(path, place, "as the bytes of saveRDS")

    def _value(self, place: str, value: RValue, path: Path, depth: int) -> None:
        if isinstance(value, Skipped):
            self._ledger.lose(path, f"{value.kind}: R code and its environments are not read")
            self._sink.group(place, {**DICT, "r-class": "skipped"})
            return
        if depth >= MAX_DEPTH:
            self._ledger.lose(path, f"it lies more than {MAX_DEPTH} levels deep")
            self._sink.group(place, {**DICT, "r-class": "skipped"})
            return
        if self._is_large(value, path):
            self._as_bytes(place, value, path)
            return
        children = children_of(value)
        beyond = [(attribute_name(name), item) for name, item in attributes_beyond(value)]
        names = _names_of(value) if children is None else {}
        if children is not None:
            self._sink.group(place, {**DICT, **_class_of(value)})
            self._members(place, [*children, *_rows_of(value), *beyond], path, depth)
        elif beyond or names:
            self._sink.group(place, {**DICT, "r-class": "named" if names else "with attributes"})
            self._leaf(f"{place}/values", value)
            for name, texts in names.items():
                self._leaf(f"{place}/{name}", texts)
            self._leaves.take(place, ["values", *names])
            self._members(place, beyond, path, depth)
        else:
            self._leaf(place, value)

    def _members(self, place: str, members: list[tuple[str, RValue]], path: Path, depth: int) -> None:
        for name, item in members:
            inner = (*path, name)
            if name != _ROW_NAMES and not self._ledger.is_open(inner):
                continue  # it has a place of its own
            self._value(f"{place}/{self._leaves.free(place, name)}", item, inner, depth + 1)

    def _leaf(self, place: str, value: RValue) -> None:
        about = _class_of(value)
        if isinstance(value, RS4) and is_sparse(value):
            self._sparse(place, value)
        elif isinstance(value, RSymbol):
            self._sink.scalar(place, value.name, {**TEXT, "r-class": "symbol"})
        elif isinstance(value, RVector | RStrings):
            self._vector(place, value, about)
        else:
            kind = {"r-class": "NULL"} if isinstance(value, RNull) else about
            self._sink.group(place, {**DICT, **kind})

    def _vector(self, place: str, value: RVector | RStrings, about: Mapping[str, Any]) -> None:
        shape = _shape_of(value)
        column = plain_column(value)
        if column is not None and len(shape) == 1:
            write_column(self._sink, place, column, about)
            return
        if isinstance(value, RStrings):
            listed = [text if text is not None else "NA" for text in value.tolist()]
            table = np.array(listed, object).reshape(shape, order="F")
            texts = {"encoding-type": "string-array", "encoding-version": "0.2.0", **about}
            if value.missing is not None and value.missing.any():
                texts["r-missing"] = np.flatnonzero(value.missing).tolist()
            self._sink.texts(place, table.ravel().tolist(), texts, shape)
            return
        if isinstance(column, OrderedLabels):  # factors with dimensions
            about = {**about, "r-levels": list(column.categories)}
        values = _plain_numbers(value).reshape(shape, order="F")
        self._sink.array(place, shape, values.dtype, lambda a, b: values[a:b], {**ARRAY, **about})

    def _sparse(self, place: str, value: RS4) -> None:
        by_row = "j" in value.slots
        shape = [int(n) for n in _numbers(value.slots["Dim"])]
        kind = "csr_matrix" if by_row else "csc_matrix"
        about = {"encoding-type": kind, "encoding-version": "0.1.0", "shape": shape}
        self._sink.group(place, {**about, **_class_of(value)})
        for name, slot in (("data", "x"), ("indices", "j" if by_row else "i"), ("indptr", "p")):
            values = _numbers(value.slots[slot])
            self._sink.array(f"{place}/{name}", values.shape, values.dtype, _slices(values), {})


_ROW_NAMES: Final = "row.names"


def _slices(values: NDArray[Any]) -> Any:  # noqa: ANN401
    return lambda start, stop: values[start:stop]


def plain_column(value: RValue) -> ColumnOut | None:
    """Return a vector as a column that holds everything of its values; None for what is no vector.

    A level that is NA counts as missing; `has_na_level` tells.
    """
    if isinstance(value, RStrings):
        texts = value.tolist()
        if None not in texts:
            return [text or "" for text in texts]
        places: dict[str, int] = {}
        codes = [-1 if text is None else places.setdefault(text, len(places)) for text in texts]
        return OrderedLabels(np.array(codes, np.int32), list(places), ordered=False)
    if not isinstance(value, RVector):
        return None
    levels = value.attributes.get("levels")
    if isinstance(levels, RStrings) and value.kind == "integer":
        return _factor(value, levels)
    if value.kind in {"logical", "integer"}:
        missing = value.values == NA_INTEGER
        values = value.values != 0 if value.kind == "logical" else value.values
        return Nullable(np.where(missing, False if value.kind == "logical" else 0, values), missing) \
            if missing.any() else values  # fmt: skip
    return _plain_numbers(value)


def _factor(value: RVector, levels: RStrings) -> OrderedLabels | None:
    labels = levels.tolist()
    codes = np.where(value.values == NA_INTEGER, 0, value.values)
    if len(codes) and (codes.min() < 0 or codes.max() > len(labels)):
        return None
    places: dict[str, int] = {}
    new = np.array([-1, *(-1 if label is None else places.setdefault(label, len(places)) for label in labels)])
    return OrderedLabels(new[codes], list(places), ordered="ordered" in _classes(value))


def has_na_level(value: RValue) -> bool:
    """Return whether NA is one of a factor's levels."""
    levels = value.attributes.get("levels") if isinstance(value, RVector) else None
    return isinstance(levels, RStrings) and levels.missing is not None and bool(levels.missing.any())


def _plain_numbers(value: RVector) -> NDArray[Any]:
    if "integer64" in _classes(value):
        return value.values.view(np.int64)
    return value.values


def _numbers(value: RValue) -> NDArray[Any]:
    assert isinstance(value, RVector)
    return value.values


def _classes(value: RValue) -> list[str]:
    if isinstance(value, RS4):
        return [value.class_name]
    if isinstance(value, RVector | RStrings | RList):
        found = value.attributes.get("class")
        return [name or "" for name in found.tolist()] if isinstance(found, RStrings) else []
    return []


def _class_of(value: RValue) -> dict[str, Any]:
    classes = _classes(value)
    out: dict[str, Any] = {"r-class": classes} if classes else {}
    if isinstance(value, RS4) and value.package:
        out["r-package"] = value.package
    return out


def _shape_of(value: RVector | RStrings) -> tuple[int, ...]:
    dim = value.attributes.get("dim")
    if isinstance(dim, RVector) and dim.kind in {"integer", "double"}:
        shape = tuple(int(n) for n in dim.values.tolist())
        if len(shape) > 1 and int(np.prod(shape, dtype=np.float64)) == len(value):
            return shape
    return (len(value),)


def _names_of(value: RValue) -> dict[str, RValue]:
    """Return names of a vector's elements, or of a matrix's sides."""
    if isinstance(value, RVector | RStrings):
        names, sides = value.attributes.get("names"), value.attributes.get("dimnames")
        out: dict[str, RValue] = {"names": names} if isinstance(names, RStrings) else {}
        if has_na_level(value) and isinstance(value, RVector):
            out["levels"] = value.attributes["levels"]
            out["codes"] = RVector(value.values, "integer")
    elif isinstance(value, RS4):
        out, sides = {}, value.slots.get("Dimnames")
    else:
        return {}
    for number, side in enumerate(sides.items if isinstance(sides, RList) else []):
        if isinstance(side, RStrings):
            out[{0: "rows", 1: "columns"}.get(number, f"axis {number + 1}")] = side
    return out


def _rows_of(value: RValue) -> list[tuple[str, RValue]]:
    """Return the names of a data frame's rows where they are no mere numbers."""
    rows = value.attributes.get(_ROW_NAMES) if isinstance(value, RList) else None
    numbered = isinstance(rows, RVector) and len(rows) == 2 and rows.values[0] == NA_INTEGER
    return [(_ROW_NAMES, rows)] if isinstance(rows, RStrings | RVector) and not numbered else []


def _walk(root: RValue) -> list[RValue]:
    found, waiting = [], [root]
    while waiting:
        value = waiting.pop()
        found.append(value)
        waiting += [item for _, item in [*(children_of(value) or []), *attributes_beyond(value)]]
    return found
