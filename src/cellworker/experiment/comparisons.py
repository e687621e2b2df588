"""The sides of a comparison. Only this module reads ``cellSet``, ``compareWith`` and ``basis``."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.cell_sets import CellSets
from cellworker.experiment.id_sets import common, union, without

__all__ = ["Comparison", "EmptySideError", "resolve_comparison"]

_ALL, _REST, _BACKGROUND = "all", "rest", "background"


class EmptySideError(WorkerError):
    """One side of a comparison has no cells. The keys are valid, so other comparisons of a batch continue."""

    @classmethod
    def of(cls, *, first: bool) -> "EmptySideError":
        """Return the error for one side. The spelling is the original's, since the UI knows these messages."""
        side = "1st" if first else "2nd"
        return cls(ErrorCode.INVALID_INPUT, f"No cell id fullfills the {side} cell set.")


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two disjoint, non-empty sets of cell ids: int32, ascending."""

    base: NDArray[np.int32]
    background: NDArray[np.int32]


def resolve_comparison(cell_sets: CellSets, *, cell_set: str, compare_with: str, basis: str | None) -> Comparison:
    """Turn keys into cells (contract 5.0 with decisions.md).

    Parameters
    ----------
    cell_sets
        The experiment's current cell sets.
    cell_set
        Key of a set, or of a class, which means the union of its sets.
    compare_with
        A key; or exactly ``background`` or ``all``: every cell of the file that is not in `cell_set`; or exactly
        ``rest``: the other sets of the class that `cell_set` belongs to. A key of that name takes precedence. Cells on
        both sides are removed from both.
    basis
        A key to which both sides are restricted; None, empty or ``all`` (in any case) restricts nothing.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` naming an unknown key.
    EmptySideError
        Where a side has no cells. Unknown keys are reported first.
    """
    base = cell_sets.cells_of(cell_set, "cellSet")
    known = set(cell_sets.keys)
    if compare_with not in known and compare_with in (_BACKGROUND, _ALL):
        background = without(cell_sets.all_cell_ids(), base)
    else:
        other = _rest(cell_sets, cell_set) if compare_with not in known and compare_with == _REST else None
        if other is None:
            other = cell_sets.cells_of(compare_with, "compareWith")
        background = without(other, base)
        base = without(base, other)
    if basis and (basis in known or basis.lower() != _ALL):
        allowed = cell_sets.cells_of(basis, "basis")
        base, background = common(base, allowed), common(background, allowed)
    if not len(base) or not len(background):
        raise EmptySideError.of(first=not len(base))
    return Comparison(base, background)


def _rest(cell_sets: CellSets, cell_set: str) -> NDArray[np.int32]:
    parent = cell_sets.class_of(cell_set)
    if parent is None:  # a class has no siblings to compare with
        return np.empty(0, np.int32)
    # by key, so that a second set of the same key is not the rest of itself
    chosen = cell_sets.find_set(cell_set)
    parts = [child.cell_ids for child in parent.children if chosen is None or child.key != chosen.key]
    return union(parts)
