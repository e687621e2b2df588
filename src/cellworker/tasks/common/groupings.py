"""Groups of cells for our own tasks: a class of cell sets, a metadata column, or any sets and selections.

The engine never reads the cell sets: `prepare_grouping` turns keys into cells, which are sent as bitmaps or ranges
(`experiment.bitmaps`), and `groups_of` turns these into rows.
"""

from dataclasses import dataclass

import numpy as np
from msgspec import Struct, field
from numpy.typing import NDArray

from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.bitmaps import CellTotal, cells_of_bitmap, is_bitmap, write_cells
from cellworker.experiment.cell_sets import MAX_SELECTIONS, CellSet, CellSets
from cellworker.experiment.model import Experiment, labels_of

__all__ = [
    "Group",
    "Grouping",
    "RequestedGroup",
    "RequestedGrouping",
    "cells_key",
    "groups_of",
    "name_of",
    "prepare_grouping",
    "reads_cell_sets",
    "rows_of",
]

MAX_GROUPS = MAX_SELECTIONS
"""Max groups of a grouping; with more, an answer by groups is larger than one by cells."""


class Grouping(Struct):
    """A grouping of cells: exactly one of the three. `sets` are keys of cell sets, of classes, or selections."""

    cell_class: str | None = field(name="class", default=None)
    column: str | None = None
    sets: list[str] | None = None


class RequestedGroup(Struct):
    """One group in the engine's request; `cells` is a bitmap or ranges."""

    key: str
    name: str
    cells: str
    color: str | None = None


class RequestedGrouping(Struct):
    """Groups in the engine's request: those of a column, or given ones."""

    column: str | None = None
    groups: list[RequestedGroup] = []


@dataclass(frozen=True, slots=True)
class Group:
    """One group: `rows` are its cells in the experiment, int32, ascending."""

    key: str
    name: str
    color: str | None
    rows: NDArray[np.int32]


def reads_cell_sets(*parts: Grouping | str | None) -> bool:
    """Return whether groupings and keys name anything that needs the cell sets."""
    for part in parts:
        keys = (part.sets or []) if isinstance(part, Grouping) else [] if part is None else [part]
        if (isinstance(part, Grouping) and part.cell_class is not None) or not all(map(is_bitmap, keys)):
            return True
    return False


def prepare_grouping(grouping: Grouping, cell_sets: CellSets, what: str) -> RequestedGrouping:
    """Turn keys into cells.

    Parameters
    ----------
    what
        The request's field, for messages.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` unless exactly one kind of grouping is given, or for an unknown key.
    """
    given = [name for name in ("cell_class", "column", "sets") if getattr(grouping, name) is not None]
    if len(given) != 1:
        raise WorkerError(
            ErrorCode.INVALID_INPUT, f"{what}: expected exactly one of class, column and sets, found {len(given)}."
        )
    if grouping.column is not None:
        return RequestedGrouping(column=grouping.column)
    if grouping.cell_class is not None:
        found = cell_sets.find_class(grouping.cell_class)
        if found is None:
            raise WorkerError(
                ErrorCode.INVALID_INPUT, f"{what}.class: there is no class with the key {grouping.cell_class!r}."
            )
        total = CellTotal(f"{what}.class")
        return RequestedGrouping(groups=[_requested(child, total) for child in found.children])
    keys = grouping.sets or []
    _require_few_groups(len(keys), f"{what}.sets")  # before any lookup: each may stand for millions of cells
    sets, total = cell_sets.sets_by_key(), CellTotal(f"{what}.sets")
    return RequestedGrouping(
        groups=[_of_key(key, cell_sets, sets, total, f"{what}.sets[{i}]") for i, key in enumerate(keys)]
    )


def _of_key(key: str, cell_sets: CellSets, sets: dict[str, CellSet], total: CellTotal, what: str) -> RequestedGroup:
    named = sets.get(key) or (None if is_bitmap(key) else cell_sets.find_set(key))
    if named is not None:
        return _requested(named, total)
    cells = cell_sets.cells_of(key, what)
    total.add(len(cells))
    return RequestedGroup(key, name_of(key, cell_sets), write_cells(cells))


def _requested(item: CellSet, total: CellTotal) -> RequestedGroup:
    total.add(len(item.cell_ids))
    return RequestedGroup(item.key, item.name, write_cells(item.cell_ids), item.color)


def _require_few_groups(n_groups: int, what: str) -> None:
    if n_groups > MAX_GROUPS:
        message = f"{what}: gives {n_groups:,} groups; expected {MAX_GROUPS:,} at most."
        raise WorkerError(ErrorCode.INVALID_INPUT, message)


def cells_key(key: str, cell_sets: CellSets, what: str) -> str:
    """Return the cells of a set, a class or a selection as a bitmap or ranges.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` naming the field.
    """
    return write_cells(cell_sets.cells_of(key, what))


def name_of(key: str, cell_sets: CellSets) -> str:
    """Return the display name of a set, a class or a selection."""
    named = cell_sets.find_set(key) or cell_sets.find_class(key)
    return "a selection" if named is None else named.name


def rows_of(experiment: Experiment, cells: str, what: str) -> NDArray[np.int32]:
    """Return the rows of a bitmap or ranges, int32, ascending; ids that no cell has are ignored."""
    return _rows(experiment, cells_of_bitmap(cells, what))


def _rows(experiment: Experiment, cells: NDArray[np.int32]) -> NDArray[np.int32]:
    rows = experiment.positions(cells)
    return np.sort(rows[rows >= 0])


def groups_of(
    experiment: Experiment, grouping: RequestedGrouping, what: str, within: NDArray[np.int32] | None = None
) -> list[Group]:
    """Return the groups, in the order of the class, of the column's labels, or of the request.

    Parameters
    ----------
    what
        The request's field, for messages.
    within
        Rows that count; None for all.

    Raises
    ------
    WorkerError
        ``R_WORKER_COLUMN_NOT_FOUND`` without such a column; ``INVALID_INPUT`` for a column of measurements, or for too
        many groups.
    """
    allowed = None
    if within is not None:
        allowed = np.zeros(experiment.n_cells, np.bool_)
        allowed[within] = True
    groups = (
        _of_column(experiment, grouping.column, what) if grouping.column is not None else _given(experiment, grouping)
    )
    _require_few_groups(len(groups), what)
    if allowed is None:
        return groups
    return [Group(one.key, one.name, one.color, one.rows[allowed[one.rows]]) for one in groups]


def _given(experiment: Experiment, grouping: RequestedGrouping) -> list[Group]:
    _require_few_groups(len(grouping.groups), "request.groups")
    groups, total = [], CellTotal("request.groups")
    for i, one in enumerate(grouping.groups):
        cells = cells_of_bitmap(one.cells, f"request.groups[{i}].cells")
        total.add(len(cells))
        groups.append(Group(one.key, one.name, one.color, _rows(experiment, cells)))
    return groups


def _of_column(experiment: Experiment, column: str, what: str) -> list[Group]:
    if column not in experiment.metadata:
        message = f"{what}.column: the experiment has no metadata column {column!r}."
        raise WorkerError(ErrorCode.R_WORKER_COLUMN_NOT_FOUND, message)
    labels = labels_of(experiment.metadata[column])
    if labels is None:
        message = (
            f"{what}.column: {column!r} holds measurements; expected a column of labels, logicals or whole numbers."
        )
        raise WorkerError(ErrorCode.INVALID_INPUT, message)
    colors = experiment.colors.get(column, [])
    if len(labels.categories) > MAX_GROUPS:
        message = f"{what}.column: {column!r} has {len(labels.categories):,} labels; expected {MAX_GROUPS:,} at most."
        raise WorkerError(ErrorCode.INVALID_INPUT, message)
    order = np.argsort(labels.codes, kind="stable").astype(np.int32)
    ends = np.searchsorted(labels.codes[order], np.arange(len(labels.categories) + 1))
    return [
        Group(name, name, colors[i] if i < len(colors) else None, order[ends[i] : ends[i + 1]])
        for i, name in enumerate(labels.categories)
    ]
