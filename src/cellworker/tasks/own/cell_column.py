"""GetCellColumn: one metadata column, a value for each cell."""

from msgspec import Struct

from cellworker.experiment.model import Experiment
from cellworker.protocol.columns import ColumnTable
from cellworker.protocol.validation import Text
from cellworker.tasks.common.cell_columns import describe, find_column, typed
from cellworker.tasks.common.table_frames import column_tables
from cellworker.tasks.task import Context, PrepareInput, Task

__all__ = ["CELL_COLUMN"]


class CellColumnBody(Struct):
    """GetCellColumn."""

    column: Text


class CellColumnRequest(Struct):
    """``getCellColumn``."""

    column: Text


def prepare(given: PrepareInput) -> CellColumnRequest:
    """Pass the name on."""
    body: CellColumnBody = given.body
    return CellColumnRequest(body.column)


def compute(experiment: Experiment, request: CellColumnRequest, context: Context) -> ColumnTable:  # noqa: ARG001
    """Return the values by cell id; missing where the cell has none or no cell has the id.

    Raises
    ------
    WorkerError
        ``R_WORKER_COLUMN_NOT_FOUND``.
    """
    column = find_column(experiment, request.column, "body.column")
    found = describe(request.column, column)
    facts = {
        "byCell": True,
        "column": request.column,
        "kind": found.kind,
        "missing": found.missing,
        "colors": experiment.colors.get(request.column),
    }
    return ColumnTable({request.column: typed(experiment, column)}, facts)


CELL_COLUMN = Task(
    name="GetCellColumn",
    path="getCellColumn",
    about="one metadata column: a value for each cell, with its labels and their colours",
    example=lambda parts: {"column": parts.column},
    ours=True,
    body=CellColumnBody,
    request=CellColumnRequest,
    prepare=prepare,
    compute=compute,
    columns=compute,
    to_tables=column_tables,
)
