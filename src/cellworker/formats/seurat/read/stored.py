"""Results in ``misc`` of a Seurat object as tables: data frames, matrices, vectors, and lists of them."""

import numpy as np
from numpy.typing import NDArray

from cellworker.experiment.model import Categorical, Column
from cellworker.formats.common.cells.labels import categorical
from cellworker.formats.common.findings import Findings
from cellworker.formats.common.stored_results import DEEPEST, ResultTables, values_table
from cellworker.formats.r.rds.model import RList, RStrings, RValue, RVector
from cellworker.formats.r.values import Frame, dim, dimnames, frame, named, slot
from cellworker.formats.seurat.read.cells import read_column

__all__ = ["stored_results"]

_SERVED = frozenset(
    {
        "color_pool", "numPCs", "active.reduction", "microns_per_pixel", "technology", "experimentId", "ingestionDate",
        "gene_annotations", "gene_dispersion", "cellworker_images", "cellworker_identities",
    }
)  # fmt: skip
"""Elements that are read elsewhere."""
_MAX_MATRIX_COLUMNS = 100


def stored_results(misc: RValue | None, findings: Findings) -> ResultTables:
    """Collect what is in ``misc``."""
    found = ResultTables()
    for name, value in named(misc):
        if name not in _SERVED and not name.endswith("_colors"):
            _collect(found, name, value, f"misc/{name}", 0)
    found.tell(findings, "misc")
    return found


def _collect(found: ResultTables, name: str, value: RValue, source: str, depth: int) -> None:
    shape = dim(value)
    if isinstance(value, RList):
        table = frame(value) if slot(value, "row.names") is not None else None
        if table is not None:
            found.add(name, source, "table", _frame(table))
        elif depth < DEEPEST:
            _collect_list(found, name, value, source, depth)
    elif isinstance(value, RVector) and shape is not None:
        found.add(name, source, "table", _matrix(value, shape))
    elif isinstance(value, RStrings | RVector):
        items = _column(value)
        if items is not None:
            titles = slot(value, "names")
            named_values = isinstance(titles, RStrings) and len(titles) == len(value)
            labels: dict[str, Column] = {"name": categorical(titles.tolist())} if named_values else {}  # type: ignore[union-attr]
            found.add(name, source, "list", {**labels, "value": items})


def _collect_list(found: ResultTables, name: str, value: RList, source: str, depth: int) -> None:
    single: dict[str, str] = {}
    for member, item in named(value):
        if isinstance(item, RStrings | RVector) and len(item) == 1:
            column = _column(item)
            if column is not None:
                single[member] = _text(column)
        else:
            _collect(found, f"{name}.{member}", item, f"{source}/{member}", depth + 1)
    if single:
        found.add(name, source, "values", values_table(single))


def _text(column: Column) -> str:
    if isinstance(column, Categorical):
        return column.categories[int(column.codes[0])] if column.codes[0] >= 0 else "NA"
    return str(column[0].item())


def _column(value: RValue) -> Column | None:
    size = len(value) if isinstance(value, RStrings | RVector) else 0
    return read_column(value, np.arange(size, dtype=np.int64), size) if size else None


def _frame(table: Frame) -> dict[str, Column]:
    out: dict[str, Column] = {}
    if table.rows is not None:
        out["row"] = categorical(table.rows)
    rows = np.arange(table.n_rows, dtype=np.int64)
    for name, value in table.columns if table.n_rows else []:
        column = read_column(value, rows, table.n_rows)
        if name and name not in out and column is not None:
            out[name] = column
    return out


def _matrix(value: RVector, shape: tuple[int, int]) -> dict[str, Column]:
    if shape[1] > _MAX_MATRIX_COLUMNS or value.kind in {"complex", "raw"} or len(value) != shape[0] * shape[1]:
        return {}
    rows, columns = dimnames(value)
    out: dict[str, Column] = {} if rows is None else {"row": categorical(rows.tolist())}
    names = [f"{i + 1}" for i in range(shape[1])] if columns is None else columns.tolist()
    every: NDArray[np.int64] = np.arange(shape[0], dtype=np.int64)
    for i, name in enumerate(names):
        part = RVector(value.values[i * shape[0] : (i + 1) * shape[0]], value.kind)
        column = read_column(part, every, shape[0]) if shape[0] else None
        if name and name not in out and column is not None:
            out[name] = column
    return out
