"""Cell types by marker genes: ScType's scores (Ianevski et al. 2022; algorithms.md, section 9)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellworker.analysis.statistics.groups import Sorted

__all__ = ["MarkerWeights", "cluster_sums", "marker_weights", "one_row_per_symbol", "scaled_cluster_sums", "top_types"]

_BLOCK_BYTES = 32 << 20
_MAX_SCALED = 10.0

Progress = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class MarkerWeights:
    """The input of the scores.

    Attributes
    ----------
    types
        int64 ``(n_types,)``: the cell types that have a positive marker in the data, as positions in the marker table.
    rows
        int64 ``(n_markers,)``: the rows of the data that are markers of any of them, ascending.
    sensitivity
        float64 ``(n_markers,)``: the factor of each row; 1 for a gene that marks one type only, 0 for one that marks
        all.
    positive, negative
        For each type, int64 positions in `rows`; a repeated row counts twice.
    """

    types: NDArray[np.int64]
    rows: NDArray[np.int64]
    sensitivity: NDArray[np.float64]
    positive: list[NDArray[np.int64]]
    negative: list[NDArray[np.int64]]

    def scores(self, values: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Score scaled expression, or sums of it over cells: scores are linear.

        Parameters
        ----------
        values
            ``(n, n_markers)``, the columns being `rows`.

        Returns
        -------
        numpy.ndarray
            float64 ``(n, n_types)``: sum of the weighted positive markers over the root of their number, less the same
            for the negative ones. Types with the same markers get the same bits.
        """
        weighted = np.asarray(values, np.float64) * self.sensitivity
        out = np.zeros((len(weighted), len(self.types)))
        for k, (for_it, against) in enumerate(zip(self.positive, self.negative, strict=True)):
            out[:, k] = weighted[:, for_it].sum(axis=1) / np.sqrt(len(for_it))
            if len(against):
                out[:, k] -= weighted[:, against].sum(axis=1) / np.sqrt(len(against))
        return out


def marker_weights(
    symbols: Sequence[str], positive: Sequence[Sequence[str]], negative: Sequence[Sequence[str]]
) -> MarkerWeights:
    """Find the markers in the data, and weigh them: the fewer cell types a gene marks, the larger its weight.

    A gene that occurs c times among the positive markers of L types weighs (c - L) / (1 - L), or 0.5 where L is 1; a
    gene that is only a negative marker weighs 1.

    Parameters
    ----------
    symbols
        Symbol of each row of the data, in upper case. The first row of a repeated symbol stands for all.
    positive, negative
        Markers of each cell type.
    """
    first: dict[str, int] = {}
    rows_of: dict[str, list[int]] = {}
    for row, symbol in enumerate(symbols):
        rows_of.setdefault(symbol, []).append(first.setdefault(symbol, row))
    n_types = len(positive)
    times: dict[str, int] = {}
    for genes in positive:
        for gene in genes:
            times[gene] = times.get(gene, 0) + 1

    def found(genes: Sequence[str]) -> list[int]:
        return sorted(row for gene in dict.fromkeys(genes) for row in rows_of.get(gene, ()))

    present = [(k, found(genes), found(negative[k])) for k, genes in enumerate(positive)]
    present = [item for item in present if item[1]]
    rows = np.unique(np.array([row for _, up, down in present for row in (*up, *down)], np.int64))
    weights = np.ones(len(rows))
    for i, row in enumerate(rows.tolist()):
        count = times.get(symbols[row])
        if count is not None:
            weights[i] = 0.5 if n_types == 1 else (count - n_types) / (1 - n_types)
    return MarkerWeights(
        np.array([k for k, _, _ in present], np.int64),
        rows,
        weights,
        [np.searchsorted(rows, np.array(up, np.int64)) for _, up, _ in present],
        [np.searchsorted(rows, np.array(down, np.int64)) for _, _, down in present],
    )


def one_row_per_symbol(
    symbols: Sequence[str], means: NDArray[np.floating[Any]], *, original: bool = False
) -> NDArray[np.int64]:
    """Choose the row with the highest mean among rows of the same symbol; of equal ones, the first.

    Parameters
    ----------
    symbols
        Symbol of each row.
    means
        ``(n_rows,)``.
    original
        Follow the original: keep the first row of each symbol, and every row whose mean equals the highest of all rows.

    Returns
    -------
    numpy.ndarray
        int64: the rows kept, ascending.
    """
    best: dict[str, int] = {}
    for row, symbol in enumerate(symbols):
        if symbol not in best or (not original and means[row] > means[best[symbol]]):
            best[symbol] = row
    kept = np.array(sorted(best.values()), np.int64)
    return np.union1d(kept, np.flatnonzero(means == means.max())) if original and len(kept) else kept


def cluster_sums(
    values: NDArray[np.floating[Any]],
    columns: NDArray[np.int64],
    codes: NDArray[np.int64],
    n_clusters: int,
    on_progress: Progress = lambda fraction: None,  # noqa: ARG005
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Sum scaled expression over the cells of each cluster.

    Parameters
    ----------
    values
        ``(n_cells, n_genes)``; a cell with only NaN is not covered and is ignored; any other NaN counts as 0.
    columns
        int64 ``(k,)``: the genes to sum.
    codes
        int64 ``(n_cells,)``: cluster of each cell, -1 for none.
    n_clusters
        Number of clusters.
    on_progress
        Called with the fraction done.

    Returns
    -------
    tuple
        The sums, float64 ``(n_clusters, k)``, and the cells that count, int64 ``(n_clusters,)``.
    """
    sums, sizes = np.zeros((n_clusters, len(columns))), np.zeros(n_clusters, np.int64)
    step = max(1, _BLOCK_BYTES // max(1, values.shape[1] * values.itemsize))
    for start in range(0, len(values), step):
        block = values[start : start + step][:, columns].astype(np.float64)
        missing = np.isnan(block)
        mine = np.where(missing.all(axis=1), -1, codes[start : start + step])
        block[missing] = 0.0
        for code in np.unique(mine[mine >= 0]).tolist():
            sums[code] += block[mine == code].sum(axis=0)
        sizes += np.bincount(mine[mine >= 0], minlength=n_clusters)
        on_progress(min(1.0, (start + step) / len(values)))
    return sums, sizes


def scaled_cluster_sums(
    data: Sorted,
    genes: NDArray[np.int64],
    codes: NDArray[np.int64],
    n_clusters: int,
    on_progress: Progress = lambda fraction: None,  # noqa: ARG005
) -> NDArray[np.float64]:
    """Scale genes as Seurat's ``ScaleData`` does, and sum them over the cells of each cluster.

    Scaled is (x - mean) / standard deviation (n - 1), at most 10, and 0 for constant genes. Cells that do not express a
    gene share one value, so the sum reads only stored values and makes no dense matrix.

    Parameters
    ----------
    data
        Log-normalised expression, gene after gene: indptr int64 ``(n_genes + 1,)``, cells int32 and values float32
        ``(nnz,)``.
    genes
        int64 ``(k,)``.
    codes
        int64 ``(n_cells,)``: cluster of each cell, -1 for none.
    n_clusters
        Number of clusters.
    on_progress
        Called with the fraction done.

    Returns
    -------
    numpy.ndarray
        float64 ``(n_clusters, k)``.
    """
    indptr, cells, values = data
    n_cells = len(codes)
    slots = codes + 1  # slot 0 collects the cells of no cluster
    sizes = np.bincount(slots, minlength=n_clusters + 1)
    out = np.zeros((n_clusters, len(genes)))
    for k, gene in enumerate(genes.tolist()):
        stored = slice(int(indptr[gene]), int(indptr[gene + 1]))
        x = values[stored].astype(np.float64)
        mean = x.sum() / n_cells
        squares = ((x - mean) ** 2).sum() + (n_cells - len(x)) * mean**2
        deviation = np.sqrt(squares / max(1, n_cells - 1))
        if deviation > 0 and (len(x) < n_cells or x[0] != x[-1]):
            slot = slots[cells[stored]]
            high = np.minimum((x - mean) / deviation, _MAX_SCALED)
            rest = sizes - np.bincount(slot, minlength=n_clusters + 1)
            total = np.bincount(slot, weights=high, minlength=n_clusters + 1)
            out[:, k] = (total + rest * min(-mean / deviation, _MAX_SCALED))[1:]
        on_progress((k + 1) / len(genes))
    return out


def top_types(scores: NDArray[np.float64], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Choose each cluster's best type.

    Parameters
    ----------
    scores
        float64 ``(n_clusters, n_types)``: scores summed over the cells of each cluster.
    sizes
        int64 ``(n_clusters,)``: number of cells that were scored.

    Returns
    -------
    numpy.ndarray
        int64 ``(n_clusters,)``: the type of the highest score, the first of equal ones; -1 where the score is below a
        quarter of the number of cells, or there is no scored cell.
    """
    best = scores.argmax(axis=1)
    highest = scores[np.arange(len(scores)), best]
    return np.where((highest < sizes / 4) | (sizes == 0), -1, best).astype(np.int64)
