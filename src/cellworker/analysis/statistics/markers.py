"""Chooses marker genes from tests of one set against the rest."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellworker.analysis.statistics.groups import Sorted
from cellworker.analysis.statistics.rank_tests import GroupTests, OnProgress, set_tests

__all__ = ["find_markers"]

_MIN_AUC = 0.3
_MIN_INSIDE, _MAX_OUTSIDE = 20.0, 70.0  # percent of cells


def find_markers(
    data: Sorted,
    sets: Sequence[NDArray[np.integer[Any]]],
    n_cells: int,
    n: int,
    *,
    original: bool = False,
    threads: int = 1,
    on_progress: OnProgress | None = None,
) -> list[NDArray[np.int64]]:
    """Test each set against all other listed cells and return up to `n` marker genes of each (algorithms.md, 2.2).

    A gene qualifies if it is higher inside (log fold change above 0, AUC at least 0.3), and at least 20 % of the cells
    inside and at most 70 % outside express it. It belongs to the set with its smallest p-value; of equals, the first.
    The statistic behind the p-values decides, since the doubles of the strongest markers are all 0.

    Needs memory for three numbers per gene, whatever the number of sets.

    Parameters
    ----------
    data, original, threads, on_progress
        As for `rank_tests`.
    sets
        Row numbers of each set; sets may overlap.
    n_cells
        Number of cells in the data.
    n
        Max genes per set.

    Returns
    -------
    list of numpy.ndarray
        Per set, gene positions by falling log fold change.
    """
    n_genes = len(data[0]) - 1
    owner, key, fold = np.full(n_genes, -1, np.int64), np.empty(n_genes), np.empty(n_genes)

    def keep(genes: slice, tests: GroupTests) -> None:
        owner[genes], key[genes], fold[genes] = _owners(tests)

    set_tests(data, sets, n_cells, keep, original=original, threads=threads, on_progress=on_progress)
    return _best(owner, key, fold, len(sets), n)


def _owners(tests: GroupTests) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Return the set that each gene marks, -1 for none, with the key of its p-value and its log fold change there."""
    with np.errstate(invalid="ignore"):
        qualifies = (
            (tests.log_fold_change > 0)
            & (tests.auc >= _MIN_AUC)
            & (tests.fraction_in >= _MIN_INSIDE)
            & (tests.fraction_out <= _MAX_OUTSIDE)
        )
    key = np.where(qualifies, tests.keys, np.inf)
    owner = np.argmin(key, axis=0).astype(np.int64)
    at = (owner, np.arange(key.shape[1]))
    return np.where(qualifies[at], owner, -1), key[at], tests.log_fold_change[at]


def _best(
    owner: NDArray[np.int64], key: NDArray[np.float64], fold: NDArray[np.float64], n_sets: int, n: int
) -> list[NDArray[np.int64]]:
    out = []
    for k in range(n_sets):
        genes = np.flatnonzero(owner == k)
        # equal fold changes keep the order of their p-values
        order = np.lexsort((key[genes], -fold[genes]))
        out.append(genes[order][:n].astype(np.int64))
    return out
