"""Sets of cells as disjoint classes, since a scan needs one number per cell."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Groups", "Sorted", "check_offsets", "over_sets"]

Sorted = tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]
"""Gene-major values in order: indptr int64 ``(n_genes + 1,)``, cells int32 and values float32 ``(nnz,)``."""


@dataclass(frozen=True, slots=True)
class Groups:
    """Sets of cells, which may overlap, as classes, which do not.

    A *class* is the cells that belong to the same sets. Sums over classes add up to sums over sets, so overlapping sets
    do not slow the scan.

    Attributes
    ----------
    code
        int16 ``(n_cells,)``: class of each cell, -1 for cells in no set.
    members
        bool ``(n_sets, n_classes)``: which classes make up each set.
    class_sizes
        int64 ``(n_classes,)``.
    """

    code: NDArray[np.int16]
    members: NDArray[np.bool_]
    class_sizes: NDArray[np.int64]

    @classmethod
    def from_sets(cls, sets: Sequence[NDArray[np.integer[Any]]], n_cells: int) -> "Groups":
        """Build from row numbers of each set; a set may be empty.

        Raises
        ------
        ValueError
            If the sets overlap in more than 32,767 different ways.
        """
        groups = cls.combine(sets, n_cells, np.iinfo(np.int16).max)
        if groups is None:
            raise ValueError("the cell sets overlap in too many different ways")
        return groups

    @classmethod
    def combine(cls, sets: Sequence[NDArray[np.integer[Any]]], n_cells: int, limit: int) -> "Groups | None":
        """Build from row numbers of each set; return None where there are more than `limit` classes."""
        if (disjoint := cls._disjoint(sets, n_cells, limit)) is not None:
            return disjoint
        combined = np.zeros(n_cells, np.int32)  # number of the combination of sets so far; 0 is none
        rows = np.zeros((1, 0), np.bool_)  # one row per combination: the sets so far that it is in
        for members in sets:
            inside = np.zeros(n_cells, np.int32)
            inside[members] = 1
            combined = combined * 2 + inside
            present = np.bincount(combined, minlength=2 * len(rows)) > 0
            present[0] = True  # even where no cell is in no set, 0 stays "none"
            distinct = np.flatnonzero(present)
            if len(distinct) > limit + 1:
                return None
            combined = (np.cumsum(present, dtype=np.int32) - 1)[combined]
            rows = np.hstack([rows[distinct // 2], (distinct % 2).astype(np.bool_)[:, None]])
        sizes = np.bincount(combined, minlength=len(rows)).astype(np.int64)[1:]
        return cls((combined - 1).astype(np.int16), np.ascontiguousarray(rows[1:].T), sizes)

    @classmethod
    def _disjoint(cls, sets: Sequence[NDArray[np.integer[Any]]], n_cells: int, limit: int) -> "Groups | None":
        """Build from disjoint sets, which most are; None where a cell is in two sets, or twice in one."""
        filled = [k for k, members in enumerate(sets) if len(members)]
        if len(filled) > limit:
            return None
        code = np.full(n_cells, -1, np.int16)
        for number, k in enumerate(filled):
            code[sets[k]] = number
        sizes = np.array([len(sets[k]) for k in filled], np.int64)
        if np.count_nonzero(code >= 0) != sizes.sum():
            return None
        members = np.zeros((len(sets), len(filled)), np.bool_)
        members[filled, np.arange(len(filled))] = True
        return cls(code, members, sizes)

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Cells per set, int64 ``(n_sets,)``."""
        return self.members.astype(np.int64) @ self.class_sizes

    @property
    def total(self) -> int:
        """Number of cells in any set."""
        return int(self.class_sizes.sum())


def check_offsets(data: Sorted) -> None:
    """Check that a kernel may follow the offsets.

    Raises
    ------
    IndexError
        If they do not fit the stored values.
    """
    indptr, cells, values = data
    if len(cells) != len(values) or indptr[0] < 0 or indptr[-1] > len(cells) or (np.diff(indptr) < 0).any():
        raise IndexError("the offsets of the genes do not fit the stored values")


def over_sets(of_classes: NDArray[Any], members: NDArray[np.bool_]) -> NDArray[Any]:
    """Add up ``(n_genes, n_classes)`` over the classes of each set: ``(n_sets, n_genes)``."""
    if (members.sum(axis=1) == 1).all():
        return np.ascontiguousarray(of_classes[:, members.argmax(axis=1)].T)
    out = np.empty((len(members), len(of_classes)), of_classes.dtype)
    for k, mine in enumerate(members):
        np.sum(of_classes[:, mine], axis=1, out=out[k])
    return out
