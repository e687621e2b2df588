"""Doublet scores: the share of simulated doublets among each barcode's neighbours.

The method is Scrublet's (Wolock, Lopez and Klein 2019, doi:10.1016/j.cels.2018.11.005): it adds the counts of random
pairs of cells, projects cells and pairs onto the principal components of the cells, and computes a cell's score from
the number of simulated neighbours, by Bayes. As elsewhere in cellworker, vst chooses the genes, and values are
log-normalised.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellworker.analysis.graphs.fast_neighbours import fast_neighbours
from cellworker.analysis.statistics.scaled_components import scaled_components
from cellworker.analysis.statistics.variable_genes import gene_variability

__all__ = ["MIN_CELLS", "DoubletScores", "doublet_scores", "expected_rate"]

Floats = NDArray[np.float64]
Progress = Callable[[float], None]

MIN_CELLS = 30
"""Min cells of a sample; with fewer, random pairs hardly differ from the cells."""
_RATIO = 2.0  # simulated doublets for each cell
_MAX_SIMULATED = 60_000
_GENES, _COMPONENTS = 1000, 30  # with 2,000 genes the components take four times as long, and find no more doublets
_SCALE = 1e4
_RATE_PER_CELL = 8e-6  # 0.8 doublets in 100 barcodes per 1,000 cells, by 10x Genomics
_MAX_RATE = 0.3
_UNCERTAIN = 0.4  # share of the expected rate: no better figure is known


@dataclass(frozen=True, slots=True)
class DoubletScores:
    """Scores from 0 to 1.

    Attributes
    ----------
    scores
        float64 ``(n_cells,)``.
    simulated
        float64: the scores of the simulated doublets.
    threshold
        Cells above it are called doublets. As in scDblFinder (Germain et al. 2021, doi:10.12688/f1000research.73600),
        it balances the share of simulated doublets below it, the share of cells above it, and the distance of that
        share from the expected one.
    """

    scores: Floats
    simulated: Floats
    threshold: float


def expected_rate(n_cells: int) -> float:
    """Return the expected share of doublets among this many barcodes with cells (10x Genomics' loading table)."""
    return min(_MAX_RATE, _RATE_PER_CELL * n_cells)


def doublet_scores(
    counts: Any,  # noqa: ANN401 SciPy's
    *,
    rate: float | None = None,
    seed: int = 0,
    threads: int = 1,
    progress: Progress = lambda fraction: None,  # noqa: ARG005
) -> DoubletScores:
    """Score the cells of one sample.

    Parameters
    ----------
    counts
        Raw counts, finite, from 0 up: SciPy's compressed rows ``(n_cells, n_genes)`` without repeated entries.
    rate
        Expected share of doublets, above 0; by default `expected_rate`.
    seed
        Of the random pairs.
    threads
        Threads to use; the result does not depend on it.
    progress
        Called with the fraction done; may raise to stop.

    Raises
    ------
    ValueError
        If there are fewer than `MIN_CELLS` cells, or no gene varies.
    """
    n, n_genes = counts.shape
    if n < MIN_CELLS:
        message = f"doublets are found among {MIN_CELLS} cells and more, not {n}"
        raise ValueError(message)
    genes = np.sort(
        gene_variability(counts.indices, counts.data, n_cells=n, n_genes=n_genes, threads=threads).top(_GENES)
    )
    progress(0.1)
    totals = np.asarray(counts.sum(axis=1), np.float64).ravel()
    chosen = counts[:, genes].tocsr()
    chosen.sort_indices()
    cells = _normalised(chosen, totals)
    space = scaled_components(
        cells.indptr.astype(np.int64), cells.indices, cells.data, np.arange(len(genes)), _COMPONENTS,
        n_genes=len(genes), threads=threads,
    )  # fmt: skip
    progress(0.5)
    n_simulated = min(round(_RATIO * n), max(_MAX_SIMULATED, n // 10))
    random = np.random.Generator(np.random.PCG64(seed))
    one, two = random.integers(0, n, (2, n_simulated))
    parts = []
    for start in range(0, n_simulated, 8192):
        a, b = one[start : start + 8192], two[start : start + 8192]
        pairs = _normalised(chosen[a] + chosen[b], totals[a] + totals[b])
        parts.append(space.project(pairs[:, space.genes]))
    points = np.concatenate([space.components.scores, *parts])
    progress(0.6)
    ratio = n_simulated / n
    k = max(1, round(round(0.5 * n**0.5) * (1 + ratio)))
    k = min(k, len(points) - 1)
    found = fast_neighbours(
        points, k + 1, "euclidean", threads=threads, on_progress=lambda part: progress(0.6 + 0.4 * part)
    )
    near = found.cells[:, 1:]  # a point is its own first neighbour
    rate = expected_rate(n) if rate is None else rate
    numbers = (near >= n).sum(axis=1)
    scores = _scores(np.arange(k + 1), k, ratio, rate)
    own, simulated = scores[numbers[:n]], scores[numbers[n:]]
    progress(1.0)
    return DoubletScores(own, simulated, float(scores[_dividing(numbers[:n], numbers[n:], k, rate)]))


def _normalised(rows: Any, totals: Floats) -> Any:  # noqa: ANN401 SciPy's
    """Return ``log(1 + 10000 * count / total)``."""
    out = rows.astype(np.float64)
    scale = np.divide(_SCALE, totals, out=np.zeros(len(totals)), where=totals > 0)
    out.data = np.log1p(out.data * np.repeat(scale, np.diff(out.indptr)))
    return out


def _scores(simulated: NDArray[np.int64], k: int, ratio: float, rate: float) -> Floats:
    """Return the probability of a doublet for each number of simulated neighbours among `k`."""
    rate = max(rate, 1e-3)
    share = (simulated + 1) / (k + 2)
    likely = share * rate / ratio
    return np.asarray(likely / (1 - rate - share * (1 - rate - rate / ratio)))


def _dividing(cells: NDArray[np.int64], simulated: NDArray[np.int64], k: int, rate: float) -> int:
    """Return the number of neighbours above which a barcode is called a doublet."""
    kept = np.cumsum(np.bincount(simulated, minlength=k + 1)) / len(simulated)
    called = 1 - np.cumsum(np.bincount(cells, minlength=k + 1)) / len(cells)
    off = np.maximum(0.0, np.abs(called - rate) / rate - _UNCERTAIN)
    return int(np.argmin(kept + called + off**2))
