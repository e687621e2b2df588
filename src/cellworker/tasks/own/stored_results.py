"""ListStoredResults, GetStoredResult: results stored in the file, such as scanpy's tests of genes."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.model import Categorical, Column, Experiment, StoredTable
from cellworker.protocol.columns import ColumnTable, Labels, Logicals, Numbers, TypedColumn
from cellworker.protocol.validation import Count, Positive, Text
from cellworker.tasks.common.table_frames import Tables, column_tables
from cellworker.tasks.task import Context, PrepareInput, Task

__all__ = ["LIST_STORED_RESULTS", "STORED_RESULT"]

_GROUP = "group"
_MAX_SHOWN = 50
"""Max names in a message, and max characters of each."""


class ListStoredResultsBody(Struct):
    """ListStoredResults: no fields."""


class ListStoredResultsRequest(Struct):
    """``listStoredResults``: no fields."""


class StoredResultBody(Struct):
    """GetStoredResult. `group`: only the rows of that group, where the table has a column of groups."""

    result: Text
    group: str | None = None
    offset: Count = 0
    limit: Positive | None = None


class StoredResultRequest(Struct):
    """``getStoredResult``."""

    result: Text
    group: str | None = None
    offset: Count = 0
    limit: Positive | None = None


def prepare_list(given: PrepareInput) -> ListStoredResultsRequest:  # noqa: ARG001
    """Return an empty request: only the experiment is needed."""
    return ListStoredResultsRequest()


def prepare_one(given: PrepareInput) -> StoredResultRequest:
    """Pass the body on."""
    body: StoredResultBody = given.body
    return StoredResultRequest(body.result, body.group, body.offset, body.limit)


def compute_list(experiment: Experiment, request: ListStoredResultsRequest, context: Context) -> dict[str, Any]:  # noqa: ARG001
    """Return the stored results, in the file's order."""
    return {"results": [{"name": name, **_described(table)} for name, table in experiment.stored.items()]}


def _described(table: StoredTable) -> dict[str, Any]:
    return {
        "source": table.source,
        "kind": table.kind,
        "rows": table.n_rows,
        "columns": list(table.columns),
        "groups": _groups(table),
        "parameters": table.parameters,
    }


def _groups(table: StoredTable) -> list[str]:
    column = table.columns.get(_GROUP)
    return column.categories if isinstance(column, Categorical) else []


def compute_one(experiment: Experiment, request: StoredResultRequest, context: Context) -> ColumnTable:  # noqa: ARG001
    """Return one result as a table, in the file's order.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` listing the stored results.
    """
    table = experiment.stored.get(request.result)
    if table is None:
        there = f"it has {_some(experiment.stored)}" if experiment.stored else "it has none"
        message = f"body.result: the file brought no result {request.result!r}: {there}."
        raise WorkerError(ErrorCode.INVALID_INPUT, message)
    rows = np.arange(table.n_rows)
    if request.group is not None:
        groups = _groups(table)
        if request.group not in groups:
            known = f"its groups are {_some(groups)}" if groups else "it has no groups"
            message = f"body.group: {request.result!r} has no group {request.group!r}: {known}."
            raise WorkerError(ErrorCode.INVALID_INPUT, message)
        column = table.columns[_GROUP]
        assert isinstance(column, Categorical)
        rows = np.flatnonzero(column.codes == groups.index(request.group))
    end = len(rows) if request.limit is None else request.offset + request.limit
    page = rows[request.offset : end]
    facts = {
        "byCell": False,
        "result": request.result,
        "source": table.source,
        "kind": table.kind,
        "total": len(rows),
        "parameters": table.parameters,
    }
    return ColumnTable({name: _typed(column, page) for name, column in table.columns.items()}, facts)


def _some(names: Iterable[str]) -> str:
    """Return the first names for a message, each cut short: the file may hold names of any number and length."""
    known = list(names)
    shown = (name if len(name) <= _MAX_SHOWN else f"{name[:_MAX_SHOWN]}..." for name in known[:_MAX_SHOWN])
    return ", ".join(shown) + (", ..." if len(known) > _MAX_SHOWN else "")


def _typed(column: Column, rows: NDArray[np.int64]) -> TypedColumn:
    if isinstance(column, Categorical):
        codes = column.codes[rows]
        used, places = np.unique(codes[codes >= 0], return_inverse=True)
        narrow = np.full(len(codes), -1, np.int32)
        narrow[codes >= 0] = places
        return Labels(narrow, [column.categories[i] for i in used.tolist()])
    return Logicals(column[rows]) if column.dtype == np.bool_ else Numbers(column[rows])


def list_tables(result: dict[str, Any]) -> Tables:
    """One table: a row for each result."""
    names = ("name", "source", "kind", "rows")
    columns: dict[str, list[Any]] = {name: [item[name] for item in result["results"]] for name in names}
    return {"results": {**columns, "columns": [", ".join(item["columns"]) for item in result["results"]]}}


LIST_STORED_RESULTS = Task(
    name="ListStoredResults",
    path="listStoredResults",
    about="results that the file brought with it: scanpy's tests of genes, tables and values in uns or misc",
    ours=True,
    body=ListStoredResultsBody,
    request=ListStoredResultsRequest,
    prepare=prepare_list,
    compute=compute_list,
    to_tables=list_tables,
)

STORED_RESULT = Task(
    name="GetStoredResult",
    path="getStoredResult",
    about="one result that the file brought with it, as a table",
    example=lambda parts: {"result": parts.stored},
    ours=True,
    body=StoredResultBody,
    request=StoredResultRequest,
    prepare=prepare_one,
    compute=compute_one,
    columns=compute_one,
    to_tables=column_tables,
)
