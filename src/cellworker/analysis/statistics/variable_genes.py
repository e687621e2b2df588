"""The most variable genes, as Seurat's ``FindVariableFeatures`` chooses them (method vst; Stuart et al. 2019).

A gene is variable if its variance exceeds the variance expected at its mean. The expectation is a local regression of
the logarithms of the variances on those of the means. Formulas: algorithms.md, section 13.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellworker.analysis.matrices.levels import ToldValues
from cellworker.analysis.statistics.local_regression import local_quadratic
from cellworker.analysis.statistics.r_arithmetic import library_function
from cellworker.native import address, kernel

__all__ = ["GeneVariability", "gene_totals", "gene_variability", "joined_ranking"]

Floats = NDArray[np.float64]
Progress = Callable[[float], None]

_SPAN = 0.3
_AT_A_TIME = 1 << 20  # values
_WORTH = 1 << 18  # values


@dataclass(frozen=True, slots=True)
class GeneVariability:
    """Variability of each gene, float64 ``(n_genes,)`` each.

    Attributes
    ----------
    mean
        Mean count over all cells.
    variance
        Of the counts (n - 1).
    expected
        Expected variance at the gene's mean; 0 for genes that are constant, or whose mean is not a number above 0.
    standardized
        Variance of ``(count - mean) / sqrt(expected)``, clipped at the root of the number of cells; 0 where `expected`
        is 0.
    """

    mean: Floats
    variance: Floats
    expected: Floats
    standardized: Floats

    def ranking(self) -> NDArray[np.int64]:
        """Return the genes with counts, int64, the most variable first; equal ones in their order."""
        order = np.argsort(-self.standardized, kind="stable")
        return order[self.mean[order] > 0]

    def top(self, n: int = 2000) -> NDArray[np.int64]:
        """Return the `n` most variable genes, int64, the most variable first, or all genes with counts."""
        return self.ranking()[:n]


def gene_variability(
    genes: NDArray[np.int32] | NDArray[np.uint16],
    values: NDArray[Any] | ToldValues,
    *,
    n_cells: int,
    n_genes: int,
    threads: int = 1,
    progress: Progress = lambda fraction: None,  # noqa: ARG005
) -> GeneVariability:
    """Measure how much each gene varies.

    The function reads the matrix three times from start to end, a few megabytes at a time, so it may be mapped from a
    file larger than memory.

    Parameters
    ----------
    genes, values
        The stored counts, cell after cell: int32 or uint16, and any number ``(nnz,)``. The matrix has no repeated
        entries.
    n_cells, n_genes
        Shape of the matrix.
    threads
        Threads to use; the result does not depend on it.
    progress
        Called with the fraction done; may raise to stop.

    Raises
    ------
    ValueError
        If there are fewer than two cells, or `genes` and `values` differ in length.
    IndexError
        If a gene does not exist.
    """
    if n_cells < 2:
        raise ValueError("one cell does not vary: at least two are needed")
    if len(genes) != len(values):
        raise ValueError("genes and values differ in length")
    passes = _Passes(genes, values, n_genes, threads, progress)
    totals, stored = passes.totals()
    mean = totals / n_cells
    empty = n_cells - stored
    variance = (passes.squares(mean, np.ones(n_genes), np.inf) + mean**2 * empty) / (n_cells - 1)
    varies = np.isfinite(variance) & (variance > 0) & (mean > 0)
    expected = np.zeros(n_genes)
    fitted = local_quadratic(
        library_function("log10", mean[varies]), library_function("log10", variance[varies]), span=_SPAN
    )
    expected[varies] = library_function("exp10", fitted)
    scale = np.sqrt(np.where(varies, expected, 1.0))
    squares = passes.squares(mean, scale, float(np.sqrt(n_cells))) + (mean / scale) ** 2 * empty
    return GeneVariability(mean, variance, expected, np.where(varies, squares / (n_cells - 1), 0.0))


def joined_ranking(
    rankings: Sequence[NDArray[np.int64]], places: NDArray[np.int64], everywhere: NDArray[np.bool_], n: int
) -> NDArray[np.int64]:
    """Choose genes for all parts of a matrix that is split by sample, as Seurat 5 does for split layers.

    Genes are ordered by the number of parts that list them, then by their median rank. The rule is that of Seurat's
    ``SelectIntegrationFeatures`` (algorithms.md, section 13).

    Parameters
    ----------
    rankings
        For each part its most variable genes, the most variable first.
    places
        int64 ``(n_genes,)``: each gene's rank by name, which breaks ties.
    everywhere
        bool ``(n_genes,)``: the genes that all parts measure; others are not chosen.
    n
        Max number of chosen genes.

    Returns
    -------
    numpy.ndarray
        int64, at most `n` genes: first those in more parts than the last chosen one, then the others, each group by
        median rank.
    """
    ranks = np.full((len(rankings), len(places)), np.nan)
    for part, ranking in zip(ranks, rankings, strict=True):
        part[ranking] = np.arange(1, len(ranking) + 1)
    times = np.count_nonzero(~np.isnan(ranks), axis=0)
    candidates = np.flatnonzero((times > 0) & everywhere)
    if not len(candidates) or n < 1:
        return np.empty(0, np.int64)
    candidates = candidates[np.lexsort((places[candidates], -times[candidates]))]
    last = times[candidates[min(n, len(candidates)) - 1]]
    median = np.nanmedian(ranks[:, candidates], axis=0)
    # A gene in more parts than the last chosen one is certain; among those in as many parts, ranks decide.
    order = np.lexsort((median, times[candidates] <= last))
    chosen: NDArray[np.int64] = candidates[order[times[candidates][order] >= last]][:n]
    return chosen


def gene_totals(
    genes: NDArray[np.int32] | NDArray[np.uint16],
    values: NDArray[Any] | ToldValues,
    *,
    n_genes: int,
    threads: int = 1,
    progress: Progress = lambda fraction: None,  # noqa: ARG005
) -> Floats:
    """Sum each gene's stored values, in their order, float64 ``(n_genes,)``.

    Parameters are those of `gene_variability`. The sum runs in the order of the cells. So means that differ only in the
    last digit have the same order as in programs that read cell by cell.

    Raises
    ------
    IndexError
        If a gene does not exist.
    """
    return _Passes(genes, values, n_genes, threads, lambda share: progress(min(1.0, 3 * share))).totals()[0]


class _Passes:
    """Runs kernels over the matrix, part by part; threads split the genes."""

    def __init__(
        self,
        genes: NDArray[np.int32] | NDArray[np.uint16],
        values: NDArray[Any] | ToldValues,
        n_genes: int,
        threads: int,
        progress: Progress,
    ) -> None:
        self._genes, self._values, self._n_genes = genes, values, n_genes
        self._threads, self._progress = max(1, threads) if len(values) >= _WORTH else 1, progress
        self._done = 0

    def _over(self, run: Callable[..., int], n_sums: int, *given: Any) -> list[Floats]:  # noqa: ANN401 as ctypes takes them
        sums = [np.zeros(self._n_genes) for _ in range(n_sums)]
        into = [address(x, np.float64, writable=True) for x in sums]
        cuts = [self._n_genes * i // self._threads for i in range(self._threads + 1)]
        with ThreadPoolExecutor(self._threads) as pool:
            for start in range(0, len(self._values), _AT_A_TIME):
                genes = np.ascontiguousarray(self._genes[start : start + _AT_A_TIME], np.int32)
                values = self._values[start : start + _AT_A_TIME].astype(np.float64)
                part = (address(genes, np.int32), address(values, np.float64), len(values), self._n_genes)
                if any(pool.map(lambda low, high, part=part: run(*part, low, high, *given, *into), cuts, cuts[1:])):
                    raise IndexError("the counts hold genes beyond the last one")
                self._done += len(values)
                self._progress(self._done / (3 * len(self._values)))
        return sums

    def totals(self) -> tuple[Floats, Floats]:
        """Sum of each gene's stored values, and their number."""
        run = kernel("cw_gene_totals")
        sums, stored = self._over(run, 2)
        return sums, stored

    def squares(self, mean: Floats, scale: Floats, limit: float) -> Floats:
        """Sum of the squares of ``(value - mean) / scale`` over each gene's stored values, clipped at `limit`."""
        run = kernel("cw_gene_squares")
        (sums,) = self._over(run, 1, address(mean, np.float64), address(scale, np.float64), limit)
        return sums
