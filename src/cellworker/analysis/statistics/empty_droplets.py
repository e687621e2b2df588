"""Finds the barcodes with cells in an unfiltered matrix: EmptyDrops (Lun et al. 2019, doi:10.1186/s13059-019-1662-y).

Droplets without a cell hold ambient RNA, the soup: the profile of barcodes with few counts. A barcode whose counts the
soup is unlikely to produce holds a cell, and so does every barcode with more counts than the knee.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellworker.analysis.statistics.p_values import benjamini_hochberg

__all__ = ["LOWER", "Droplets", "find_cells", "is_unfiltered", "knee_of"]

Floats = NDArray[np.float64]
Progress = Callable[[float], None]

LOWER = 100
"""Max counts of a barcode that counts as empty."""
_ITERATIONS = 2000  # p-values from 1 / 2001
_MIN_EMPTY = 200
_ALPHAS = np.geomspace(1.0, 1e6, 25)
_FINER, _FINE_POINTS = 2, 9  # the last grid has steps of 4 %
_MAX_FITTED = 2000  # max barcodes for the estimate of the soup's spread


@dataclass(frozen=True, slots=True)
class Droplets:
    """The outcome for each barcode.

    Attributes
    ----------
    cells
        bool ``(n_barcodes,)``.
    fdr
        float64 ``(n_barcodes,)``: false discovery rate at which a barcode holds a cell (Benjamini and Hochberg 1995); 0
        above the knee, NaN for barcodes that count as empty.
    knee
        Min counts from which every barcode holds a cell.
    alpha
        Precision of the soup's Dirichlet-multinomial distribution.
    """

    cells: NDArray[np.bool_]
    fdr: Floats
    knee: float
    alpha: float


def is_unfiltered(totals: Floats, lower: int = LOWER) -> bool:
    """Return whether a matrix has barcodes without cells.

    It has enough barcodes with few counts, and at least as many as with more.
    """
    few = int(np.count_nonzero((totals > 0) & (totals <= lower)))
    return few >= _MIN_EMPTY and few >= int(np.count_nonzero(totals > lower))


def knee_of(totals: Floats, lower: int = LOWER) -> float:
    """Return the number of counts at the knee of the barcodes' ranks.

    The knee is the point of the curve of log counts over log ranks that is farthest above the straight line between
    its ends.
    """
    values = np.sort(totals[totals > lower])[::-1]
    if len(values) < 3:
        return float(values[0]) if len(values) else float(lower)
    x, y = np.log10(np.arange(1, len(values) + 1)), np.log10(values)
    line = y[0] + (y[-1] - y[0]) * (x - x[0]) / (x[-1] - x[0])
    return float(values[int(np.argmax(y - line))])


def find_cells(
    counts: Any,  # noqa: ANN401 SciPy's
    *,
    lower: int = LOWER,
    fdr: float = 0.01,
    seed: int = 0,
    progress: Progress = lambda fraction: None,  # noqa: ARG005
) -> Droplets:
    """Find the barcodes with cells.

    Parameters
    ----------
    counts
        Raw counts of all barcodes: SciPy's compressed rows ``(n_barcodes, n_genes)``, whole numbers from 0 up.
    lower
        Max counts of a barcode that counts as empty.
    fdr
        False discovery rate at which a barcode is called a cell.
    seed
        Seed of the simulated droplets; the same seed gives the same result.
    progress
        Called with the fraction done; may raise to stop.

    Raises
    ------
    ValueError
        If no barcode counts as empty.
    """
    totals = np.asarray(counts.sum(axis=1), np.float64).ravel()
    soup = np.asarray(counts[(totals > 0) & (totals <= lower)].sum(axis=0), np.float64).ravel()
    if not soup.sum():
        message = f"no barcode has {lower} counts or fewer: there is no profile of empty droplets"
        raise ValueError(message)
    profile = _smoothed(soup)
    knee = knee_of(totals, lower)
    tested = np.flatnonzero((totals > lower) & (totals < knee))
    rates = np.full(len(totals), np.nan)
    rates[totals >= knee] = 0.0
    alpha = _precision(counts, totals, lower, profile)
    if len(tested):
        p = _p_values(counts[tested], totals[tested].astype(np.int64), profile, alpha, seed, progress)
        rates[tested] = benjamini_hochberg(p)
    progress(1.0)
    return Droplets(np.nan_to_num(rates, nan=1.0) <= fdr, rates, knee, alpha)


def _smoothed(soup: Floats) -> Floats:
    """Return the shares of all genes, by Good's estimate also of those without counts in the soup.

    The share of unseen genes is the number of genes with one count, divided by all counts (Good 1953).
    """
    once, total, unseen = float(np.count_nonzero(soup == 1)), float(soup.sum()), soup == 0
    if not unseen.any():
        return soup / total
    rest = min(0.5, max(once, 1.0) / total)
    out = (1 - rest) * soup / total
    out[unseen] = rest / np.count_nonzero(unseen)
    return out


def _precision(counts: Any, totals: Floats, lower: int, profile: Floats) -> float:  # noqa: ANN401 SciPy's
    """Return the precision of maximum likelihood for the empty barcodes, by ever finer grids."""
    few = np.flatnonzero((totals > lower / 2) & (totals <= lower))
    if not len(few):
        few = np.flatnonzero((totals > 0) & (totals <= lower))
    rows = counts[few[:: max(1, len(few) // _MAX_FITTED)]]
    sizes = np.asarray(rows.sum(axis=1), np.float64).ravel()
    grid = _ALPHAS
    for finer in range(_FINER + 1):
        best = int(np.argmax([_log_likely(rows, sizes, profile, alpha).sum() for alpha in grid.tolist()]))
        if finer < _FINER:
            grid = np.geomspace(grid[max(0, best - 1)], grid[min(len(grid) - 1, best + 1)], _FINE_POINTS)
    return float(grid[best])


def _log_likely(rows: Any, totals: Floats, profile: Floats, alpha: float) -> Floats:  # noqa: ANN401 SciPy's
    """Return each barcode's log-probability, without terms that depend only on its total."""
    from scipy.special import gammaln  # noqa: PLC0415 heavy

    weights = alpha * profile[rows.indices]
    terms = gammaln(rows.data + weights) - gammaln(weights) - gammaln(rows.data + 1.0)
    cells = np.repeat(np.arange(rows.shape[0]), np.diff(rows.indptr))
    return np.asarray(
        np.bincount(cells, terms, rows.shape[0]) + gammaln(totals + 1) + gammaln(alpha) - gammaln(totals + alpha)
    )


def _p_values(  # noqa: PLR0917
    rows: Any,  # noqa: ANN401 SciPy's
    totals: NDArray[np.int64],
    profile: Floats,
    alpha: float,
    seed: int,
    progress: Progress,
) -> Floats:
    """Compare each barcode with simulated droplets of the soup that have the same total."""
    from scipy.special import gammaln  # noqa: PLC0415 heavy

    observed = _log_likely(rows, totals.astype(np.float64), profile, alpha)
    sizes = np.arange(1.0, float(totals.max()) + 1)
    constant = gammaln(sizes + 1) + gammaln(alpha) - gammaln(sizes + alpha)
    smaller = np.zeros(len(totals), np.int64)
    random = np.random.Generator(np.random.PCG64(seed))
    weights = alpha * profile
    for number in range(_ITERATIONS):
        share = np.cumsum(random.standard_gamma(weights))
        drawn = np.searchsorted(share, random.random(len(sizes)) * share[-1], side="right")
        drawn = np.minimum(drawn, len(weights) - 1)
        before = _earlier(drawn)
        # Each count adds a factor: (alpha p + those before it) / (those before it + 1).
        found = np.cumsum(np.log(weights[drawn] + before) - np.log(before + 1.0)) + constant
        smaller += found[totals - 1] <= observed + 1e-9
        if number % 50 == 0:
            progress(number / _ITERATIONS)
    return np.asarray((smaller + 1.0) / (_ITERATIONS + 1.0))


def _earlier(drawn: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how often each value occurs before its place."""
    order = np.argsort(drawn, kind="stable")
    ordered = drawn[order]
    first = np.concatenate([[True], ordered[1:] != ordered[:-1]])
    starts = np.maximum.accumulate(np.where(first, np.arange(len(drawn)), 0))
    out = np.empty(len(drawn), np.int64)
    out[order] = np.arange(len(drawn)) - starts
    return out
