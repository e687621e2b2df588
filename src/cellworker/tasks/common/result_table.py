"""Tables of tested genes, and the paging that differential expression shares with its batch.

Columns of p-values are ordered by the statistic behind them, so rows and pages do not depend on where a double
underflows. The wire has the doubles; our own tables also have their decimal logarithms, which never underflow.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellworker.analysis.statistics.p_values import PValues
from cellworker.errors import ErrorCode, WorkerError
from cellworker.protocol.pagination import Filter, Pagination
from cellworker.tasks.common.tables import Ranked, TableColumn, number_filter, select_page, take, text_filter

__all__ = ["SMALLEST", "adjusted_column", "log_columns", "p_column", "page_of", "plain", "whole", "with_logs"]

SMALLEST = 2.2250738585072014e-308
"""The smallest normal double, shown for an adjusted p-value of zero."""

_NUMERIC = ("p_val", "logFC", "pct_1", "pct_2", "p_val_adj", "auc", "AveExpr")
_TEXTS = ("gene_names", "Gene")

Columns = dict[str, TableColumn]

_P_COLUMNS = ("p_val", "p_val_adj", "log10_p", "log10_p_adj")


def whole(columns: Columns) -> dict[str, Any]:
    """Return the engine's value for a whole table."""
    _check(columns)
    return {"gene_results": plain(columns), "full_count": _n_rows(columns)}


def _check(columns: Mapping[str, TableColumn]) -> None:
    """Check that no column of p-values is ordered by its doubles."""
    for name in _P_COLUMNS:
        if name in columns and not isinstance(columns[name], Ranked):
            message = f"the column {name} has no order: make it of PValues"
            raise TypeError(message)


def _n_rows(columns: Mapping[str, TableColumn]) -> int:
    genes = columns["Gene"]
    assert not isinstance(genes, Ranked)
    return len(genes)


def plain(columns: Columns) -> dict[str, Any]:
    """Return the columns as shown."""
    return {name: column.values if isinstance(column, Ranked) else column for name, column in columns.items()}


def p_column(p_values: PValues) -> Ranked:
    """Return the column of p-values."""
    return Ranked(p_values.values, p_values.key)


def adjusted_column(p_values: PValues) -> Ranked:
    """Return the column of p-values adjusted for the false discovery rate, with `SMALLEST` for 0 (contract 5.3)."""
    adjusted, key = p_values.adjusted_values()
    return Ranked(np.where(adjusted == 0, SMALLEST, adjusted), key)


def log_columns(p_values: PValues) -> Columns:
    """Return the columns that our own tables have beside the wire's."""
    adjusted = p_values.adjusted()
    return {"log10_p": Ranked(p_values.log10, p_values.key), "log10_p_adj": Ranked(adjusted.log10, adjusted.key)}


def with_logs(columns: Mapping[str, list[Any]]) -> Mapping[str, list[Any]]:
    """Add logarithms to a table from the wire, which has none: they are missing where p-values underflow."""
    if "p_val" not in columns or "log10_p" in columns:
        return columns
    smallest = {"p_val": 0.0, "p_val_adj": SMALLEST}
    names = {"p_val": "log10_p", "p_val_adj": "log10_p_adj"}
    logs = {
        names[name]: [None if p is None or p <= least else math.log10(p) for p in columns[name]]
        for name, least in smallest.items()
        if name in columns
    }
    return {**columns, **logs}


def page_of(columns: Columns, pagination: Pagination, *, genes_only: bool) -> dict[str, Any]:
    """Filter, order and slice (contract 5.3 with decisions.md).

    With `genes_only`, return the first `limit` names and ids, whatever the offset: it is a download of a list, not a
    page.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` naming a filter that is not understood.
    """
    _check(columns)
    keep = np.ones(_n_rows(columns), bool)
    for number, item in enumerate(pagination.filters):
        keep &= _filtered(columns, item, f"pagination.filters[{number}]")
    page = select_page(
        columns,
        len(keep),
        keep=keep,
        order_by=pagination.order_by,
        descending=pagination.order_direction.upper() == "DESC",
        offset=0 if genes_only else pagination.offset,
        limit=pagination.limit,
    )
    rows = plain({name: take(column, page.rows) for name, column in columns.items()})
    if genes_only:
        rows = {"gene_names": rows["gene_names"], "gene_id": rows["Gene"]}
    return {"gene_results": rows, "full_count": page.total}


def _filtered(columns: Mapping[str, TableColumn], item: Filter, where: str) -> NDArray[np.bool_]:
    name = item.column_name
    if name not in (*_NUMERIC, *_TEXTS, *columns):
        known = ", ".join((*_NUMERIC, *_TEXTS))
        raise WorkerError(
            ErrorCode.INVALID_INPUT, f"{where}.columnName: there is no column {name!r}; columns are {known}."
        )
    column = columns.get(name)
    if name in _TEXTS:
        if item.expression is None:
            raise WorkerError(
                ErrorCode.INVALID_INPUT, f"{where}.expression: {name} is text, give the expression to look for."
            )
        assert column is not None
        assert not isinstance(column, (np.ndarray, Ranked))
        return text_filter(column, item.expression)
    if item.comparison is None or item.value is None:
        raise WorkerError(
            ErrorCode.INVALID_INPUT,
            f"{where}: {name} is a number, give comparison (greaterThan or lessThan) and value.",
        )
    if column is None:  # a column of the other comparison type: the UI keeps its filters when the user switches
        return np.ones(_n_rows(columns), bool)
    numbers = column.values if isinstance(column, Ranked) else column
    assert isinstance(numbers, np.ndarray)
    return number_filter(numbers, item.comparison, item.value)
