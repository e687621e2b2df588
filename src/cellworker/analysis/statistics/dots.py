"""The numbers of a dot plot: average expression and share of cells of some genes in each group."""

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from cellworker.analysis.statistics.groups import Groups, Sorted, check_offsets, over_sets
from cellworker.native import address, kernel

__all__ = ["expm1_means", "scale_dots"]

_WORTH_A_THREAD = 1 << 18  # min values for which a thread pays


def expm1_means(
    data: Sorted, groups: Groups, genes: NDArray[np.int64], *, threads: int = 1
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Average ``expm1`` of some genes, and the percentage of cells above zero, in each set.

    Parameters
    ----------
    data
        Gene-major values.
    groups
        The sets.
    genes
        Positions of the genes, int64 ``(k,)``.
    threads
        Threads to use; the result does not depend on it.

    Returns
    -------
    tuple
        float64 ``(n_sets, k)`` means and percentages (0 to 100).
    """
    check_offsets(data)
    indptr, cells, values = data
    genes = np.ascontiguousarray(genes, np.int64)
    if len(genes) and (genes.min() < 0 or genes.max() >= len(indptr) - 1):
        raise IndexError("gene position out of range")
    n_classes, n_cells = len(groups.class_sizes), len(groups.code)
    sums, positive = np.zeros((len(genes), n_classes)), np.zeros((len(genes), n_classes), np.int64)
    run = kernel("cw_expm1_sums")  # fmt: skip
    fixed = (address(indptr, np.int64), address(cells, np.int32), address(values, np.float32))

    def part(genes_of: slice) -> int:
        chosen = genes[genes_of]
        return int(
            run(
                *fixed, address(chosen, np.int64), len(chosen), address(groups.code, np.int16), n_cells, n_classes,
                address(sums[genes_of], np.float64, writable=True),
                address(positive[genes_of], np.int64, writable=True),
            )
        )  # fmt: skip

    before = np.concatenate([[0], np.cumsum(indptr[genes + 1] - indptr[genes])])
    shares = min(4 * threads, int(before[-1]) // _WORTH_A_THREAD) if threads > 1 else 0
    if shares < 2:
        outside = part(slice(None))
    else:
        cuts = np.searchsorted(before, np.linspace(0, before[-1], shares + 1)).tolist()
        with ThreadPoolExecutor(threads) as pool:
            outside = max(pool.map(part, (slice(start, stop) for start, stop in pairwise(cuts))))
    if outside:
        raise IndexError("the data hold cells that the groups do not know")
    sizes = groups.sizes.astype(np.float64)[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        return over_sets(sums, groups.members) / sizes, 100 * over_sets(positive, groups.members) / sizes


def scale_dots(means: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scale average expression for a dot plot as Seurat 5 does.

    Parameters
    ----------
    means
        float64 ``(n_groups, n_genes)``: mean of ``expm1`` of the normalised values.

    Returns
    -------
    numpy.ndarray
        z-scores over the groups of ``log1p`` of the means, clipped to [-2.5, 2.5]; NaN where the groups do not differ.
        With a single group, ``log1p`` of the means.
    """
    level = np.log1p(means)
    if len(level) < 2:
        return np.asarray(level)
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = level.std(axis=0, ddof=1)
        # a constant row can have a spread of rounding noise here, where R's scale gives exactly zero
        spread = np.where(np.ptp(level, axis=0) == 0, 0.0, spread)
        return np.asarray(np.clip((level - level.mean(axis=0)) / spread, -2.5, 2.5))
