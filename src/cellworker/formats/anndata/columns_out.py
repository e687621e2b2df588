"""Columns for a table to write that hold more than an experiment's columns can."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cellworker.experiment.model import Categorical, Column
from cellworker.formats.anndata.containers.sink import Sink

__all__ = ["ARRAY", "DICT", "TEXT", "TEXTS", "ColumnOut", "Nullable", "OrderedLabels", "write_column"]

DICT: Final = {"encoding-type": "dict", "encoding-version": "0.1.0"}
ARRAY: Final = {"encoding-type": "array", "encoding-version": "0.2.0"}
TEXTS: Final = {"encoding-type": "string-array", "encoding-version": "0.2.0"}
TEXT: Final = {"encoding-type": "string", "encoding-version": "0.2.0"}
_CATEGORICAL: Final = {"encoding-type": "categorical", "encoding-version": "0.2.0"}


@dataclass(frozen=True, slots=True)
class OrderedLabels:
    """Labels whose order may be meaningful: int codes (-1 missing) and categories."""

    codes: NDArray[np.integer[Any]]
    categories: Sequence[str]
    ordered: bool


@dataclass(frozen=True, slots=True)
class Nullable:
    """Whole numbers or truth values, some of them missing: values, and True where there is none."""

    values: NDArray[Any]
    missing: NDArray[np.bool_]


ColumnOut = Column | OrderedLabels | Nullable | Sequence[str]


def write_column(sink: Sink, place: str, column: ColumnOut, attrs: Mapping[str, Any] | None = None) -> None:
    """Write one column at a path, with attributes beside those of its encoding."""
    more = dict(attrs or {})
    if isinstance(column, Categorical | OrderedLabels):
        ordered = isinstance(column, OrderedLabels) and column.ordered
        sink.group(place, {**_CATEGORICAL, "ordered": ordered, **more})
        sink.texts(f"{place}/categories", column.categories, TEXTS)
        _array(sink, f"{place}/codes", column.codes.astype(np.int8 if len(column.categories) < 128 else np.int32))
    elif isinstance(column, Nullable):
        kind = "nullable-boolean" if column.values.dtype == np.bool_ else "nullable-integer"
        sink.group(place, {"encoding-type": kind, "encoding-version": "0.1.0", **more})
        _array(sink, f"{place}/values", column.values)
        _array(sink, f"{place}/mask", column.missing)
    elif isinstance(column, np.ndarray):
        _array(sink, place, column, more)
    else:
        sink.texts(place, column, {**TEXTS, **more})


def _array(sink: Sink, place: str, values: NDArray[Any], attrs: Mapping[str, Any] | None = None) -> None:
    sink.array(place, values.shape, values.dtype, lambda a, b: values[a:b], {**ARRAY, **(attrs or {})})
