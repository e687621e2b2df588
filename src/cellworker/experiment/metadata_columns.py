"""Columns of cell metadata."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Categorical", "Column", "labels_of"]


@dataclass(frozen=True, slots=True)
class Categorical:
    """A column of labels.

    Attributes
    ----------
    codes
        int32 ``(n_cells,)``: position in `categories`, -1 where missing.
    categories
        The labels, in the factor's level order.
    """

    codes: NDArray[np.int32]
    categories: list[str]


Column = NDArray[Any] | Categorical
"""A column of cell metadata: float64 (NaN missing), int64, bool, or labels."""


def labels_of(column: Column | None) -> Categorical | None:
    """Return a column as labels; None where it holds anything but text, logicals or whole numbers."""
    if column is None or isinstance(column, Categorical):
        return column
    if column.dtype == np.bool_:
        return Categorical(column.astype(np.int32), ["FALSE", "TRUE"])
    known = np.isfinite(column)
    if not known.any() or np.any(np.isinf(column)) or np.any(column[known] != np.floor(column[known])):
        return None
    values, codes = np.unique(column[known], return_inverse=True)
    out = np.full(len(column), -1, np.int32)
    out[known] = codes
    return Categorical(out, [str(int(value)) for value in values.tolist()])
