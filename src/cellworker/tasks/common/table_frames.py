"""What results look like as tables: columns by name, for data frames and files."""

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["Tables", "with_every_cell"]

Tables = dict[str, Mapping[str, Sequence[Any]]]
"""Tables by name; each maps column names to columns of one length, in order."""


def with_every_cell(tables: Tables, cell_ids: Sequence[int]) -> Tables:
    """Return tables of cells in which every cell has a row, in the order of the ids.

    Parameters
    ----------
    tables
        With a column ``cell_id`` each; a cell may have several rows, or none.
    cell_ids
        Of all cells of the experiment.

    Returns
    -------
    The tables, with a row of None (but for the id) for each cell that had none.
    """
    return {name: _completed(table, cell_ids) for name, table in tables.items()}


def _completed(table: Mapping[str, Sequence[Any]], cell_ids: Sequence[int]) -> Mapping[str, Sequence[Any]]:
    there = set(table["cell_id"])
    lacking = [cell for cell in cell_ids if cell not in there]
    if not lacking:
        return table
    cells = [*table["cell_id"], *lacking]
    order = sorted(range(len(cells)), key=cells.__getitem__)
    padded = {name: [*column, *[None] * len(lacking)] for name, column in table.items()} | {"cell_id": cells}
    return {name: [column[i] for i in order] for name, column in padded.items()}
