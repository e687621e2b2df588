"""ListCellColumns: the metadata columns of the cells, and facts about each."""

from typing import Any

from msgspec import Struct

from cellworker.experiment.model import Experiment
from cellworker.tasks.common.cell_columns import describe
from cellworker.tasks.common.table_frames import Tables
from cellworker.tasks.task import Context, PrepareInput, Task

__all__ = ["LIST_CELL_COLUMNS"]


class ListCellColumnsBody(Struct):
    """ListCellColumns: no fields."""


class ListCellColumnsRequest(Struct):
    """``listCellColumns``: no fields."""


def prepare(given: PrepareInput) -> ListCellColumnsRequest:  # noqa: ARG001
    """Return an empty request: only the experiment is needed."""
    return ListCellColumnsRequest()


def compute(experiment: Experiment, request: ListCellColumnsRequest, context: Context) -> dict[str, Any]:  # noqa: ARG001
    """Return the columns in the file's order."""
    roles = {column: role for role, column in experiment.origin.columns.items() if column}
    columns = []
    for name, column in experiment.metadata.items():
        found = describe(name, column)
        columns.append(
            {
                "name": name,
                "kind": found.kind,
                "integer": found.integer,
                "levels": found.levels,
                "min": found.smallest,
                "max": found.largest,
                "missing": found.missing,
                "hasColors": name in experiment.colors,
                "role": roles.get(name),
            }
        )
    return {"columns": columns}


def to_tables(result: dict[str, Any]) -> Tables:
    """One table: a row for each column."""
    names = ("name", "kind", "integer", "levels", "min", "max", "missing", "hasColors", "role")
    return {"columns": {name: [column[name] for column in result["columns"]] for name in names}}


LIST_CELL_COLUMNS = Task(
    name="ListCellColumns",
    path="listCellColumns",
    about="the metadata columns of the cells: kinds, labels, ranges, missing values",
    ours=True,
    body=ListCellColumnsBody,
    request=ListCellColumnsRequest,
    prepare=prepare,
    compute=compute,
    to_tables=to_tables,
)
