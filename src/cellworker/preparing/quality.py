"""Selects the cells of a sample: empty droplets, quality limits, doublets."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellworker.analysis.graphs.doublets import MIN_CELLS, doublet_scores
from cellworker.analysis.statistics.empty_droplets import find_cells, is_unfiltered
from cellworker.formats.common.cells.measuring import mitochondrial_genes
from cellworker.formats.completing.doublets import counts_of
from cellworker.preparing.inputs import Sample
from cellworker.preparing.parameters import Parameters, Thresholds

__all__ = ["Quality", "assess"]

Floats = NDArray[np.float64]
Progress = Callable[[float], None]

_SCALE = 1.4826  # of the median absolute deviation, to be a standard deviation of normal values
_CURVE = 400  # points of the knee plot


@dataclass(slots=True)
class Quality:
    """Quality control of one sample; measures are those of the barcodes with cells.

    Attributes
    ----------
    kept
        int64: rows of the file that are kept, ascending.
    counts, genes, mt, doublets
        float64: of every barcode with a cell; doublets NaN where they were not scored.
    passed
        bool: which of them are kept.
    limits
        The applied limits, by name; and those that the user gave.
    steps
        Number of barcodes left after each step, in order.
    ranks, curve
        Of the knee plot: ranks and counts, both float64.
    notes
        Notes for the reader of the report, in sentences.
    detected
        int64 ``(n_genes,)``: number of kept cells in which each gene has counts.
    """

    kept: NDArray[np.int64]
    counts: Floats
    genes: Floats
    mt: Floats
    doublets: Floats
    passed: NDArray[np.bool_]
    limits: dict[str, float]
    given: list[str]
    steps: dict[str, int]
    ranks: Floats
    curve: Floats
    detected: NDArray[np.int64]
    notes: list[str] = field(default_factory=list)


def assess(sample: Sample, parameters: Parameters, threads: int, progress: Progress) -> Quality:
    """Run the quality control of one sample.

    Parameters
    ----------
    threads
        Threads to use; the result does not depend on it.
    progress
        Called with the fraction done; may raise to stop.
    """
    rows = counts_of(sample.counts, sample.rows)
    rows.data = rows.data.astype(np.float64)
    totals = np.asarray(rows.sum(axis=1), np.float64).ravel()
    notes: list[str] = []
    ranks, curve = _curve(totals)
    steps = {"barcodes": len(totals)}
    cells = totals > 0
    wanted = parameters.empty_droplets
    if wanted == "yes" or (wanted == "auto" and is_unfiltered(totals, parameters.empty_lower)):
        found = find_cells(
            rows, lower=parameters.empty_lower, fdr=parameters.empty_fdr, progress=lambda part: progress(0.5 * part)
        )
        cells = found.cells
        notes.append(
            f"empty droplets: {np.count_nonzero(cells):,} of {len(totals):,} barcodes hold cells (knee at "
            f"{found.knee:,.0f} counts, false discovery rate {parameters.empty_fdr:g})"
        )
    steps["cells"] = int(np.count_nonzero(cells))
    progress(0.5)
    chosen = rows if cells.all() else rows[cells]
    counted = totals[cells]
    genes = np.diff(chosen.indptr).astype(np.float64)
    mitochondrial = mitochondrial_genes(sample.experiment.genes)
    part = np.asarray(chosen[:, np.flatnonzero(mitochondrial)].sum(axis=1), np.float64).ravel()
    mt = np.divide(100 * part, counted, out=np.zeros(len(counted)), where=counted > 0)
    if not mitochondrial.any():
        notes.append("no gene is mitochondrial by its symbol (MT-...): the share is 0, and no limit is set")
    wishes = sample.thresholds.over(parameters.thresholds)
    limits, given = _limits(counted, genes, mt, wishes, parameters.mads)
    passed = np.ones(len(counted), np.bool_)
    for step, measure, low, high in (
        ("counts", counted, "min_counts", "max_counts"),
        ("genes", genes, "min_genes", "max_genes"),
        ("mitochondrial share", mt, "", "max_mt"),
    ):
        passed &= (measure >= limits.get(low, -np.inf)) & (measure <= limits.get(high, np.inf))
        steps[step] = int(np.count_nonzero(passed))
    doublets = np.full(len(counted), np.nan)
    _score(chosen, passed, doublets, limits, wishes, notes, threads, lambda done: progress(0.5 + 0.5 * done))
    if wishes.max_doublet_score is not None:
        given.append("max_doublet_score")
    if parameters.remove_doublets and "max_doublet_score" in limits:
        passed &= ~(doublets > limits["max_doublet_score"])
    steps["doublets"] = int(np.count_nonzero(passed))
    kept = sample.rows[np.flatnonzero(cells)[passed]]
    inside = np.repeat(passed, np.diff(chosen.indptr))
    detected = np.bincount(chosen.indices[inside], minlength=rows.shape[1])
    return Quality(
        kept, counted, genes, mt, doublets, passed, limits, given, steps, ranks, curve, detected.astype(np.int64), notes
    )


def _score(  # noqa: PLR0917
    cells: Any,  # noqa: ANN401 SciPy's
    passed: NDArray[np.bool_],
    doublets: Floats,
    limits: dict[str, float],
    wishes: Thresholds,
    notes: list[str],
    threads: int,
    progress: Progress,
) -> None:
    """Score the cells that passed so far, into `doublets`, and set the limit."""
    number = int(np.count_nonzero(passed))
    if number < MIN_CELLS:
        notes.append(f"doublets are not scored: {number} cells are fewer than {MIN_CELLS}")
        return
    try:
        found = doublet_scores(cells if passed.all() else cells[passed], threads=threads, progress=progress)
    except ValueError as error:
        notes.append(f"doublets are not scored: {error}")
        return
    doublets[passed] = found.scores
    limits["max_doublet_score"] = found.threshold if wishes.max_doublet_score is None else wishes.max_doublet_score


def _limits(
    counts: Floats, genes: Floats, mt: Floats, wishes: Thresholds, mads: float
) -> tuple[dict[str, float], list[str]]:
    """Return the limits to apply, and the names of those that were given."""
    limits: dict[str, float] = {}
    for name, measure in (("min_counts", counts), ("min_genes", genes)):
        centre, spread = _spread(np.log1p(measure))
        limits[name] = float(np.floor(max(0.0, np.expm1(centre - mads * spread))))
    centre, spread = _spread(mt)
    if mt.any():
        limits["max_mt"] = float(min(100.0, np.ceil(10 * (centre + mads * spread)) / 10))
    given = [
        name
        for name in Thresholds.__struct_fields__
        if getattr(wishes, name) is not None and name != "max_doublet_score"
    ]
    return limits | {name: float(getattr(wishes, name)) for name in given}, given


def _spread(values: Floats) -> tuple[float, float]:
    if not len(values):
        return 0.0, 0.0
    centre = float(np.median(values))
    return centre, float(_SCALE * np.median(np.abs(values - centre)))


def _curve(totals: Floats) -> tuple[Floats, Floats]:
    """Return ranks, evenly spaced on a logarithmic scale, and the counts at them."""
    ordered = np.sort(totals[totals > 0])[::-1]
    if not len(ordered):
        return np.zeros(0), np.zeros(0)
    at = np.unique(np.geomspace(1, len(ordered), min(_CURVE, len(ordered))).round().astype(np.int64))
    return at.astype(np.float64), ordered[at - 1]
