"""Results as tables: columns by name, for data frames and files."""

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["Tables", "column_tables"]

Tables = dict[str, Mapping[str, Sequence[Any]]]
"""Tables by name; each maps column names to columns of one length, in order."""


def column_tables(result: dict[str, Any]) -> Tables:
    """Return typed columns (`protocol.columns`, as JSON) as a table: ``cells`` with their ids, or ``rows``.

    A table by cell has no row for a cell without a value.
    """
    columns = {column["name"]: _values(column) for column in result["columns"]}
    if not result.get("byCell"):
        return {"rows": columns}
    length = max(map(len, columns.values()), default=0)
    known = [i for i in range(length) if any(values[i] is not None for values in columns.values())]
    return {"cells": {"cell_id": known, **{name: [values[i] for i in known] for name, values in columns.items()}}}


def _values(column: dict[str, Any]) -> list[Any]:
    values: list[Any] = column["values"]
    if column["kind"] == "category":
        labels = column["labels"]
        return [None if code is None else labels[code] for code in values]
    if column["kind"] == "sparse":
        out: list[Any] = [0.0] * column["length"]
        for row, value in zip(column["rows"], values, strict=True):
            out[row] = value
        return out
    return values
