"""Results stored in a file (``uns`` of AnnData, ``misc`` of Seurat), collected as tables within limits."""

import numpy as np

from cellworker.experiment.model import Categorical, Column, StoredTable
from cellworker.formats.common.findings import Findings

__all__ = ["DEEPEST", "ResultTables", "values_table"]

DEEPEST = 4
"""Max depth of nested mappings."""
_MAX_TABLES, _MAX_COLUMNS, _MAX_VALUES = 200, 500, 16_000_000
"""Max values of all tables together: more than a person reads, and 128 MB."""
_MAX_TEXT = 10_000
"""Characters of one parameter."""


class ResultTables:
    """Collects tables.

    Attributes
    ----------
    tables
        By name, in the order in which they came.
    """

    def __init__(self) -> None:
        self.tables: dict[str, StoredTable] = {}
        self._values = 0
        self._left_out: list[str] = []

    def add(
        self,
        name: str,
        source: str,
        kind: str,
        columns: dict[str, Column],
        parameters: dict[str, str] | None = None,
    ) -> None:
        """Add a table whose columns have one length; empty tables are left out, too large ones are reported."""
        sizes = {len(column.codes if isinstance(column, Categorical) else column) for column in columns.values()}
        if len(sizes) != 1 or not name or name in self.tables:
            return
        n_values = sizes.pop() * len(columns)
        if not n_values:
            return
        too_many = len(self.tables) >= _MAX_TABLES or len(columns) > _MAX_COLUMNS
        if too_many or self._values + n_values > _MAX_VALUES:
            self._left_out.append(name)
            return
        self._values += n_values
        given = parameters or {}
        if len(given) > _MAX_COLUMNS:
            self._left_out.append(f"{name}.params")
            given = {}
        told = {key[:_MAX_TEXT]: text[:_MAX_TEXT] for key, text in given.items()}
        self.tables[name] = StoredTable(source, kind, columns, told)

    def leave_out(self, name: str) -> None:
        """Note a result that could not be read."""
        self._left_out.append(name)

    def tell(self, findings: Findings, where: str) -> None:
        """Report the results that are not among the tables."""
        if not self._left_out:
            return
        names = ", ".join(self._left_out[:8]) + (", ..." if len(self._left_out) > 8 else "")
        findings.fallback(
            where, found=f"results that are broken or too large to show: {names}",
            advice="they are not among the stored results",
        )  # fmt: skip


def values_table(values: dict[str, str]) -> dict[str, Column]:
    """Return single values as a table of their names and texts."""
    names, texts = list(values), [text[:_MAX_TEXT] for text in values.values()]
    known = list(dict.fromkeys(texts))
    place = {text: i for i, text in enumerate(known)}
    return {
        "name": Categorical(np.arange(len(names), dtype=np.int32), names),
        "value": Categorical(np.array([place[text] for text in texts], np.int32), known),
    }
