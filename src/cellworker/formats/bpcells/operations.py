"""Carries out an object's delayed operations on its matrices, for some majors at a time.

Rows and columns mean those of the matrix on disk: an object in row order says so by ``transpose`` in every
part of the tree, and all its selections and factors refer to the matrix before it was turned.

Sources: the classes of BPCells' ``R/matrix.R`` and ``R/transforms.R``, read for what their slots mean; algorithms.md
12.5.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cellworker.formats.bpcells.broken import MatrixError, damaged
from cellworker.formats.bpcells.stored import MajorSlice, StoredMatrix, gathered

__all__ = [
    "Bound",
    "BpcellsMatrix",
    "Change",
    "HeldMatrix",
    "OnDisk",
    "Selected",
    "Stacked",
    "Transformed",
    "capped",
    "elementwise",
    "scaled",
]

Majors = NDArray[np.int64]
Values = NDArray[np.float64]
Change = Callable[[Values, NDArray[np.int64], NDArray[np.int64]], Values]
"""Makes new values of values, their minors and their majors; zeros stay zeros."""


class BpcellsMatrix(ABC):
    """A matrix that gives some of its majors at a time.

    Attributes
    ----------
    n_majors, n_minors
        Its extent.
    lengths
        Upper bound of the number of values of each major, int64 ``(n_majors,)``.
    """

    n_majors: int
    n_minors: int
    lengths: NDArray[np.int64]

    @abstractmethod
    def take(self, majors: Majors) -> MajorSlice:
        """Return majors, in any order."""


class OnDisk(BpcellsMatrix):
    """The matrix on disk."""

    def __init__(self, stored: StoredMatrix) -> None:
        self._stored = stored
        self.n_majors, self.n_minors, self.lengths = stored.n_majors, stored.n_minors, stored.lengths

    def take(self, majors: Majors) -> MajorSlice:
        """Return majors, in any order."""
        return self._stored.take(majors)


class HeldMatrix(BpcellsMatrix):
    """A matrix inside the object, in compressed columns."""

    def __init__(
        self, indptr: NDArray[np.int64], minors: NDArray[np.int32], values: NDArray[np.floating[Any]], n_minors: int
    ) -> None:
        self._indptr, self._minors, self._values = indptr, minors, values
        self.n_majors, self.n_minors = len(indptr) - 1, n_minors
        self.lengths = np.diff(indptr)

    def take(self, majors: Majors) -> MajorSlice:
        """Return majors, in any order."""
        from_, to = self._indptr[majors], self._indptr[majors + 1]
        at = gathered(from_, to)
        return MajorSlice(to - from_, self._minors[at].astype(np.int64), self._values[at].astype(np.float64))


class Transformed(BpcellsMatrix):
    """Another matrix, its values changed one by one."""

    def __init__(self, inner: BpcellsMatrix, change: Change) -> None:
        self._inner, self._change = inner, change
        self.n_majors, self.n_minors, self.lengths = inner.n_majors, inner.n_minors, inner.lengths

    def take(self, majors: Majors) -> MajorSlice:
        """Return majors, in any order."""
        found = self._inner.take(majors)
        values = self._change(found.values, found.minors, np.repeat(majors, found.lengths))
        return MajorSlice(found.lengths, found.minors, values)


class Selected(BpcellsMatrix):
    """Some majors and minors of another matrix, in an order of their own; None selects all."""

    def __init__(self, inner: BpcellsMatrix, minors: NDArray[np.int64] | None, majors: Majors | None) -> None:
        self._inner, self._majors = inner, majors
        self.n_majors = inner.n_majors if majors is None else len(majors)
        self.n_minors = inner.n_minors if minors is None else len(minors)
        self.lengths = np.minimum(inner.lengths if majors is None else inner.lengths[majors], self.n_minors)
        self._places: NDArray[np.int64] | None = None
        if minors is not None:
            self._places = np.full(inner.n_minors, -1, np.int64)
            self._places[minors] = np.arange(len(minors))
            self._sorted = bool(np.all(minors[1:] > minors[:-1]))

    def take(self, majors: Majors) -> MajorSlice:
        """Return majors, in any order."""
        found = self._inner.take(majors if self._majors is None else self._majors[majors])
        if self._places is None:
            return found
        minors = self._places[found.minors]
        rows = np.repeat(np.arange(len(majors)), found.lengths)
        order = np.flatnonzero(minors >= 0)
        if not self._sorted:
            order = order[np.lexsort((minors[order], rows[order]))]
        return MajorSlice(np.bincount(rows[order], minlength=len(majors)), minors[order], found.values[order])


class Bound(BpcellsMatrix):
    """Matrices whose majors follow one another."""

    def __init__(self, parts: Sequence[BpcellsMatrix]) -> None:
        _alike({part.n_minors for part in parts})
        self._parts = parts
        self._starts = np.cumsum([0, *(part.n_majors for part in parts)])
        self.n_majors, self.n_minors = int(self._starts[-1]), parts[0].n_minors
        self.lengths = np.concatenate([part.lengths for part in parts])

    def take(self, majors: Majors) -> MajorSlice:
        """Return majors, in any order."""
        owners = np.searchsorted(self._starts, majors, "right") - 1
        cuts = np.flatnonzero(np.diff(owners)) + 1
        runs = [
            self._parts[int(owners[run[0]])].take(majors[run] - self._starts[owners[run[0]]])
            for run in np.split(np.arange(len(majors)), cuts)
            if len(run)
        ]
        return MajorSlice(
            np.concatenate([run.lengths for run in runs]),
            np.concatenate([run.minors for run in runs]),
            np.concatenate([run.values for run in runs]),
        )


class Stacked(BpcellsMatrix):
    """Matrices whose minors follow one another."""

    def __init__(self, parts: Sequence[BpcellsMatrix]) -> None:
        _alike({part.n_majors for part in parts})
        self._parts = parts
        self._starts = np.cumsum([0, *(part.n_minors for part in parts)])
        self.n_majors, self.n_minors = parts[0].n_majors, int(self._starts[-1])
        self.lengths = np.sum([part.lengths for part in parts], axis=0)

    def take(self, majors: Majors) -> MajorSlice:
        """Return majors, in any order."""
        found = [part.take(majors) for part in self._parts]
        rows = np.concatenate([np.repeat(np.arange(len(majors)), part.lengths) for part in found])
        order = np.argsort(rows, kind="stable")
        minors = np.concatenate([part.minors + start for part, start in zip(found, self._starts, strict=False)])
        values = np.concatenate([part.values for part in found])
        return MajorSlice(np.sum([part.lengths for part in found], axis=0), minors[order], values[order])


def _alike(extents: set[int]) -> None:
    if len(extents) != 1:
        raise damaged(
            found=f"matrices of {' and '.join(map(str, sorted(extents)[:3]))}, bound together", expected="equal extents"
        )


# ---- changes of values ----


def _log1p(values: Values) -> Values:
    # BPCells computes this in single precision; rounded from double precision it is the same on every machine.
    return np.log1p(values.astype(np.float32).astype(np.float64)).astype(np.float32).astype(np.float64)


def _expm1(values: Values) -> Values:
    return np.expm1(values.astype(np.float32).astype(np.float64)).astype(np.float32).astype(np.float64)


_PLAIN: Final[dict[str, Callable[[Values], Values]]] = {
    "TransformLog1p": _log1p,
    "TransformLog1pSlow": np.log1p,
    "TransformExpm1": _expm1,
    "TransformExpm1Slow": np.expm1,
    "TransformSquare": np.square,
}


def elementwise(name: str, parameters: NDArray[np.float64]) -> Change | None:
    """Return what a class of BPCells does to values independent of their place; None when it does not do so."""
    if name in _PLAIN:
        plain = _PLAIN[name]
        return lambda values, _minors, _majors: plain(values)
    first = float(parameters[0]) if len(parameters) else np.nan
    if name == "TransformPow" and first > 0:
        return lambda values, _minors, _majors: np.power(values, first)
    if name == "TransformMin" and first > 0:
        return lambda values, _minors, _majors: np.minimum(values, first)
    if name == "TransformBinarize" and len(parameters) == 2 and (first > 0 or (first == 0 and parameters[1])):
        if parameters[1]:
            return lambda values, _minors, _majors: (values > first).astype(np.float64)
        return lambda values, _minors, _majors: (values >= first).astype(np.float64)
    return None


def scaled(minors: Values | None, majors: Values | None, whole: float | None) -> Change:
    """Return the multiplication by a factor for each minor, each major, and all; None where there is none."""

    def change(values: Values, at: NDArray[np.int64], of: NDArray[np.int64]) -> Values:
        if minors is not None:
            values = values * minors[at]
        if majors is not None:
            values = values * majors[of]
        return values if whole is None else values * whole

    return change


def capped(minors: Values | None, majors: Values | None) -> Change:
    """Return the cutting off at a largest value for each minor or each major.

    Raises
    ------
    MatrixError
        When one is not positive: zeros would become something else.
    """
    for largest in (minors, majors):
        if largest is not None and not np.all(largest > 0):
            raise MatrixError(
                found="largest values that are not positive", expected="positive ones", advice="convert the layer"
            )

    def change(values: Values, at: NDArray[np.int64], of: NDArray[np.int64]) -> Values:
        if minors is not None:
            values = np.minimum(values, minors[at])
        return values if majors is None else np.minimum(values, majors[of])

    return change
