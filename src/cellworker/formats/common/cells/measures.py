"""Chooses the columns of UMI count, number of genes, mitochondrial share and doublet score, by their values.

A name alone proves little: ``total_counts`` from scaled values is below 0 in places. Every candidate is compared
with the counts (or, for the mitochondrial share, the normalised values) of some cells, and each rejection has a
reason. Where no candidate is valid the number is computed from the counts.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from cellworker.experiment.model import Categorical, Column
from cellworker.formats.common.cells.measuring import Floats, Matrices, Measured
from cellworker.formats.common.findings import Findings

__all__ = ["ROLES", "Measure", "add_measures", "choose_measure", "plain_name"]

COMPUTED: Final = " (computed)"
"""Behind the platform's name, where the file has another column of that name."""
MIN_RANKED_CELLS: Final = 20
"""Of fewer cells a share that ranks them otherwise says nothing."""
_TOTALS = ("totalcounts", "ncounts", "ncount", "numi", "numis", "totalumis", "totalumi", "umicount", "umis", "sum")
_GENES = (
    "ngenesbycounts", "ngenes", "nfeature", "nfeatures", "ngene", "genecount", "ngenesdetected", "totalfeatures",
    "detected",
)  # fmt: skip
_SHARES = (
    "pctcountsmt", "pctcountsmito", "percentmt", "percentmito", "pctmt", "pctmito", "percentmitochondrial",
    "subsetsmitopercent", "mitopercent", "mtpercent", "mitopct", "mtpct", "mtfrac", "mitofrac", "mtfraction",
    "mitofraction", "fractionmt", "fractionmito", "percmito", "mitoratio", "mtratio",
)  # fmt: skip
_SCORES = ("doubletscore", "doubletscores", "scrubletscore", "scrubletscores", "scdblfinderscore", "hybridscore")
_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "nCount_RNA": _TOTALS,
    "nFeature_RNA": _GENES,
    "percent.mt": _SHARES,
    "doublet_scores": _SCORES,
}
"""The names that the tools of the field use, without case and punctuation, the most usual one first."""
ROLES: Final = tuple(_NAMES)
"""The platform's names of what its requests ask for."""
_FRACTION = re.compile(r"frac|ratio|percentmito$")
"""What scanpy's first tutorials put into ``percent_mito`` goes from 0 to 1."""
_LARGEST_LOG = 25.0


@dataclass(frozen=True, slots=True)
class Measure:
    """The choice for one role.

    Attributes
    ----------
    column
        The file's column; None where there is no valid one.
    why
        The reason, in words.
    factor
        Factor on the column's values: 100 turns fractions into percentages.
    missing
        Number of cells without a value in it.
    rejected
        Every other candidate with the reason against it.
    """

    column: str | None
    why: str
    factor: float = 1.0
    missing: int = 0
    rejected: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Judged:
    why: str
    exact: bool = False
    whole: bool = False
    factor: float = 1.0
    missing: int = 0


def plain_name(name: str) -> str:
    """Return a name in small letters without punctuation, so that ``Donor.ID`` and ``donor_id`` are the same."""
    return re.sub(r"[^a-z0-9]", "", name.casefold())


def choose_measure(
    role: str,
    columns: Mapping[str, Column],
    measured: Measured,
    *,
    assay: str = "RNA",
    keep_own: bool = False,
    computable: bool = False,
) -> Measure:
    """Choose the column for one role.

    Parameters
    ----------
    role
        One of `ROLES`.
    columns
        The file's columns.
    measured
        Measures of some cells from the matrices.
    assay
        The served assay: Seurat calls its columns ``nCount_<assay>`` and ``nFeature_<assay>``.
    keep_own
        The object is the platform's own: a column of the role's name is only refused for values below 0.
    computable
        Whether the number can be computed, so that a column without a number for every cell is not needed.

    Returns
    -------
    The choice. Valid columns hold finite numbers from 0 up for every cell and agree with the matrices as far as these
    say. Of several, the platform's own name comes first, then a column that equals the matrices' numbers, then whole
    numbers, then the more usual name.
    """
    rejected: dict[str, str] = {}
    found: list[tuple[tuple[bool, ...], int, str, _Judged]] = []
    for order, name in enumerate(_candidates(role, columns, assay)):
        own = name == role
        judged = _judge(role, name, columns[name], measured, keep_own=own and keep_own)
        if not isinstance(judged, str) and judged.missing and computable and not (own and keep_own):
            judged = f"no number for {judged.missing} cells"
        if isinstance(judged, str):
            rejected[name] = judged
        else:
            rank = (judged.missing > 0, not own, not judged.exact, not judged.whole)
            found.append((rank, order, name, judged))
    if not found:
        reason = "; ".join(f"{name}: {why}" for name, why in rejected.items())
        return Measure(None, reason or "no such column", rejected=rejected)
    _, _, name, judged = min(found)
    rejected |= {other: f"{name} comes first" for *_, other, _ in sorted(found)[1:]}
    return Measure(name, judged.why, judged.factor, judged.missing, rejected)


def _candidates(role: str, columns: Mapping[str, Column], assay: str) -> list[str]:
    first = [role, role.replace("RNA", assay), f"{role}{COMPUTED}"]
    order = {name: place for place, name in enumerate(_NAMES[role])}

    def place(name: str) -> int:
        plain = plain_name(name)
        if role == "doublet_scores" and plain.startswith("pann"):  # DoubletFinder: pANN_<its parameters>
            return len(order)
        return order.get(plain, -1)

    others = sorted((name for name in columns if place(name) >= 0), key=place)
    return [name for name in dict.fromkeys([*first, *others]) if name in columns]


def _judge(role: str, name: str, column: Column, measured: Measured, *, keep_own: bool) -> _Judged | str:
    """Judge a column; text is the reason against it."""
    if isinstance(column, Categorical) or column.dtype == np.bool_:
        return "labels, no numbers"
    values = column.astype(np.float64)
    known = values[~np.isnan(values)]
    missing = len(values) - len(known)
    if missing and not len(known):
        return "no numbers"
    if np.any(known < 0):
        return f"values below 0 (from {known.min():.4g})"
    if keep_own:
        return _Judged("the platform's column", missing=missing)
    if np.any(np.isinf(known)):
        return "infinite values"
    judged = _JUDGES[role](name, known, values[measured.rows], measured)
    return judged if isinstance(judged, str) else replace(judged, missing=missing)


def _judge_total(name: str, known: Floats, some: Floats, measured: Measured) -> _Judged | str:  # noqa: ARG001
    if measured.sums is not None:
        return _held_against(some, measured.sums, "the sums of the counts")
    if len(known) > 2 and np.ptp(known) <= 1e-3 * known.max():
        return "the same total in every cell, as after normalisation"
    whole = bool(np.all(known == np.floor(known)))
    if known.max(initial=0) <= _LARGEST_LOG and not whole:
        return "logarithms"
    return _Judged("numbers from 0 up; there are no counts to hold them against", whole=whole)


def _judge_genes(name: str, known: Floats, some: Floats, measured: Measured) -> _Judged | str:  # noqa: ARG001
    if np.any(known != np.floor(known)):
        return "values that are no whole numbers"
    if measured.genes is not None:
        return _held_against(some, measured.genes, "the genes with counts")
    if len(known) > 2 and np.ptp(known) == 0:
        return "the same number in every cell, as from values without zeros"
    return _Judged("whole numbers; there are no counts to hold them against")


def _held_against(some: Floats, truth: Floats, what: str) -> _Judged | str:
    """Accept what equals the truth, or follows it from above: totals are often taken before genes are filtered."""
    there = ~np.isnan(some)
    values, wanted = some[there], truth[there]
    slack = 1e-3 * np.maximum(wanted, 1)
    if np.mean(np.abs(values - wanted) <= slack) >= 0.99:
        return _Judged(f"equals {what}", exact=True)
    if np.mean(values >= wanted - slack) >= 0.99 and _follows(values, wanted, 0.5):
        return _Judged(f"follows {what} and lies above them, as before genes were filtered")
    return f"does not agree with {what}"


def _judge_share(name: str, known: Floats, some: Floats, measured: Measured) -> _Judged | str:
    if known.max(initial=0) > 100 * (1 + 1e-6):
        return f"values above 100 (up to {known.max():.4g})"
    there = ~np.isnan(some)
    if measured.share is not None and np.any(measured.share > 0):
        values, wanted = some[there], measured.share[there]
        for factor in (1.0, 100.0):
            if np.mean(np.abs(factor * values - wanted) <= 0.05 * wanted + 1e-3) >= 0.9:
                return _Judged(f"equals the share of mitochondrial genes{_unit(factor)}", exact=True, factor=factor)
        if len(values) >= MIN_RANKED_CELLS and not _follows(values, wanted, 0.3):
            return "does not agree with the share of mitochondrial genes"
        # A share of more genes than the file kept: the unit in which it is closer to the share that is known.
        scale = np.median(values[wanted > 0] / wanted[wanted > 0])
        factor = 100.0 if known.max(initial=0) <= 1 and scale < 0.1 else 1.0
        return _Judged(f"follows the share of mitochondrial genes{_unit(factor)}", factor=factor)
    factor = 100.0 if known.max(initial=0) <= 1 and _FRACTION.search(plain_name(name)) else 1.0
    return _Judged(f"numbers from 0 to {known.max(initial=0):.4g}{_unit(factor)}", factor=factor)


def _judge_score(name: str, known: Floats, some: Floats, measured: Measured) -> _Judged | str:  # noqa: ARG001
    return _Judged("numbers from 0 up")


_JUDGES: Final[Mapping[str, Callable[[str, Floats, Floats, Measured], _Judged | str]]] = {
    "nCount_RNA": _judge_total,
    "nFeature_RNA": _judge_genes,
    "percent.mt": _judge_share,
    "doublet_scores": _judge_score,
}


def _unit(factor: float) -> str:
    return ", as fractions" if factor != 1 else ""


def _follows(values: Floats, truth: Floats, min_correlation: float) -> bool:
    """Return whether two rankings agree (Spearman); a handful of cells says nothing, and is believed."""
    if len(values) < 5 or np.ptp(truth) == 0:
        return True
    if np.ptp(values) == 0:
        return False
    a, b = (np.unique(x, return_inverse=True)[1].astype(np.float64) for x in (values, truth))
    return bool(np.corrcoef(a, b)[0, 1] >= min_correlation)


# ---- into the columns of an experiment ----


def add_measures(
    columns: dict[str, Column],
    matrices: Matrices,
    n_cells: int,
    findings: Findings,
    *,
    table: str,
    assay: str = "RNA",
    keep_own: bool = False,
) -> dict[str, tuple[str, str]]:
    """Choose a column for every role, compute what can be computed, and record what was taken and why.

    Columns of the file are never changed: what is computed goes to the platform's name, or, where the file has
    another column of that name, to that name with ``(computed)`` behind it.

    Parameters
    ----------
    columns
        Columns are added to it.
    table
        The file's name for its table of cells, for the findings.

    Returns
    -------
    By role: the column that holds it, empty where none does, and the reason.
    """
    out: dict[str, tuple[str, str]] = {}
    file_columns, measured = dict(columns), matrices.measure(n_cells)
    computed: list[str] = []
    for role in ROLES:
        computable = matrices.computable(role)
        chosen = choose_measure(role, file_columns, measured, assay=assay, keep_own=keep_own, computable=computable)
        target = role if role not in file_columns else role + COMPUTED
        against = "; ".join(f"{name} is not taken: {why}" for name, why in chosen.rejected.items() if name != role)
        found = chosen.rejected.get(role, "no such column")
        if chosen.column is None and not computable:
            out[role] = ("", chosen.why)
            continue
        if chosen.column is None:
            columns[target] = matrices.compute(role, n_cells)
            out[role] = (target, "computed from the counts" + (f" ({chosen.why})" if chosen.rejected else ""))
            if chosen.rejected:
                advice = "computed from the counts" + (f"; {against}" if against else "")
                findings.fallback(f"{table} {role}", found=found, advice=advice)
            else:
                computed.append(role)
            continue
        out[role] = (_placed(columns, chosen, role, target), f"column {chosen.column}: {chosen.why}")
        if chosen.column != role or chosen.factor != 1:
            units = ", times 100, since it holds fractions" if chosen.factor != 1 else ""
            advice = f"the column {chosen.column} stands in{units} ({chosen.why})"
            findings.fallback(f"{table} {role}", found=found, advice=advice + (f"; {against}" if against else ""))
        if chosen.missing:
            findings.warning(
                f"{table} {role}", found=f"no number for {chosen.missing} of {n_cells} cells in {chosen.column}",
                expected="a number for every cell", advice="these cells are answered with null",
            )  # fmt: skip
    if computed:
        findings.fallback(f"{table} {', '.join(computed)}", found="no such column", advice="computed from the counts")
    return out


def _placed(columns: dict[str, Column], chosen: Measure, role: str, target: str) -> str:
    assert chosen.column is not None
    column = columns[chosen.column]
    assert isinstance(column, np.ndarray)
    if chosen.factor != 1:
        columns[target] = chosen.factor * column
        return target
    if role not in columns:
        columns[role] = column
        return role
    return chosen.column
