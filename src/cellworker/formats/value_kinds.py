"""What the values of a matrix are: counts, logarithms, normalised values without a logarithm, or scaled values.

File formats do not say it, so values decide, together with what the file tells about them. `gather` looks at every
value once and keeps a few facts (`Evidence`); `decide` is a pure function of these facts. Every reader uses both, so
that the same numbers mean the same in AnnData, Zarr and Seurat files.

The strongest evidence is what stays the same from cell to cell: normalisation gives all cells one sum (before the
logarithm: one sum of ``expm1``), which counts never have. Next are whole numbers, and whole multiples of a cell's
smallest value, which survive division by the cell's sum. Only then the size of the values decides.
"""

import ctypes
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cellworker.experiment.draft import SparseDraft
from cellworker.native import address, kernel

__all__ = ["Decision", "Evidence", "Hint", "Kind", "Spread", "decide", "gather", "gather_with_base"]

Kind = Literal["counts", "log", "linear", "scaled", "roots"]
Hint = Literal["counts", "data", ""]

_MAX_LOG = 25.0
"""Larger than any logarithm of normalised counts: exp(25) is 72 thousand million."""
_MIN_SCALED_SHARE = 0.01
"""Values below 0: centring gives a large share, arithmetic a stray one."""
_CENTRED_SHARE = 0.3
"""Values below 0 of which there are more come from centring, whole or not."""
_STEADY_SHARE = 0.95
_MOST, _ALL = 0.9, 0.99
_AMPLIFIED = 1.6
"""expm1 of counts makes unequal cells far more unequal, expm1 of logarithms hardly (quartiles of the cells' sums:
1.7 to 30 times for corrected counts of any depth, at most 1.55 for logarithms of all or of some genes)."""
_MIN_VALUES_PER_CELL = 5
"""Fewer make the cells' sums as unequal as single values are, with a logarithm or without. Corrected counts also have
values below 1 in most cells, since a correction makes ones smaller."""
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
class Spread:
    """How alike the cells are in one positive figure.

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
        Of the logarithm that `level_sums` and the like undo.
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


@dataclass(frozen=True, slots=True)
class Decision:
    """What a matrix holds, and why.

    Attributes
    ----------
    kind
        "counts" (with decimals too, where they were corrected), "log", "linear" (normalised, no logarithm), "scaled"
        (values around 0), "roots" (square roots).
    why
        The evidence, in words.
    base
        Of the logarithm, for "log".
    total
        What every cell adds up to, for "linear"; None where the cells differ.
    corrected
        Whether counts have decimals.
    """

    kind: Kind
    why: str
    base: float = math.e
    total: float | None = None
    corrected: bool = False

    @property
    def title(self) -> str:
        """The kind in words."""
        if self.kind == "counts":
            return "corrected counts" if self.corrected else "counts"
        words = {"log": "log-normalised values", "linear": "normalised values without a logarithm"}
        return (words | {"scaled": "scaled values", "roots": "square roots"})[self.kind]


def gather(
    matrix: SparseDraft,
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
    n_cells = len(matrix.indptr) - 1
    sums, units, levels = np.zeros(n_cells), np.zeros(n_cells), np.full(n_cells, np.nan)
    total = np.zeros(1, _FACTS)[0]
    total["smallest"], total["largest"] = np.inf, -np.inf
    for start, end in _rows(matrix.indptr):
        per_cell = (sums[start:end], units[start:end], levels[start:end])
        found = _block(matrix, (start, end), (math.log(base), closely), per_cell)
        for name in _FACTS.names or ():
            merge = {"smallest": min, "largest": max}.get(name)
            total[name] = merge(total[name], found[name]) if merge else total[name] + found[name]
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


def gather_with_base(matrix: SparseDraft, *, declared_base: float | None = None, complete: bool = True) -> Evidence:
    """Look at every value once, and where the cells' sums tell nothing again, closely.

    Matrices of whole numbers, and those that were normalised to one total with or without a logarithm, need one look.
    Others get a closer one, which undoes the natural logarithm, or that to base 2 or 10 where that makes cells agree.
    """
    first = gather(matrix, declared_base=declared_base, complete=complete)
    clear = first.sums.is_steady or first.level_sums.is_steady or first.whole == first.finite
    if clear or first.negative_share > _MIN_SCALED_SHARE:
        return first
    natural = gather(matrix, declared_base=declared_base, complete=complete, closely=True)
    if natural.whole_share >= 0.5 or natural.largest > _MAX_LOG or natural.whole_levels > _ALL:
        return natural
    for base in dict.fromkeys([*([declared_base] if declared_base not in {None, math.e} else []), 2.0, 10.0]):
        assert base is not None
        other = gather(matrix, base=base, declared_base=declared_base, complete=complete, closely=True)
        trace = other.level_multiples > max(_MOST, natural.level_multiples, natural.multiples)
        if other.level_sums.is_steady or other.whole_levels > _ALL or trace:
            return other
    return natural


def _finite(value: float) -> float:
    return float(value) if math.isfinite(value) else 0.0


def _rows(indptr: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Cut the rows into runs of about a block's values."""
    last = len(indptr) - 1
    out, start = [], 0
    while start < last:
        end = int(np.searchsorted(indptr, indptr[start] + _BLOCK, "right")) - 1
        end = min(last, max(end, start + 1))
        out.append((start, end))
        start = end
    return out


def _block(
    matrix: SparseDraft, rows: tuple[int, int], how: tuple[float, bool], per_cell: tuple[NDArray[np.float64], ...]
) -> np.void:
    start, end = rows
    first, last = int(matrix.indptr[start]), int(matrix.indptr[end])
    bounds = matrix.indptr[start : end + 1] - first
    with np.errstate(over="ignore"):
        values = np.ascontiguousarray(matrix.values[first:last], np.float32)
    out = np.zeros(1, _FACTS)
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    kernel("cw_row_values", None, pointer, number, number, pointer, ctypes.c_double, ctypes.c_int32, *[pointer] * 4)(
        address(bounds, np.int64), 0, end - start, address(values, np.float32), *how,
        *(address(array, np.float64, writable=True) for array in per_cell),
        out.ctypes.data,
    )  # fmt: skip
    found: np.void = out[0]
    return found


def decide(evidence: Evidence, hint: Hint = "") -> Decision:
    """Tell what a matrix holds.

    Parameters
    ----------
    hint
        What the name of the layer or slot says: "counts" (a layer ``counts``), "data" (one for normalised values).
    """
    if not evidence.finite:
        return Decision("counts", "it holds nothing but zeros")
    below = f"{evidence.negative:,} of {evidence.finite:,} values are below 0"
    if evidence.negative_share > _MIN_SCALED_SHARE:
        if evidence.whole_share >= 0.5 and evidence.negative_share < _CENTRED_SHARE:
            why = f"{_percent(evidence.whole_share)} of the values are whole numbers, though {below}"
            return Decision("counts", why)
        return Decision("scaled", below)
    decision = (
        _of_whole(evidence)
        or _of_agreement(evidence)
        or _of_traces(evidence)
        or _of_hints(evidence, hint)
        or _of_size(evidence)
    )
    if not evidence.negative:
        return decision
    why = f"{decision.why}; {below}, too few for scaled values"
    return Decision(decision.kind, why, decision.base, decision.total, decision.corrected)


def _of_whole(evidence: Evidence) -> Decision | None:
    if evidence.whole < evidence.finite:
        return None
    stale = ", although uns['log1p'] tells of a logarithm" if evidence.declared_base is not None else ""
    return Decision("counts", f"all {evidence.finite:,} values are whole numbers{stale}")


def _of_agreement(evidence: Evidence) -> Decision | None:
    """Decide by what is the same in all cells, if anything is."""
    sums, levels = evidence.sums, evidence.level_sums
    is_log = levels.is_steady and evidence.largest <= _MAX_LOG
    if sums.is_steady and is_log:  # one value in every cell, for example: the rounder total tells
        is_log = levels.is_round or not sums.is_round
    if is_log:
        why = (
            f"the sums of {_inverse(evidence.base)} are {levels.median:,.6g} in {_percent(levels.steady)} of the cells"
        )
        return Decision("log", why, evidence.base)
    if sums.is_steady:
        why = f"{_percent(sums.steady)} of the cells add up to {sums.median:,.6g}, with decimals"
        return Decision("linear", why, total=sums.median)
    return None


def _of_traces(evidence: Evidence) -> Decision | None:
    """Decide by what transformations of whole numbers leave behind."""
    if evidence.whole_squares > _ALL:
        return Decision("roots", f"the squares of {_percent(evidence.whole_squares)} of the values are whole numbers")
    if evidence.whole_levels > _ALL and evidence.largest <= _MAX_LOG:
        return Decision(
            "log", f"{_inverse(evidence.base)} of the values are whole numbers: logarithms of counts", evidence.base
        )
    return None


def _of_hints(evidence: Evidence, hint: Hint) -> Decision | None:
    """Decide by what the file tells."""
    share = evidence.whole_share
    if hint == "counts":
        return Decision("counts", "its name says so, and the sums of the cells differ", corrected=True)
    if share >= 0.5:
        return Decision("counts", f"{_percent(share)} of the values are whole numbers", corrected=True)
    if evidence.declared_base is not None and evidence.largest <= _MAX_LOG:
        return Decision("log", "uns['log1p'] tells of a logarithm", evidence.declared_base)
    if hint == "data" and evidence.largest <= _MAX_LOG:
        return Decision("log", f"its name says so, and no value is above {_MAX_LOG:g}", evidence.base)
    return None


def _of_size(evidence: Evidence) -> Decision:
    """Decide decimals that no normalisation to one total explains: some genes were left out, or counts corrected."""
    sums, levels, largest = evidence.sums, evidence.level_sums, evidence.largest
    differ = f"decimals up to {largest:.4g}, sums of the cells from unequal depth (median {sums.median:,.4g})"
    if largest <= _MAX_LOG and evidence.level_multiples > _MOST > evidence.multiples:
        why = f"{_inverse(evidence.base)} of a cell's values are whole multiples of its smallest"
        return Decision("log", f"{why}: logarithms of normalised counts", evidence.base)
    if evidence.multiples > _MOST:
        if evidence.units.quartiles > 0.02:
            why = "a cell's values are whole multiples of its smallest, which differs between cells: divided counts"
            return Decision("linear", why)
        return Decision("counts", f"{differ}, all of them multiples of {evidence.units.median:.4g}", corrected=True)
    if largest > _MAX_LOG:
        return Decision("counts", f"{differ}; too large for logarithms", corrected=True)
    telling = evidence.finite >= _MIN_VALUES_PER_CELL * sums.n_cells and evidence.units.median <= 1
    if telling and levels.quartiles > _AMPLIFIED * sums.quartiles:
        why = f"{differ}; the sums of expm1 differ {levels.quartiles / max(sums.quartiles, 1e-9):.3g} times as much"
        return Decision("counts", why, corrected=True)
    return Decision("log", f"decimals up to {largest:.4g}, and nothing that speaks for counts", evidence.base)


def _inverse(base: float) -> str:
    return "expm1" if base == math.e else f"{base:g}^value - 1"


def _percent(share: float) -> str:
    return "all" if share >= 1 else f"{100 * share:.3g} %"
