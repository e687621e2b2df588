"""Metadata columns by kind: categories, numbers, logicals, dates, times and free text."""

import re
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.model import Categorical, Column, Experiment
from cellworker.protocol.columns import Labels, Logicals, Numbers, TypedColumn

__all__ = ["ColumnKind", "DescribedColumn", "by_cell_id", "describe", "find_column", "numbers_of", "typed"]

ColumnKind = Literal["category", "number", "logical", "date", "time", "text"]

T = TypeVar("T", bound=np.generic)

_DATE = re.compile(r"-?\d{4}-\d\d-\d\d")
_TIME = re.compile(r"-?\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
_FEW, _MANY = 20, 1000
"""Numbers of labels: from the first on, a column may be free text; from the second on, it is."""


@dataclass(frozen=True, slots=True)
class DescribedColumn:
    """Facts about a column, without its values.

    Attributes
    ----------
    kind
        "date" and "time" are columns whose labels are dates (``2024-02-29``) or times in UTC
        (``2024-02-29T12:00:00Z``); "text" is a column whose labels hardly repeat.
    integer
        Whether its numbers are whole.
    levels
        Number of labels; None for numbers.
    smallest, largest
        Of its finite numbers, or of its dates and times; None where there are none.
    missing
        Number of cells without a value.
    """

    name: str
    kind: ColumnKind
    integer: bool
    levels: int | None
    smallest: float | str | None
    largest: float | str | None
    missing: int


def find_column(experiment: Experiment, name: str, what: str) -> Column:
    """Return a metadata column.

    Raises
    ------
    WorkerError
        ``R_WORKER_COLUMN_NOT_FOUND``; `what` is the request's field.
    """
    if name not in experiment.metadata:
        message = f"{what}: the experiment has no metadata column {name!r}; ListCellColumns tells which there are."
        raise WorkerError(ErrorCode.R_WORKER_COLUMN_NOT_FOUND, message)
    return experiment.metadata[name]


def describe(name: str, column: Column) -> DescribedColumn:
    """Determine the facts about a column."""
    if isinstance(column, Categorical):
        return _described_labels(name, column)
    if column.dtype == np.bool_:
        return DescribedColumn(name, "logical", False, 2, None, None, 0)  # noqa: FBT003
    finite = column if column.dtype.kind in "iu" else column[np.isfinite(column)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (None, None)
    missing = 0 if column.dtype.kind in "iu" else int(np.isnan(column).sum())
    whole = column.dtype.kind in "iu" or (len(finite) > 0 and bool(np.all(finite == np.floor(finite))))
    return DescribedColumn(name, "number", whole, None, low, high, missing)


def _described_labels(name: str, column: Categorical) -> DescribedColumn:
    labels, missing = column.categories, int((column.codes < 0).sum())
    kind = _kind_of(column, len(column.codes) - missing)
    ordered = labels if kind in {"date", "time"} else []
    return DescribedColumn(
        name,
        kind,
        False,  # noqa: FBT003
        len(labels),
        min(ordered, default=None),
        max(ordered, default=None),
        missing,
    )


def _kind_of(column: Categorical, known: int) -> ColumnKind:
    labels = column.categories
    if labels == ["FALSE", "TRUE"]:
        return "logical"
    if labels and all(map(_DATE.fullmatch, labels)):
        return "date"
    if labels and all(map(_TIME.fullmatch, labels)):
        return "time"
    return "text" if len(labels) > _MANY or (len(labels) > _FEW and 2 * len(labels) > known) else "category"


def typed(experiment: Experiment, column: Column) -> TypedColumn:
    """Return a column by cell id; ids that no cell has are missing."""
    if isinstance(column, Categorical):
        codes = by_cell_id(experiment, column.codes, -1)
        if column.categories == ["FALSE", "TRUE"]:
            return Logicals(codes == 1, codes < 0)
        return Labels(codes, column.categories)
    gaps = None
    if len(experiment.cell_ids) <= experiment.max_cell_id:
        gaps = experiment.position_of_id < 0
    if column.dtype == np.bool_:
        return Logicals(by_cell_id(experiment, column, 0), gaps)
    if column.dtype.kind in "iu":
        return Numbers(by_cell_id(experiment, column, 0), gaps)
    return Numbers(by_cell_id(experiment, column, np.nan))


def by_cell_id(experiment: Experiment, values: NDArray[T], fill: float) -> NDArray[T]:
    """Spread one value per cell over a vector by cell id, ``(max_cell_id + 1,)`` of the same type."""
    out = np.full(experiment.max_cell_id + 1, fill, values.dtype)
    out[experiment.cell_ids] = values
    return out


def numbers_of(column: Column) -> NDArray[np.float64] | None:
    """Return a column as numbers, NaN where missing: numbers, and logicals as 0 and 1; None for labels."""
    if isinstance(column, Categorical):
        if column.categories != ["FALSE", "TRUE"]:
            return None
        return np.where(column.codes < 0, np.nan, column.codes).astype(np.float64)
    return column.astype(np.float64)
