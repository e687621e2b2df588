"""Facts about all values of a matrix, by which `cellworker.formats.common.matrices.value_kinds` decides."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cellworker.experiment.draft import SparseDraft
from cellworker.experiment.store.blocks import cut
from cellworker.formats.common.matrices.sparse import require_rows
from cellworker.native import address, kernel

__all__ = ["MAX_LOG", "MIN_SCALED_SHARE", "Evidence", "Pieces", "Spread", "gather", "gather_with_base"]

MAX_LOG = 25.0
"""Larger than any logarithm of normalised counts: exp(25) is 72 thousand million."""
MIN_SCALED_SHARE = 0.01
"""Values below 0: centring gives a large share, arithmetic a stray one."""
_STEADY_SHARE = 0.95
_MAX, _ALL = 0.9, 0.99
_BLOCK = 1 << 20
_ROUND_TOTALS = (1.0, 100.0, 1e3, 1e4, 1e5, 1e6)
_FACTS = np.dtype(
    [
        (name, np.int64)
        for name in (
            "nonzero", "nan", "infinite", "negative", "whole", "decimal_values", "whole_expm1", "whole_squares",
            "above", "multiples", "expm1_multiples",
        )
    ]
    + [("smallest", np.float64), ("largest", np.float64)]
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Pieces:
    """A matrix that is scanned piece by piece, and never held whole.

    Attributes
    ----------
    n_cells
        Cells of all pieces together.
    read
        Reads the pieces again at each call: the cells in their order, each in one piece; columns are left out.
    """

    n_cells: int
    read: Callable[[], Iterable[SparseDraft]]

    @classmethod
    def of(cls, matrix: SparseDraft) -> "Pieces":
        """Take a matrix that is in memory, or mapped, for one piece."""
        return cls(len(matrix.indptr) - 1, lambda: (matrix,))


@dataclass(frozen=True, slots=True)
class Spread:
    """How similar the cells are in one positive figure.

    Attributes
    ----------
    n_cells
        Cells that have the figure.
    median
        Over these cells.
    steady
        Share of the cells within 1 % of the median (0.01 % where there are fewer than five cells).
    quartiles
        Difference of the upper and the lower quartile of the figure's natural logarithm.
    """

    n_cells: int = 0
    median: float = 0.0
    steady: float = 0.0
    quartiles: float = 0.0

    @classmethod
    def of(cls, figures: NDArray[np.float64]) -> "Spread":
        """Summarise one figure for each cell, float64 ``(n_cells,)``; cells without a positive one are left out."""
        known = figures[np.isfinite(figures) & (figures > 0)]
        if not len(known):
            return cls()
        middle = float(np.median(known))
        tolerance = 0.01 if len(known) >= 5 else 1e-4
        low, high = np.quantile(np.log(known), [0.25, 0.75])
        return cls(len(known), middle, float(np.mean(np.abs(known - middle) <= tolerance * middle)), float(high - low))

    @property
    def is_steady(self) -> bool:
        """Whether the cells agree; a single cell does so only on a total that tools normalise to."""
        return self.steady >= _STEADY_SHARE and (self.n_cells > 1 or self.is_round)

    @property
    def is_round(self) -> bool:
        """Whether the median is a total that tools normalise to."""
        return any(abs(self.median - total) <= 1e-3 * total for total in _ROUND_TOTALS)


@dataclass(frozen=True, slots=True)
class Evidence:
    """Facts about all values of a matrix of cells and genes.

    Attributes
    ----------
    nonzero
        Number of values other than 0; missing and infinite ones are among them.
    missing, infinite, negative, whole
        How many of these are so.
    smallest, largest
        Over finite values, 0 included.
    sums
        Of the cells' sums.
    level_sums
        Of the cells' sums of ``base ** value - 1``; cells that hold nearly whole numbers alone are left out.
    units
        Of the cells' smallest values above 0.
    whole_levels, whole_squares
        Share of values for which ``base ** value - 1``, or the square, is a whole number; 0 for whole numbers.
    multiples, level_multiples
        Share of the larger values of a cell that are whole multiples of its smallest, before and after
        ``base ** value - 1``.
    base
        Of the logarithm that functions such as `level_sums` undo.
    declared_base
        The base that the file names for its logarithm (``uns["log1p"]``), e where it names none; None where the file
        tells of no logarithm.
    complete
        False where only some values were looked at.
    """

    nonzero: int = 0
    missing: int = 0
    infinite: int = 0
    negative: int = 0
    whole: int = 0
    smallest: float = 0.0
    largest: float = 0.0
    sums: Spread = Spread()
    level_sums: Spread = Spread()
    units: Spread = Spread()
    whole_levels: float = 0.0
    whole_squares: float = 0.0
    multiples: float = 0.0
    level_multiples: float = 0.0
    base: float = math.e
    declared_base: float | None = None
    complete: bool = True

    @property
    def finite(self) -> int:
        """Number of values other than 0 that are numbers."""
        return self.nonzero - self.missing - self.infinite

    @property
    def whole_share(self) -> float:
        """Share of whole numbers among the finite values other than 0; 1 where there are none."""
        return self.whole / self.finite if self.finite else 1.0

    @property
    def negative_share(self) -> float:
        """Share of values below 0 among the finite values other than 0."""
        return self.negative / self.finite if self.finite else 0.0


def gather(
    matrix: SparseDraft | Pieces,
    *,
    base: float = math.e,
    declared_base: float | None = None,
    complete: bool = True,
    closely: bool = False,
) -> Evidence:
    """Look at every value of a matrix, block by block.

    Parameters
    ----------
    matrix
        Cells x genes; its columns are not looked at.
    base
        Of the logarithm that is undone.
    declared_base, complete
        See `Evidence`.
    closely
        Whether to look for whole inverses, squares and multiples too, which takes several times longer.
    """
    pieces = matrix if isinstance(matrix, Pieces) else Pieces.of(matrix)
    n_cells = pieces.n_cells
    sums, units, levels = np.zeros(n_cells), np.zeros(n_cells), np.full(n_cells, np.nan)
    total = np.zeros(1, _FACTS)[0]
    total["smallest"], total["largest"] = np.inf, -np.inf
    first = 0
    for piece in pieces.read():
        require_rows(piece.indptr, len(piece.values))
        for start, end in cut(piece.indptr, _BLOCK):
            rows = slice(first + start, first + end)
            found = _block(piece, (start, end), (math.log(base), closely), (sums[rows], units[rows], levels[rows]))
            for name in _FACTS.names or ():
                merge = {"smallest": min, "largest": max}.get(name)
                total[name] = merge(total[name], found[name]) if merge else total[name] + found[name]
        first += len(piece.indptr) - 1
    decimal, above = max(1, int(total["decimal_values"])), max(1, int(total["above"]))
    return Evidence(
        nonzero=int(total["nonzero"]), missing=int(total["nan"]), infinite=int(total["infinite"]),
        negative=int(total["negative"]), whole=int(total["whole"]),
        smallest=_finite(total["smallest"]), largest=_finite(total["largest"]),
        sums=Spread.of(sums), level_sums=Spread.of(levels), units=Spread.of(units),
        whole_levels=int(total["whole_expm1"]) / decimal, whole_squares=int(total["whole_squares"]) / decimal,
        multiples=int(total["multiples"]) / above, level_multiples=int(total["expm1_multiples"]) / above,
        base=base, declared_base=declared_base, complete=complete,
    )  # fmt: skip


def gather_with_base(
    matrix: SparseDraft | Pieces, *, declared_base: float | None = None, complete: bool = True
) -> Evidence:
    """Look at every value once, and where the cells' sums tell nothing again, closely.

    Matrices of whole numbers, and those that were normalised to one total with or without a logarithm, need one look.
    Others get a closer one, which undoes the natural logarithm, or that to base 2 or 10 where that makes cells agree.
    """
    first = gather(matrix, declared_base=declared_base, complete=complete)
    clear = first.sums.is_steady or first.level_sums.is_steady or first.whole == first.finite
    if clear or first.negative_share > MIN_SCALED_SHARE:
        return first
    natural = gather(matrix, declared_base=declared_base, complete=complete, closely=True)
    if natural.whole_share >= 0.5 or natural.largest > MAX_LOG or natural.whole_levels > _ALL:
        return natural
    for base in dict.fromkeys([*([declared_base] if declared_base not in {None, math.e} else []), 2.0, 10.0]):
        assert base is not None
        other = gather(matrix, base=base, declared_base=declared_base, complete=complete, closely=True)
        trace = other.level_multiples > max(_MAX, natural.level_multiples, natural.multiples)
        if other.level_sums.is_steady or other.whole_levels > _ALL or trace:
            return other
    return natural


def _finite(value: float) -> float:
    return float(value) if math.isfinite(value) else 0.0


def _block(
    matrix: SparseDraft, rows: tuple[int, int], how: tuple[float, bool], per_cell: tuple[NDArray[np.float64], ...]
) -> np.void:
    start, end = rows
    first, last = int(matrix.indptr[start]), int(matrix.indptr[end])
    bounds = matrix.indptr[start : end + 1] - first
    with np.errstate(over="ignore"):
        values = np.ascontiguousarray(matrix.values[first:last], np.float32)
    out = np.zeros(1, _FACTS)
    kernel("cw_row_values")(
        address(bounds, np.int64), 0, end - start, address(values, np.float32), *how,
        *(address(array, np.float64, writable=True) for array in per_cell),
        out.ctypes.data,
    )  # fmt: skip
    found: np.void = out[0]
    return found
