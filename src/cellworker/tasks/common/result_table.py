"""Tables of tested genes: the paging that differential expression shares with its batch."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellworker.errors import ErrorCode, WorkerError
from cellworker.protocol.bodies import Filter, Pagination
from cellworker.tasks.common.tables import TableColumn, number_filter, select_page, text_filter

__all__ = ["SMALLEST", "page_of", "whole"]

SMALLEST = 2.2250738585072014e-308
"""The smallest normal double: stands for an adjusted p-value of exactly zero."""

_NUMERIC = ("p_val", "logFC", "pct_1", "pct_2", "p_val_adj", "auc", "AveExpr")
_TEXTS = ("gene_names", "Gene")

Columns = dict[str, TableColumn]


def whole(columns: Columns) -> dict[str, Any]:
    """Return the engine's value for a table that nobody pages."""
    return {"gene_results": columns, "full_count": len(columns["Gene"])}


def page_of(columns: Columns, pagination: Pagination, *, genes_only: bool) -> dict[str, Any]:
    """Filter, order and slice (contract 5.3 with decisions.md).

    With `genes_only` the first `limit` names and ids, whatever the offset: that is a download of a list, not a page.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` for a filter that cannot be understood, naming it.
    """
    keep = np.ones(len(columns["Gene"]), bool)
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
    rows = {name: _rows(column, page.rows) for name, column in columns.items()}
    if genes_only:
        rows = {"gene_names": rows["gene_names"], "gene_id": rows["Gene"]}
    return {"gene_results": rows, "full_count": page.total}


def _filtered(columns: Mapping[str, TableColumn], item: Filter, where: str) -> NDArray[np.bool_]:
    name = item.column_name
    if name not in (*_NUMERIC, *_TEXTS):
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
        assert not isinstance(column, np.ndarray)
        return text_filter(column, item.expression)
    if item.comparison is None or item.value is None:
        raise WorkerError(
            ErrorCode.INVALID_INPUT,
            f"{where}: {name} is a number, give comparison (greaterThan or lessThan) and value.",
        )
    if column is None:  # a column of the other comparison type: the UI keeps its filters when the user switches
        return np.ones(len(columns["Gene"]), bool)
    assert isinstance(column, np.ndarray)
    return number_filter(column, item.comparison, item.value)


def _rows(column: TableColumn, rows: NDArray[np.int64]) -> TableColumn:
    return column[rows] if isinstance(column, np.ndarray) else [column[i] for i in rows.tolist()]
