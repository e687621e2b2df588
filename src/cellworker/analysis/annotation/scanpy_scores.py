"""Scores of gene sets by scanpy's ``score_genes``: mean of the set minus mean of control genes.

Formulas and random draws are scanpy's (1.11, ``ctrl_as_ref=True``): genes are ranked by mean expression, where ties
share the smallest rank. A gene's bin is ``rank // n``, where n is the number of genes divided by the number of bins
minus one. From each bin that has a gene of the set, up to `n_controls` genes are drawn, without the set's own genes.
The draws come from NumPy's legacy Mersenne Twister (``RandomState(seed)``), which scanpy seeds and pandas uses.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cellworker.analysis.annotation.module_scores import ModuleError

__all__ = ["N_BINS", "N_CONTROLS", "scanpy_bins", "scanpy_controls"]

N_BINS, N_CONTROLS = 25, 50
"""scanpy's defaults."""


def scanpy_bins(means: NDArray[np.float64], n_bins: int = N_BINS) -> NDArray[np.float64]:
    """Return the bin of each gene.

    Parameters
    ----------
    means
        float64 ``(n_genes,)``, finite.
    n_bins
        From 2 on.

    Returns
    -------
    numpy.ndarray
        float64 ``(n_genes,)``. With fewer genes than half the bins, all are infinite: one bin.
    """
    ordered = np.sort(means)
    ranks = np.searchsorted(ordered, means, side="left") + 1.0
    size = round(len(means) / (n_bins - 1))  # half to even, as NumPy rounds
    return np.floor_divide(ranks, size) if size else np.full(len(means), np.inf)


def scanpy_controls(
    means: NDArray[np.float64],
    genes: Sequence[int],
    n_controls: int = N_CONTROLS,
    *,
    n_bins: int = N_BINS,
    seed: int = 0,
) -> NDArray[np.int64]:
    """Draw the control genes of a set.

    Parameters
    ----------
    means
        float64 ``(n_genes,)``: mean expression of each gene, finite.
    genes
        Positions of the set's genes, at least one.
    n_controls
        Max genes drawn from each bin.
    n_bins
        As in `scanpy_bins`.
    seed
        As scanpy's ``random_state``, from 0 to 2**32 - 1.

    Returns
    -------
    numpy.ndarray
        int64, ascending.

    Raises
    ------
    ModuleError
        If no gene is left.
    """
    bins = scanpy_bins(means, n_bins)
    stream = np.random.RandomState(seed)
    drawn = np.zeros(len(means), np.bool_)
    chosen = np.asarray(genes, np.int64)
    for one in np.unique(bins[chosen]):
        pool = np.flatnonzero(bins == one)
        drawn[pool[stream.permutation(len(pool))[:n_controls]] if n_controls < len(pool) else pool] = True
    drawn[chosen] = False
    if not drawn.any():
        message = "every gene that could be a control is in the set"
        raise ModuleError(message)
    return np.flatnonzero(drawn)
