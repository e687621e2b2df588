"""Elements of AnnData as values of R, exactly: types that R has not are carried by those that hold all their values.

======================  ============================================================================================
AnnData                 R
======================  ============================================================================================
numbers, bool           integer, double, logical, complex; whole numbers beyond 32 bits: integer64 of package bit64
text                    character
categorical             factor, ordered where it is; categories that are numbers in an attribute
nullable                the same with NA
csr, csc                dgRMatrix, dgCMatrix; the other way round where the matrix is turned to genes x cells
data frame, records     data.frame
dict and all else       named list
======================  ============================================================================================
"""

from collections.abc import Iterable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cellworker.formats.anndata.containers.tree import Array, Node, TreeGroup
from cellworker.formats.anndata.elements import is_array, is_group
from cellworker.formats.anndata.inventory import LEGACY_CATEGORIES, encoding_of, own_attributes
from cellworker.formats.common.ledger import Ledger, Path
from cellworker.formats.r.rds import build
from cellworker.formats.r.rds.model import RS4, Attributes, RList, RNull, RStrings, RValue, RVector

__all__ = ["ToR", "numbers"]

NA_INTEGER: Final = -(2**31)
_NA_REAL: Final = np.array([0x7FF00000000007A2], np.uint64).view(np.float64)[0]
_MAX_INTEGER: Final = 2**31 - 1
_MAX_EXACT: Final = 2**53
_SPARSE: Final = {"csr_matrix": "csr", "csc_matrix": "csc", "csr": "csr", "csc": "csc"}
_PLAIN: Final = frozenset(
    {"", "dict", "anndata", "raw", "dataframe", "array", "string", "string-array", "numeric-scalar", "rec-array",
     "null", "categorical", "nullable-integer", "nullable-boolean", "nullable-string-array", "csr_matrix", "csc_matrix"}
)  # fmt: skip


class ToR:
    """Turns elements of one file into values.

    Parameters
    ----------
    ledger
        Of the file: what R has no place for is lost there, the caller decides about the rest.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def value(self, node: Node, path: Path, *, turned: bool = False) -> RValue | None:
        """Return an element, or a group with all that is in it; None for one element that R cannot hold.

        Parameters
        ----------
        turned
            Give a matrix of cells x genes as genes x cells.
        """
        if is_array(node):
            found = self._array(node, path, turned=turned)
        else:
            assert is_group(node)
            found = self._group(node, path, turned=turned)
        more = self._more(node)
        if more and isinstance(found, RVector | RStrings | RList):
            found.attributes["anndata"] = build.named_list(more)
            self._ledger.keep_attributes(path, more)
        return found

    def _more(self, node: Node) -> dict[str, RValue]:
        """Return what a node says beside its encoding."""
        out: dict[str, RValue] = {}
        for name in own_attributes(node):
            value = node.attrs.get(name)
            items = value if isinstance(value, list) else [value]
            if all(isinstance(item, str) for item in items):
                out[name] = build.strings(items)
            elif all(isinstance(item, bool | int | float) for item in items):
                out[name] = numbers(np.array(items))
        if encoding_of(node) not in _PLAIN:
            out["encoding-type"] = build.strings(encoding_of(node))
        return out

    # ---- arrays ----

    def _array(self, node: Array, path: Path, *, turned: bool) -> RValue | None:
        if node.is_null():
            return RNull()
        if node.dtype is None:
            texts = build.strings(node.texts())
            return _shaped_texts(texts, node.shape)
        if node.dtype.names:
            return self._records(node)
        if node.dtype.kind in "mM":
            return _times(node.read())
        if node.dtype.kind not in "biufc":
            self._ledger.lose(path, f"R has no place for values of the type {node.dtype.name}")
            return None
        values = node.read()
        return self._told(node.path, numbers(values.T if turned and values.ndim == 2 else values))

    def _told(self, what: str, found: RVector | RStrings) -> RVector | RStrings:
        """Tell of numbers that had to become text."""
        if isinstance(found, RStrings):
            self._ledger.note(f"{what.strip('/')} is text: R has no whole numbers beyond 2^63")
        return found

    def _records(self, node: Array) -> RValue:
        values = node.records().ravel()
        columns: dict[str, RValue] = {}
        for name in values.dtype.names or ():
            column = values[name]
            is_text = column.dtype == object
            columns[name] = (
                build.strings(column.tolist())
                if is_text
                else self._told(f"{node.path}, column {name}", numbers(column))
            )
        return build.data_frame(columns, n_rows=len(values))

    # ---- groups ----

    def _group(self, node: TreeGroup, path: Path, *, turned: bool) -> RValue | None:
        kind = encoding_of(node) or str(node.attrs.get("h5sparse_format", "") or "")
        if kind in _SPARSE:
            return self.sparse(node, path, turned=turned)
        if kind == "categorical":
            return self._factor(node, path)
        if kind.startswith("nullable-") and (found := _nullable(node)) is not None:
            is_text = kind.startswith("nullable-string")
            return found if is_text or not isinstance(found, RVector | RStrings) else self._told(node.path, found)
        if kind == "dataframe":
            return self.frame(node, path)
        names = [name for name in node.names() if name != LEGACY_CATEGORIES]
        return self._members(node, path, names)

    def _members(self, node: TreeGroup, path: Path, names: Iterable[str]) -> RList:
        items: dict[str, RValue] = {}
        for name in names:
            member, where = node.get(name), (*path, name)
            if self._ledger.has(where) and not self._ledger.is_open(where):
                continue  # it has a place of its own
            found = self.value(member, where) if member is not None else None
            if found is not None:
                items[name] = found
        return build.named_list(items)

    def frame(self, node: TreeGroup, path: Path) -> RList:
        """Return a data frame; columns that are none in R (of several dimensions) are elements all the same."""
        at = node.attrs.get("_index", "_index")
        names = node.names()
        at = at if isinstance(at, str) and at in names else "index"
        order = node.attrs.get("column-order", None)
        listed = [str(name) for name in order] if isinstance(order, list) else []
        columns = [name for name in dict.fromkeys([*listed, *names]) if name in names]
        items = {name: found for name in columns if name not in {at, LEGACY_CATEGORIES}
                 and (found := self.column(node, name, path)) is not None}  # fmt: skip
        index = self.column(node, at, path) if at in names else None
        texts = _texts_of(index)
        says_more = isinstance(index, RVector | RStrings) and "anndata" in index.attributes
        if texts is not None and len(set(texts)) == len(texts) and all(texts) and not says_more:
            out = build.data_frame(items, [text or "" for text in texts])
        else:
            out = build.data_frame(items, n_rows=len(texts) if texts is not None else 0)
            if index is not None:
                out.attributes["anndata.index"] = index
        if at not in {"_index", "index"}:
            out.attributes["anndata.index.name"] = build.strings(at)
        return out

    def column(self, table: TreeGroup, name: str, path: Path) -> RValue | None:
        """Return one column of a table; labels of anndata before 0.8 are beside the columns."""
        node = table.get(name)
        if is_array(node) and "categories" in node.attrs:
            labels = table.get(f"{LEGACY_CATEGORIES}/{name}")
            if is_array(labels):
                ordered = bool(labels.attrs.get("ordered", False))
                return _factor_of(node.read(), *_categories(labels), ordered=ordered)
        return self.value(node, (*path, name)) if node is not None else None

    def _factor(self, node: TreeGroup, path: Path) -> RValue | None:
        codes, labels = node.get("codes"), node.get("categories")
        if is_group(labels):
            labels = labels.get("values")
        if not is_array(codes) or not is_array(labels):
            return self._members(node, path, node.names())
        return _factor_of(codes.read(), *_categories(labels), ordered=bool(node.attrs.get("ordered", False)))

    def sparse(self, node: TreeGroup, path: Path, *, turned: bool) -> RValue | None:
        """Return a sparse matrix: compressed columns stay so, compressed rows too, unless it is turned."""
        parts = [node.get(name) for name in ("indptr", "indices", "data")]
        shape = node.attrs.get("shape", None) or node.attrs.get("h5sparse_shape", None)
        if not all(map(is_array, parts)) or not isinstance(shape, list) or len(shape) != 2:
            return self._members(node, path, node.names())
        indptr, indices, data = (part.read() for part in parts if is_array(part))
        by_row = _SPARSE[encoding_of(node) or str(node.attrs.get("h5sparse_format"))] == "csr"
        if len(data) > _MAX_INTEGER or data.dtype.kind not in "biuf" or (data.dtype.kind in "iu" and _too_large(data)):
            why = f"R's sparse matrices hold at most {_MAX_INTEGER:,} real numbers of double precision"
            self._ledger.lose(path, why)
            return None
        found = _canonical(indptr, indices, data, int(shape[not by_row]))
        if found is None:  # rows that name a column twice: kept as the parts that they are
            return self._members(node, path, node.names())
        return sparse_of(*found, (int(shape[0]), int(shape[1])), by_row=by_row, turned=turned)


def sparse_of(
    indptr: NDArray[Any], indices: NDArray[Any], data: NDArray[Any], shape: tuple[int, int], *, by_row: bool,
    turned: bool, names: tuple[Iterable[str] | None, Iterable[str] | None] = (None, None),
) -> RS4:  # fmt: skip
    """Build a dgCMatrix or dgRMatrix; `names` are those of its rows and columns as R has it."""
    dims = shape[::-1] if turned else shape
    rows, columns = (RNull() if part is None else build.strings(part) for part in names)
    by_row = by_row != turned
    slots: Attributes = {
        "p": RVector(indptr, "integer"),
        "j" if by_row else "i": RVector(indices, "integer"),
        "Dim": build.integers(dims),
        "Dimnames": RList([rows, columns]),
        "x": RVector(data if data.dtype.kind == "f" else data.astype(np.float64), "double"),
        "factors": RList([]),
    }
    return RS4("dgRMatrix" if by_row else "dgCMatrix", "Matrix", slots)


def _canonical(
    indptr: NDArray[Any], indices: NDArray[Any], data: NDArray[Any], width: int
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]] | None:
    """Return the parts with ascending indices within each row, as R wants them; None where one is repeated."""
    from scipy.sparse import csr_array  # noqa: PLC0415 - half a second that most uses do not need

    matrix = csr_array((data, indices, indptr), shape=(len(indptr) - 1, width))
    if not matrix.has_sorted_indices:
        matrix.sort_indices()
    if not matrix.has_canonical_format:
        return None
    return matrix.indptr, matrix.indices, matrix.data


def numbers(values: NDArray[Any], missing: NDArray[np.bool_] | None = None) -> RVector | RStrings:
    """Return numbers of any type and shape as the narrowest vector of R that holds them all.

    Whole numbers of which integer64 cannot hold one (2^63 and above, and -2^63, which stands for NA) become text.
    """
    shape = values.shape
    kind, flat = values.dtype.kind, values
    if missing is None:
        missing = np.zeros(shape, np.bool_)
    attributes: Attributes = {}
    if kind == "b":
        flat, name = np.where(missing, NA_INTEGER, values), "logical"
    elif kind in "iu" and not _beyond(values, _MAX_INTEGER):
        flat, name = np.where(missing, NA_INTEGER, values.astype(np.int32)), "integer"
    elif kind in "iu" and _beyond(values[~missing], 2**63 - 1):
        texts = [None if gone else str(value) for value, gone in zip(values.ravel(), missing.ravel(), strict=True)]
        return _shaped_texts(build.strings(texts), shape)
    elif kind in "iu":
        whole = np.where(missing, np.iinfo(np.int64).min, values.astype(np.int64))
        flat, name = np.ascontiguousarray(whole).view(np.float64), "double"
        attributes["class"] = build.strings(["integer64"])
    elif kind == "c":
        flat, name = values.astype(np.complex128), "complex"
    else:
        flat, name = (np.where(missing, _NA_REAL, values.astype(np.float64)) if missing.any() else values), "double"
    if len(shape) > 1:
        attributes = {"dim": build.integers(shape), **attributes}
    if len(shape) > 2:
        flat = flat.ravel(order="F")
    return RVector(np.atleast_1d(flat), name, attributes)


def _times(values: NDArray[Any]) -> RValue:
    """Return points in time as text, and spans of time as numbers of their unit."""
    if values.dtype.kind == "M":
        return _shaped_texts(build.strings(np.datetime_as_string(values).ravel().tolist()), values.shape)
    return numbers(values.astype(np.int64), np.isnat(values))


def _beyond(values: NDArray[Any], limit: int) -> bool:
    # R's smallest integer stands for NA.
    return bool(values.size) and (int(values.max()) > limit or int(values.min()) < -limit)


def _too_large(values: NDArray[Any]) -> bool:
    return _beyond(values, _MAX_EXACT)


def _shaped_texts(texts: RStrings, shape: tuple[int, ...]) -> RStrings:
    if len(shape) < 2:
        return texts
    order = np.arange(len(texts)).reshape(shape).ravel(order="F")
    return build_again(texts, order, shape)


def build_again(texts: RStrings, order: NDArray[np.int64], shape: tuple[int, ...]) -> RStrings:
    """Return strings in another order with dimensions."""
    listed = texts.tolist()
    out = build.strings([listed[place] for place in order.tolist()])
    out.attributes["dim"] = build.integers(shape)
    return out


def _texts_of(value: RValue | None) -> list[str | None] | None:
    if isinstance(value, RStrings):
        return value.tolist()
    if isinstance(value, RVector) and "levels" in value.attributes:
        levels = value.attributes["levels"]
        assert isinstance(levels, RStrings)
        labels = [None, *levels.tolist()]
        return [labels[max(0, code)] for code in value.values.tolist()]
    if isinstance(value, RVector):
        return [str(item) for item in value.values.tolist()]
    return None


def _categories(labels: Array) -> tuple[list[str], NDArray[Any] | None]:
    """Return labels as text, and as they are where they are no text."""
    if labels.dtype is None:
        return labels.texts(), None
    values = labels.read()
    return [str(value) for value in values.tolist()], values


def _factor_of(codes: NDArray[Any], levels: list[str], values: NDArray[Any] | None, *, ordered: bool) -> RVector:
    out = build.factor(codes.astype(np.int64), levels)
    if ordered:
        out.attributes["class"] = build.strings(["ordered", "factor"])
    if values is not None:
        out.attributes["anndata.categories"] = numbers(values)
    return out


def _nullable(node: TreeGroup) -> RValue | None:
    values, mask = node.get("values"), node.get("mask")
    if not is_array(values) or not is_array(mask):
        return None
    missing = mask.read().astype(np.bool_)
    if values.dtype is None:
        return build.strings([None if gone else text for text, gone in zip(values.texts(), missing, strict=True)])
    return numbers(values.read(), missing)
