"""The platform's cell ids, in a column of the cells."""

import numpy as np
from numpy.typing import NDArray

from cellworker.experiment.model import Categorical, Column
from cellworker.formats.common.findings import Findings

__all__ = ["read_cell_ids"]

_IDS = "cells_id"
_MAX_ID = 2**31 - 2


def read_cell_ids(
    metadata: dict[str, Column], n_cells: int, findings: Findings, table: str = "meta.data", *, platform: bool = False
) -> NDArray[np.int32]:
    """Return the platform's cell ids, or 0 .. n - 1 for an object that has none.

    Text in a user's own column ``cells_id`` is something else: it stays in `metadata`, as ``cells_id (column)``.

    Parameters
    ----------
    platform
        Whether the platform made the object: text is then an error, as numbers that cannot be ids always are.
    """
    column = metadata.get(_IDS)
    counted = np.arange(n_cells, dtype=np.int32)
    field, instead = f"{table} {_IDS}", "cells are numbered 0, 1, 2, ... in their order"
    if column is None:
        findings.fallback(field, found="no such column", advice=instead)
        return counted
    limit = min(_MAX_ID, 50 * n_cells + 1_000_000)
    problem = _problem_of_ids(column, n_cells, limit)
    if problem is None:
        assert not isinstance(column, Categorical)
        return column.astype(np.int32)
    is_text = isinstance(column, Categorical) or column.dtype == np.bool_
    expected = f"whole numbers from 0 to {limit}, each once"
    if platform or not is_text:
        advice = "write the platform's 0-based cell ids into this column and save the object again"
        findings.error(field, found=problem, expected=expected, advice=advice)
    else:
        metadata[f"{_IDS} (column)"] = metadata.pop(_IDS)
        found = f"{problem}, which are not the platform's ids"
        findings.fallback(field, found=found, advice=f"{instead}; the column is kept as {_IDS} (column)")
    return counted


def _problem_of_ids(column: Column, n_cells: int, limit: int) -> str | None:
    """Say why a column cannot hold the platform's cell ids; None where it can."""
    if isinstance(column, Categorical) or column.dtype == np.bool_:
        return "text"
    bad = ~np.isfinite(column) | (column != np.floor(column))
    if bad.any():
        return f"{int(bad.sum())} values that are missing or not whole"
    if n_cells and (column.min() < 0 or column.max() > limit):
        outside = column.min() if column.min() < 0 else column.max()
        return f"the id {outside:.0f}"
    repeated = n_cells - len(np.unique(column))
    return f"{repeated} repeated ids" if repeated else None
