"""The table of the clusters' marker genes for language models (algorithms.md, section 14)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellworker.analysis.statistics.dots import expm1_means
from cellworker.analysis.statistics.groups import Groups, Sorted
from cellworker.analysis.statistics.p_values import PValues
from cellworker.analysis.statistics.rank_tests import GroupTests, OnProgress, set_tests

__all__ = ["MarkerTable", "marker_table"]

_MAX_P = 0.01
_MIN_SCORE = 2.5  # no p-value is that small below this score
_MIN_PERCENT = 1.0
_MIN_FOLD_CHANGE = 0.1


@dataclass(frozen=True, slots=True)
class MarkerTable:
    """Genes that are higher in a cluster than elsewhere, in order of cluster, p-value and falling fold change.

    Attributes
    ----------
    cluster
        int64 ``(n,)``: position of the cluster.
    gene
        int64 ``(n,)``: position of the gene.
    p_values
        ``(n,)``: two-sided p-values of the rank-sum test against all other clusters.
    n_genes
        Number of genes tested.
    log2_fold_change
        float64 ``(n,)``.
    fraction_in, fraction_out
        float64 ``(n,)``: share of cells (0 to 1) of the cluster and of all other clusters with a value.
    """

    cluster: NDArray[np.int64]
    gene: NDArray[np.int64]
    p_values: PValues
    n_genes: int
    log2_fold_change: NDArray[np.float64]
    fraction_in: NDArray[np.float64]
    fraction_out: NDArray[np.float64]


def marker_table(
    data: Sorted,
    clusters: Sequence[NDArray[np.int32]],
    others: NDArray[np.int32],
    n_cells: int,
    *,
    original: bool = False,
    threads: int = 1,
    on_progress: OnProgress | None = None,
) -> MarkerTable:
    """Test every gene in every cluster and keep those that mark it.

    A row is kept if p < 0.01, at least 1 % of the cells on either side express the gene, and the log2 fold change is at
    least 0.1. The fold change is Seurat's, of sums with a pseudocount of 1: ``log2((sum_in(expm1 x) + 1) / n_in) -
    log2((sum_out(expm1 x) + 1) / n_out)``.

    Parameters
    ----------
    data, original, threads, on_progress
        As for `cellworker.analysis.statistics.rank_tests.rank_tests`.
    clusters
        Rows of the cells of each cluster; each cell is in one cluster.
    others
        Rows of cells outside every cluster; they count as "out" in the fold change, but not in the test.
    n_cells
        Number of cells in the data.
    """
    n_genes = len(data[0]) - 1
    found: dict[int, list[NDArray[Any]]] = {}

    def keep(genes: slice, tests: GroupTests) -> None:
        with np.errstate(invalid="ignore"):
            seen = np.fmax(tests.fraction_in, tests.fraction_out) >= _MIN_PERCENT
            cluster, gene = np.nonzero(seen & (tests.score > _MIN_SCORE))
        chosen = [values[cluster, gene] for values in (tests.score, tests.fraction_in, tests.fraction_out)]
        found[genes.start] = [cluster, gene + genes.start, *chosen]  # positions are exact in a double

    set_tests(data, clusters, n_cells, keep, original=original, threads=threads, on_progress=on_progress)
    parts = [np.empty((5, 0)), *(np.stack(found[start]) for start in sorted(found))]
    cluster, gene, score, inside, outside = np.concatenate(parts, axis=1)
    cluster, gene = cluster.astype(np.int64), gene.astype(np.int64)
    p_values = PValues.of_scores(score, original=original)
    genes, place = np.unique(gene, return_inverse=True)
    groups = Groups.from_sets([*clusters, others], n_cells)
    fold = _fold_changes(expm1_means(data, groups, genes, threads=threads)[0], groups.sizes, cluster, place)
    rows = np.flatnonzero((fold >= _MIN_FOLD_CHANGE) & (p_values.values < _MAX_P))
    rows = rows[np.lexsort((gene[rows], -fold[rows], p_values.key[rows], cluster[rows]))]
    return MarkerTable(
        cluster[rows], gene[rows], p_values.take(rows), n_genes, fold[rows],
        inside[rows] / 100, outside[rows] / 100,
    )  # fmt: skip


def _fold_changes(
    means: NDArray[np.float64], sizes: NDArray[np.int64], cluster: NDArray[np.int64], gene: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Return the log2 fold change of each cluster and gene, from means ``(n_sets, n_genes)``."""
    sums = np.where(sizes[:, None] > 0, means * sizes[:, None], 0.0)
    inside = sums[cluster, gene]
    outside = sums.sum(axis=0)[gene] - inside
    n_in = sizes[cluster]
    return np.asarray(np.log2((inside + 1) / n_in) - np.log2((outside + 1) / (sizes.sum() - n_in)))
