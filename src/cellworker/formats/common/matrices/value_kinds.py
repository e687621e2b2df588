"""What the values of a matrix are: counts, logarithms, normalised values without a logarithm, or scaled values.

File formats do not say it, so values decide, together with what the file tells about them. `gather` looks at every
value once and keeps a few facts (`value_evidence`); `decide` is a pure function of these
facts. Every reader uses both, so that the same numbers mean the same in AnnData, Zarr and Seurat files.

The strongest evidence is what stays the same from cell to cell: normalisation gives all cells one sum (before the
logarithm: one sum of ``expm1``), which counts never have. Next are whole numbers, and whole multiples of a cell's
smallest value, which survive division by the cell's sum. Only then the size of the values decides.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal

from cellworker.formats.common.matrices.value_evidence import MAX_LOG, MIN_SCALED_SHARE, Evidence

__all__ = ["Decision", "Hint", "Kind", "decide"]

Kind = Literal["counts", "log", "linear", "scaled", "roots"]
Hint = Literal["counts", "data", ""]

_CENTRED_SHARE = 0.3
"""Values below 0 of which there are more come from centring, whole or not."""
_MAX, _ALL = 0.9, 0.99
_AMPLIFIED = 1.6
"""expm1 of counts makes unequal cells far more unequal, expm1 of logarithms hardly (quartiles of the cells' sums:
1.7 to 30 times for corrected counts of any depth, at most 1.55 for logarithms of all or of some genes)."""
_ANOTHER_BASE = "logarithms to another base than e"
_MIN_VALUES_PER_CELL = 5
"""Fewer make the cells' sums as unequal as single values are, with a logarithm or without. Corrected counts also have
values below 1 in most cells, since a correction makes ones smaller."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The kind of a matrix's values, and why.

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
        The total of every cell, for "linear"; None where the cells differ.
    corrected
        Whether counts have decimals.
    otherwise
        Another possible kind, where the values suggest one but prove nothing; empty where they prove it.
    """

    kind: Kind
    why: str
    base: float = math.e
    total: float | None = None
    corrected: bool = False
    otherwise: str = ""

    @property
    def title(self) -> str:
        """The kind in words."""
        if self.kind == "counts":
            return "corrected counts" if self.corrected else "counts"
        words = {"log": "log-normalised values", "linear": "normalised values without a logarithm"}
        return (words | {"scaled": "scaled values", "roots": "square roots"})[self.kind]


def decide(evidence: Evidence, hint: Hint = "") -> Decision:
    """Tell what a matrix holds.

    Parameters
    ----------
    hint
        The kind that the name of the layer or slot suggests: "counts" (a layer ``counts``), "data" (normalised values).
    """
    if not evidence.finite:
        return Decision("counts", "it holds nothing but zeros")
    below = f"{evidence.negative:,} of {evidence.finite:,} values are below 0"
    if evidence.negative_share > MIN_SCALED_SHARE:
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
    return replace(decision, why=why)


def _of_whole(evidence: Evidence) -> Decision | None:
    if evidence.whole < evidence.finite:
        return None
    stale = ", although uns['log1p'] tells of a logarithm" if evidence.declared_base is not None else ""
    return Decision("counts", f"all {evidence.finite:,} values are whole numbers{stale}")


def _of_agreement(evidence: Evidence) -> Decision | None:
    """Decide by a figure that is the same in all cells, if there is one."""
    sums, levels = evidence.sums, evidence.level_sums
    is_log = levels.is_steady and evidence.largest <= MAX_LOG
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
    """Decide by traces of transformations of whole numbers."""
    if evidence.whole_squares > _ALL:
        return Decision("roots", f"the squares of {_percent(evidence.whole_squares)} of the values are whole numbers")
    if evidence.whole_levels > _ALL and evidence.largest <= MAX_LOG:
        return Decision(
            "log", f"{_inverse(evidence.base)} of the values are whole numbers: logarithms of counts", evidence.base
        )
    return None


def _of_hints(evidence: Evidence, hint: Hint) -> Decision | None:
    """Decide by the file's own statements."""
    share = evidence.whole_share
    if hint == "counts":
        return Decision("counts", "its name says so, and the sums of the cells differ", corrected=True)
    if share >= 0.5:
        return Decision("counts", f"{_percent(share)} of the values are whole numbers", corrected=True)
    if evidence.declared_base is not None and evidence.largest <= MAX_LOG:
        return Decision("log", "uns['log1p'] tells of a logarithm", evidence.declared_base)
    if hint == "data" and evidence.largest <= MAX_LOG:
        why = f"its name says so, and no value is above {MAX_LOG:g}"
        return Decision("log", why, evidence.base, otherwise=_ANOTHER_BASE)
    return None


def _of_size(evidence: Evidence) -> Decision:
    """Decide decimals that no normalisation to one total explains: some genes were left out, or counts corrected."""
    sums, levels, largest = evidence.sums, evidence.level_sums, evidence.largest
    differ = f"decimals up to {largest:.4g}, sums of the cells from unequal depth (median {sums.median:,.4g})"
    if largest <= MAX_LOG and evidence.level_multiples > _MAX > evidence.multiples:
        why = f"{_inverse(evidence.base)} of a cell's values are whole multiples of its smallest"
        return Decision("log", f"{why}: logarithms of normalised counts", evidence.base)
    if evidence.multiples > _MAX:
        if evidence.units.quartiles > 0.02:
            why = "a cell's values are whole multiples of its smallest, which differs between cells: divided counts"
            return Decision("linear", why)
        return Decision("counts", f"{differ}, all of them multiples of {evidence.units.median:.4g}", corrected=True)
    if largest > MAX_LOG:
        why = f"{differ}; too large for logarithms"
        return Decision("counts", why, corrected=True, otherwise="normalised values of some genes, without a logarithm")
    telling = evidence.finite >= _MIN_VALUES_PER_CELL * sums.n_cells and evidence.units.median <= 1
    if telling and levels.quartiles > _AMPLIFIED * sums.quartiles:
        why = f"{differ}; the sums of expm1 differ {levels.quartiles / max(sums.quartiles, 1e-9):.3g} times as much"
        return Decision("counts", why, corrected=True, otherwise="logarithms of some genes")
    why = f"decimals up to {largest:.4g}, and nothing that speaks for counts"
    return Decision("log", why, evidence.base, otherwise=f"{_ANOTHER_BASE}, or values without a logarithm")


def _inverse(base: float) -> str:
    return "expm1" if base == math.e else f"{base:g}^value - 1"


def _percent(share: float) -> str:
    return "all" if share >= 1 else f"{100 * share:.3g} %"
