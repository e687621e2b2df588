"""Building R objects from Python and NumPy values, for the writer."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cellworker.formats.r.rds.model import RS4, Attributes, RList, RNull, RStrings, RValue, RVector

__all__ = [
    "data_frame",
    "dgc_matrix",
    "doubles",
    "factor",
    "integers",
    "logicals",
    "matrix",
    "named_list",
    "package_version",
    "strings",
]

NA_INTEGER = -(2**31)


def strings(values: str | Iterable[str | None], names: Iterable[str] | None = None) -> RStrings:
    """Build a character vector; None is NA."""
    values = [values] if isinstance(values, str) else list(values)
    encoded = [b"" if value is None else value.encode() for value in values]
    offsets = np.zeros(len(values) + 1, np.int64)
    np.cumsum([len(content) for content in encoded], out=offsets[1:])
    missing = np.array([value is None for value in values], np.bool_)
    return RStrings(b"".join(encoded), offsets, missing if missing.any() else None, _names(names))


def doubles(values: ArrayLike, names: Iterable[str] | None = None) -> RVector:
    """Build a numeric vector."""
    return RVector(np.atleast_1d(np.asarray(values, np.float64)), "double", _names(names))


def integers(values: ArrayLike, names: Iterable[str] | None = None) -> RVector:
    """Build an integer vector."""
    return RVector(np.atleast_1d(np.asarray(values, np.int32)), "integer", _names(names))


def logicals(values: ArrayLike) -> RVector:
    """Build a logical vector."""
    return RVector(np.atleast_1d(np.asarray(values, np.bool_)).astype(np.int32), "logical")


def factor(codes: NDArray[np.integer[Any]], levels: Sequence[str], names: Iterable[str] | None = None) -> RVector:
    """Build a factor from 0-based codes; -1 is NA."""
    values = np.where(codes < 0, NA_INTEGER, codes.astype(np.int64) + 1).astype(np.int32)
    attributes: Attributes = {"levels": strings(levels), "class": strings("factor"), **_names(names)}
    return RVector(values, "integer", attributes)


def named_list(items: Mapping[str, RValue] | None = None) -> RList:
    """Build a list; without items an empty one."""
    return RList(list(items.values()), {"names": strings(items)}) if items else RList([])


def data_frame(
    columns: Mapping[str, RValue], row_names: Sequence[str] | None = None, n_rows: int | None = None
) -> RList:
    """Build a data frame; without `row_names` its rows are numbered (then `n_rows` is needed)."""
    if row_names is None and n_rows is None:
        message = "a data frame needs row_names or n_rows"
        raise ValueError(message)
    rows: RValue = integers([NA_INTEGER, -(n_rows or 0)]) if row_names is None else strings(row_names)
    attributes: Attributes = {"names": strings(columns), "class": strings("data.frame"), "row.names": rows}
    return RList(list(columns.values()), attributes)


def matrix(values: NDArray[Any], rows: Sequence[str] | None = None, columns: Sequence[str] | None = None) -> RVector:
    """Build a numeric matrix from a two-dimensional array of any float type."""
    attributes: Attributes = {"dim": integers(values.shape)}
    if rows is not None or columns is not None:
        attributes["dimnames"] = _dimnames(rows, columns)
    return RVector(values, "double", attributes)


def dgc_matrix(
    indptr: NDArray[Any],
    rows: NDArray[Any],
    values: NDArray[Any],
    n_rows: int,
    *,
    row_names: Sequence[str] | None = None,
    column_names: Sequence[str] | None = None,
    **extra_slots: RValue,
) -> RS4:
    """Build the Matrix package's compressed-column matrix.

    Parameters
    ----------
    indptr
        ``(n_columns + 1,)``; R's integers end at 2^31 - 1, and so must the number of non-zeros.
    rows
        Row of each non-zero, ascending within its column.
    values
        Any number type; written as doubles.
    """
    if len(indptr) and int(indptr[-1]) > 2**31 - 1:
        message = "a dgCMatrix holds at most 2^31 - 1 values"
        raise ValueError(message)
    slots: Attributes = {
        "i": RVector(rows, "integer"),
        "p": RVector(indptr, "integer"),
        "Dim": integers([n_rows, len(indptr) - 1]),
        "Dimnames": _dimnames(row_names, column_names),
        "x": RVector(values, "double"),
        "factors": RList([]),
        **extra_slots,
    }
    return RS4("dgCMatrix", "Matrix", slots)


def package_version(text: str) -> RList:
    """Build what R's `package_version` returns for, say, "4.1.3"."""
    parts = integers([int(part) for part in text.split(".")])
    return RList([parts], {"class": strings(["package_version", "numeric_version"])})


def _names(names: Iterable[str] | None) -> Attributes:
    return {} if names is None else {"names": strings(names)}


def _dimnames(rows: Sequence[str] | None, columns: Sequence[str] | None) -> RList:
    return RList([RNull() if names is None else strings(names) for names in (rows, columns)])
