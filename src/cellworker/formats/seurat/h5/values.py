"""Values of R as SeuratDisk writes them to HDF5: vectors, factors, matrices, data frames, lists.

Source: SeuratDisk's "h5Seurat File Format Specification". Matrices are in column order, so that their sides appear
the other way round outside of R; logicals are the integers 0, 1 and 2 (NA).
"""

from typing import Any, Final, TypeGuard

import numpy as np
from numpy.typing import NDArray

from cellworker.errors import WorkerError
from cellworker.formats.anndata.containers.tree import Array, Node, TreeGroup, row_pieces
from cellworker.formats.r.rds.build import data_frame, integers, named_list, strings
from cellworker.formats.r.rds.model import RS4, RList, RNull, RStrings, RValue, RVector
from cellworker.formats.r.rds.refusals import refused
from cellworker.formats.r.rds.spool import Spool

__all__ = ["H5Values", "damaged", "is_array", "is_group", "is_sparse"]

_NA_INTEGER: Final = -(2**31)
_NA_LOGICAL: Final = 2
_SPARSE: Final = frozenset({"data", "indices", "indptr"})
_SPOOL_BYTES: Final = 1 << 20
_NONE: Final = np.zeros(0)


def damaged(path: str, what: str) -> WorkerError:
    """Return the error for content that SeuratDisk does not write."""
    return refused(
        f"The h5Seurat file is damaged or incomplete: {path}: {what}. Copy it here again, or save the object again "
        "with SeuratDisk::SaveH5Seurat() or saveRDS()."
    )


def is_array(node: Node | None) -> TypeGuard[Array]:
    """Tell an array."""
    return node is not None and hasattr(node, "texts")


def is_group(node: Node | None) -> TypeGuard[TreeGroup]:
    """Tell a group."""
    return node is not None and not hasattr(node, "texts")


def is_sparse(node: Node | None) -> TypeGuard[TreeGroup]:
    """Tell a sparse matrix."""
    return is_group(node) and set(node.names()) >= _SPARSE


class H5Values:
    """Reads values; long ones go to files.

    Parameters
    ----------
    spool
        Where long vectors go.
    exact
        Keep the values of sparse matrices as doubles, not as float32.
    """

    def __init__(self, spool: Spool, *, exact: bool) -> None:
        self._spool, self._exact = spool, exact

    # ---- arrays ----

    def texts(self, node: Node | None, path: str) -> RStrings:
        """Read a character vector."""
        if not is_array(node) or node.dtype is not None:
            raise damaged(path, "expected text")
        return strings(node.texts())

    def numbers(self, array: Array, kept: np.dtype[Any] | None = None) -> NDArray[Any]:
        """Read all numbers of an array, in the order of the file."""
        if array.dtype is None or array.dtype.kind not in "biuf":
            raise damaged(array.path, "expected numbers")
        kind = kept or array.dtype
        count = int(np.prod(array.shape)) if array.shape else 1
        if count * kind.itemsize < _SPOOL_BYTES or not array.shape:
            return np.asarray(array.read(), kind).ravel()
        return self._spool.keep_arrays((_cast(piece, kind).ravel() for _, piece in row_pieces(array)), count, kind)

    def vector(self, array: Array) -> RVector:
        """Read numbers as R keeps them: integers, doubles, logicals."""
        if str(_first(array.attrs.get("s3class", ""))) == "logical" or (
            array.dtype is not None and array.dtype.kind == "b"
        ):
            return self.logical(array)
        values = self.numbers(array)
        if values.dtype.kind == "f":
            return RVector(np.asarray(values, np.float64) if values.dtype != np.float64 else values, "double")
        if values.dtype == np.int32:
            return RVector(values, "integer")
        fits = not len(values) or (values.min() > _NA_INTEGER and values.max() < 2**31)
        return RVector(values.astype(np.int32 if fits else np.float64), "integer" if fits else "double")

    def logical(self, array: Array) -> RVector:
        """Read logicals."""
        array.attrs.get("s3class", "")
        values = self.numbers(array).astype(np.int32)
        return RVector(np.where((values == _NA_LOGICAL) | (values == _NA_INTEGER), _NA_INTEGER, values), "logical")

    def matrix(self, array: Array, rows: RStrings | None = None, columns: RStrings | None = None) -> RVector:
        """Read a dense matrix; its sides are the other way round in the file."""
        if len(array.shape) != 2:
            raise damaged(array.path, "expected a matrix")
        shape = (array.shape[1], array.shape[0])
        for names, length in ((rows, shape[0]), (columns, shape[1])):
            if names is not None and len(names) != length:
                raise damaged(array.path, f"{length} rows or columns, but {len(names)} names")
        value = self.vector(array)
        value.attributes = {"dim": integers(shape)}
        if rows is not None or columns is not None:
            value.attributes["dimnames"] = RList([rows or RNull(), columns or RNull()])
        return value

    def sparse(
        self, group: TreeGroup, rows: RStrings | None, columns: RStrings | None, class_name: str = "dgCMatrix"
    ) -> RS4:
        """Read a sparse matrix."""
        parts = {}
        for name in _SPARSE:
            part = group.get(name)
            if not is_array(part) or len(part.shape) != 1:
                raise damaged(path=f"{group.path}/{name}", what="expected a list of numbers")
            parts[name] = part
        indptr = self.numbers(parts["indptr"])
        dims = _dims(group, len(indptr) - 1, rows)
        kept = np.dtype(np.float64 if self._exact else np.float32)
        slots: dict[str, RValue] = {
            "i": RVector(self._indices(parts["indices"]), "integer"),
            "p": _as_pointers(indptr),
            "Dim": integers(dims),
            "Dimnames": RList([rows or RNull(), columns or RNull()]),
            "x": RVector(self.numbers(parts["data"], kept), "double"),
            "factors": RList([]),
        }
        return RS4(class_name, "Matrix" if class_name == "dgCMatrix" else "SeuratObject", slots)

    def _indices(self, array: Array) -> NDArray[np.int32]:
        if array.dtype is None or array.dtype.kind not in "iu":
            raise damaged(array.path, "expected whole numbers")
        return self.numbers(array, np.dtype(np.int32))

    # ---- composed values ----

    def frame(self, node: Node | None, rows: RStrings | None, path: str) -> RList:
        """Read a data frame: a group with a member for each column, or a table of records."""
        if is_array(node) and node.dtype is not None and node.dtype.names:
            return self._records(node, rows)
        if not is_group(node):
            raise damaged(path, "expected a data frame")
        at = str(_first(node.attrs.get("_index", "_index")))
        names = [name for name in node.names() if name != at]
        order = [str(name) for name in _list(node.attrs.get("colnames", None)) if str(name) in names]
        logicals = {str(name) for name in _list(node.attrs.get("logicals", None))}
        columns: dict[str, RValue] = {}
        for name in dict.fromkeys([*order, *names]):
            item = node.get(name)
            if item is None:
                continue
            is_logical = name in logicals and is_array(item) and item.dtype is not None
            columns[name] = self.logical(item) if is_logical and is_array(item) else self.value(item)
        index = node.get(at)
        if is_array(index) and index.dtype is None:
            rows = strings(index.texts())
        sizes = {len(value) for value in columns.values() if isinstance(value, RVector | RStrings)}
        size = len(rows) if rows is not None else max(sizes, default=0)
        made = data_frame(columns, n_rows=size)
        if rows is not None:
            made.attributes["row.names"] = rows
        return made

    def _records(self, array: Array, rows: RStrings | None) -> RList:
        records = array.records()
        columns: dict[str, RValue] = {}
        names = records.dtype.names or ()
        logicals = {str(name) for name in _list(array.attrs.get("logicals", None))}
        for name in names:
            column = records[name].ravel()
            if column.dtype.kind == "O":
                columns[name] = strings([str(text) for text in column.tolist()])
            elif column.dtype.kind in "iu":
                values = column.astype(np.int32) if column.dtype.itemsize <= 4 else column
                values = np.where(values == _NA_LOGICAL, _NA_INTEGER, values) if name in logicals else values
                fits = values.dtype == np.int32
                kind = "logical" if name in logicals else "integer" if fits else "double"
                columns[name] = RVector(values if fits else values.astype(np.float64), kind)
            else:
                columns[name] = RVector(column.astype(np.float64), "double")
        rows = columns.pop("index") if rows is None and isinstance(columns.get("index"), RStrings) else rows  # type: ignore[assignment]
        made = data_frame(columns, n_rows=len(records))
        if rows is not None:
            made.attributes["row.names"] = rows
        return made

    def factor(self, group: TreeGroup) -> RVector:
        """Read a factor."""
        values, levels = group.get("values"), self.texts(group.get("levels"), f"{group.path}/levels")
        if not is_array(values):
            raise damaged(path=f"{group.path}/values", what="expected whole numbers")
        codes = self._indices(values)
        inside = codes[codes != _NA_INTEGER]
        if len(inside) and (inside.min() < 1 or inside.max() > len(levels)):
            raise damaged(path=f"{group.path}/values", what=f"numbers that are none of the {len(levels)} levels")
        return RVector(codes, "integer", {"levels": levels, "class": strings("factor")})

    def value(self, node: Node) -> RValue:  # noqa: PLR0911 - one for each kind
        """Read any value."""
        if is_array(node):
            if node.is_null():
                return RList([])
            if 0 in node.shape:
                return _shaped(strings([]) if node.dtype is None else RVector(_NONE, "double"), node)
            if node.dtype is None:
                return _shaped(strings(node.texts()), node)
            return self._records(node, None) if node.dtype.names else _shaped(self.vector(node), node)
        assert is_group(node)
        names = set(node.names())
        if names == {"levels", "values"}:
            return self.factor(node)
        if names >= _SPARSE:
            return self.sparse(node, None, None)
        if node.attrs.get("colnames", None) is not None:
            return self.frame(node, None, node.path)
        return self.members(node)

    def members(self, group: TreeGroup | None) -> RValue:
        """Read a list; an object of an S4 class where the file says so."""
        if group is None:
            return RList([])
        names = group.names()
        order = [str(name) for name in _list(group.attrs.get("names", None)) if str(name) in names]
        items = {name: self.value(item) for name in dict.fromkeys([*order, *names]) if (item := group.get(name))}
        declared = str(_first(group.attrs.get("s4class", "")))
        if declared:
            package, _, name = declared.rpartition(":")
            return RS4(name, package, items)
        made = named_list(items)
        classes = [str(name) for name in _list(group.attrs.get("s3class", None))]
        if classes:
            made.attributes["class"] = strings(classes)
        return made


def _shaped(value: RVector | RStrings, array: Array) -> RVector | RStrings:
    """Return a value with its sides, which are the other way round in the file."""
    if len(array.shape) > 1:
        value.attributes = {**value.attributes, "dim": integers(array.shape[::-1])}
    return value


def _cast(piece: NDArray[Any], kind: np.dtype[Any]) -> NDArray[Any]:
    with np.errstate(over="ignore", invalid="ignore"):  # a double beyond float32 becomes infinite, as it would anywhere
        return piece.astype(kind, copy=False)


def _as_pointers(values: NDArray[Any]) -> RVector:
    return RVector(values, "integer") if values.dtype == np.int32 else RVector(values.astype(np.float64), "double")


def _dims(group: TreeGroup, n_columns: int, rows: RStrings | None) -> list[int]:
    """Return rows and columns: as R says them, else as AnnData's layout does, the other way round."""
    declared = [int(size) for size in _list(group.attrs.get("dims", None)) if isinstance(size, int | float)]
    if len(declared) != 2:
        shape = _list(group.attrs.get("shape", None)) or _list(group.attrs.get("h5sparse_shape", None))
        declared = [int(size) for size in reversed(shape) if isinstance(size, int | float)]
    if len(declared) != 2:
        declared = [len(rows) if rows is not None else 0, n_columns]
    if min(declared) < 0 or max(declared) >= 2**31:
        raise damaged(group.path, f"a matrix of {declared[0]} x {declared[1]}")
    return declared


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _first(value: object) -> object:
    return (value[0] if value else "") if isinstance(value, list) else value
