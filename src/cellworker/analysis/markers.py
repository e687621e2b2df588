"""Choosing marker genes from one-against-the-rest tests, and the numbers of a dot plot."""

import numpy as np
from numpy.typing import NDArray

from cellworker.analysis.rank_tests import GroupTests

__all__ = ["scale_dots", "top_markers"]

_MIN_AUC = 0.3
_MIN_INSIDE, _MAX_OUTSIDE = 20.0, 70.0  # percent of cells


def top_markers(tests: GroupTests, n: int) -> list[NDArray[np.int64]]:
    """Return up to `n` marker genes of each set (algorithms.md, section 2.2).

    A gene qualifies where it is higher inside (log fold change above 0, AUC at least 0.3), found in at least 20 % of
    the cells inside and at most 70 % outside. It belongs to the set with its smallest p-value, the first of equals.

    Parameters
    ----------
    tests
        One set against the rest, arrays ``(n_sets, n_genes)``.
    n
        Most genes per set.

    Returns
    -------
    list of numpy.ndarray
        Per set, gene positions by falling log fold change.
    """
    with np.errstate(invalid="ignore"):
        qualifies = (
            (tests.log_fold_change > 0)
            & (tests.auc >= _MIN_AUC)
            & (tests.fraction_in >= _MIN_INSIDE)
            & (tests.fraction_out <= _MAX_OUTSIDE)
        )
    p = np.where(qualifies, tests.p, np.inf)
    owner = np.argmin(p, axis=0)
    out = []
    for k in range(len(p)):
        genes = np.flatnonzero((owner == k) & qualifies[k])
        # equal fold changes keep the order of their p-values
        order = np.lexsort((p[k, genes], -tests.log_fold_change[k, genes]))
        out.append(genes[order][:n].astype(np.int64))
    return out


def scale_dots(means: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scale average expression for a dot plot as Seurat 5 does.

    Parameters
    ----------
    means
        float64 ``(n_groups, n_genes)``: mean of ``expm1`` of the normalised values.

    Returns
    -------
    numpy.ndarray
        z-scores over the groups of ``log1p`` of the means, clipped to 2.5 either way; NaN where the groups do not
        differ; with a single group ``log1p`` of the means.
    """
    level = np.log1p(means)
    if len(level) < 2:
        return np.asarray(level)
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = level.std(axis=0, ddof=1)
        # a constant row can leave a spread of rounding noise; R's scale sees an exact zero there
        spread = np.where(np.ptp(level, axis=0) == 0, 0.0, spread)
        return np.asarray(np.clip((level - level.mean(axis=0)) / spread, -2.5, 2.5))
