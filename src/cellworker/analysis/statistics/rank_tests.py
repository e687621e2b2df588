"""Exact Wilcoxon rank-sum tests on every cell, from values sorted once.

The order of the values of a gene does not depend on the groups. With each gene's values stored in order, a test of any
groups is one linear scan. Formulas: Mann and Whitney (1947) with the normal approximation, tie correction and
continuity correction as in R's ``wilcox.test``; the original used presto (algorithms.md, section 1).
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellworker.analysis.statistics.groups import Groups, Sorted, check_offsets
from cellworker.analysis.statistics.p_values import PValues, score_keys
from cellworker.native import address, kernel

__all__ = [
    "GroupTests",
    "Groups",
    "OnProgress",
    "Sorted",
    "pair_tests",
    "rank_tests",
    "set_tests",
]

_CHUNK = 1 << 22  # stored values per unit of work
_CAPACITY = 1 << 18  # genes times sets per unit of work: bounds the memory for any size of matrix
_MAX_CLASSES = 1024  # sets that overlap in more ways are cheaper to scan separately
_REPORTS = 50
_SKIP_TOP_BLOCK, _NO_CONTINUITY = 1, 2  # rules of the kernel
_PLAIN = False  # for tests: whether the kernel avoids the processor's widest registers

OnProgress = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class GroupTests:
    """One set against all other listed cells, for every gene. All arrays are ``(n_sets, n_genes)``.

    Attributes
    ----------
    score
        Absolute value of the standard normal deviate behind the p-value.
    auc
        P(inside > outside) + half P(equal).
    log_fold_change
        Difference of the mean values (natural log where the data are).
    fraction_in, fraction_out
        Percentage (0 to 100) of cells with a stored value.
    original
        Whether p-values are 0 where R's are.
    """

    score: NDArray[np.float64]
    auc: NDArray[np.float64]
    log_fold_change: NDArray[np.float64]
    fraction_in: NDArray[np.float64]
    fraction_out: NDArray[np.float64]
    original: bool = field(kw_only=True)

    @property
    def keys(self) -> NDArray[np.float64]:
        """Keys that order the p-values, within a set and between sets."""
        return score_keys(self.score, original=self.original)

    @property
    def p_values(self) -> PValues:
        """The two-sided p-values."""
        return PValues.of_scores(self.score, original=self.original)

    @property
    def p(self) -> NDArray[np.float64]:
        """The two-sided p-values as doubles: 0 for the smallest."""
        return self.p_values.values


_FIELDS = ("score", "auc", "log_fold_change", "fraction_in", "fraction_out")
"""The arrays, in the order of ``Tests`` in rank.c."""


@dataclass(frozen=True, slots=True)
class _Plan:
    """Sets that share one ranking: first those of `groups`, then the other cells ranked with them, if any."""

    numbers: list[int]
    groups: Groups

    def arrays(self, label: type[np.signedinteger[Any]]) -> list[NDArray[Any]]:
        """Return the arrays of ``Plan`` in rank.c."""
        members = self.groups.members[: len(self.numbers)]
        return [
            self.groups.code.astype(label),
            self.groups.class_sizes,
            np.concatenate([[0], np.cumsum(members.sum(axis=1))]).astype(np.int64),
            np.nonzero(members)[1].astype(np.int64),
            np.array(self.numbers, np.int64),
        ]


def _cut(indptr: NDArray[np.int64], n_values: int, max_genes: int) -> list[tuple[int, int]]:
    """Split the genes into runs of about `n_values` stored values and at most `max_genes` genes."""
    n_genes = len(indptr) - 1
    cuts = np.searchsorted(indptr, np.arange(indptr[0], indptr[-1] + n_values, n_values))
    cuts = np.unique(np.clip(np.concatenate([cuts, np.arange(0, n_genes, max_genes), [n_genes]]), 0, n_genes))
    return list(pairwise(cuts.tolist()))


def _scan(
    data: Sorted,
    plans: Sequence[_Plan],
    n_sets: int,
    *,
    original: bool,
    threads: int,
    on_progress: OnProgress | None,
    continuity: bool = True,
    consume: Callable[[slice, GroupTests], None] | None = None,
) -> GroupTests | None:
    """Return the tests of all sets, or pass them to `consume`, some genes at a time, from several threads.

    The units of work depend only on the data and the sets, and no gene's result depends on another's.
    """
    check_offsets(data)
    indptr, cells, values = data
    n_genes, n_cells = len(indptr) - 1, len(plans[0].groups.code) if plans else 0
    longest = int(np.diff(indptr).max(initial=1))
    max_classes = max((len(plan.groups.class_sizes) for plan in plans), default=0)
    wide = max_classes > np.iinfo(np.int8).max
    arrays = [plan.arrays(np.int16 if wide else np.int8) for plan in plans]
    orders = np.array([_order(plan, held) for plan, held in zip(plans, arrays, strict=True)], np.int64)
    run = kernel("cw_rank_scan")
    scratch_bytes = kernel("cw_rank_scratch")(longest, max_classes)
    fixed = (address(indptr, np.int64), address(cells, np.int32), address(values, np.float32))
    own = threading.local()  # a buffer per thread: the pages of a new buffer would cost more than the scan
    rules = (_SKIP_TOP_BLOCK if original else 0) | (0 if continuity else _NO_CONTINUITY)
    everything = _empty_tests(n_sets, n_genes, original) if consume is None else None

    def work(genes: tuple[int, int]) -> None:
        first, last = genes
        if not hasattr(own, "scratch"):
            own.scratch = np.empty(scratch_bytes, np.uint8)
        tests, column = everything, first
        if tests is None:
            tests, column = _empty_tests(n_sets, last - first, original), 0
        out = [address(getattr(tests, name), np.float64, writable=True) + 8 * column for name in _FIELDS]
        targets = np.array([*out, tests.score.shape[1]], np.int64)
        outside = run(
            *fixed, first, last, address(orders, np.int64), len(plans), n_cells, rules,
            address(targets, np.int64), longest, max_classes, address(own.scratch, np.uint8, writable=True), wide,
            _PLAIN,
        )  # fmt: skip
        if outside:
            raise IndexError("the data hold cells that the groups do not know")
        if consume is not None:
            consume(slice(first, last), tests)

    chunks = _cut(indptr, _CHUNK, max(1, _CAPACITY // max(1, n_sets))) if plans else []
    every = -(-len(chunks) // _REPORTS)
    with ThreadPoolExecutor(max(1, threads)) as pool:
        try:
            for done, _ in enumerate(pool.map(work, chunks), start=1):
                if on_progress is not None and done % every == 0:
                    on_progress(done / len(chunks))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return everything


def _order(plan: _Plan, arrays: list[NDArray[Any]]) -> tuple[int, ...]:
    """Return the fields of ``Plan`` in rank.c."""
    code, sizes, bounds, classes, rows = (address(array, array.dtype) for array in arrays)
    groups = plan.groups
    return code, len(groups.class_sizes), groups.total, sizes, len(plan.numbers), bounds, classes, rows


def _empty_tests(n_sets: int, n_genes: int, original: bool) -> GroupTests:  # noqa: FBT001
    return GroupTests(*(np.empty((n_sets, n_genes)) for _ in _FIELDS), original=original)


def _plan(sets: Sequence[NDArray[np.integer[Any]]], numbers: list[int], listed: NDArray[np.bool_]) -> list[_Plan]:
    """Give the sets one ranking of the listed cells, unless they overlap in too many ways."""
    rest = listed.copy()
    for number in numbers:
        rest[sets[number]] = False
    chosen = [*(sets[number] for number in numbers), np.flatnonzero(rest)]
    groups = Groups.combine(chosen, len(listed), _MAX_CLASSES)
    if groups is None and len(numbers) > 1:
        half = len(numbers) // 2
        return [*_plan(sets, numbers[:half], listed), *_plan(sets, numbers[half:], listed)]
    assert groups is not None  # a set and the rest make at most two classes
    return [_Plan(numbers, groups)]


def rank_tests(
    data: Sorted,
    groups: Groups,
    *,
    original: bool = False,
    continuity: bool = True,
    threads: int = 1,
    on_progress: OnProgress | None = None,
) -> GroupTests:
    """Test each set against all other listed cells.

    Parameters
    ----------
    data
        Gene-major values in ascending order, without NaN; absent entries are zeros.
    groups
        The sets. Cells in no set take no part.
    original
        Leave the block of equal largest values out of the tie correction, as presto does, and return 0 where R's
        p-values are 0.
    continuity
        Correct for continuity, as R does; scanpy does not.
    threads
        Threads of the scan; the result does not depend on it.
    on_progress
        Called with the fraction done; may raise to stop the scan.

    Returns
    -------
    GroupTests
        NaN where a set or its complement is empty.

    Raises
    ------
    IndexError
        If the data has a cell beyond those of `groups`.
    """
    n_sets = len(groups.members)
    plans = [_Plan(list(range(n_sets)), groups)]
    tests = _scan(
        data, plans, n_sets, original=original, threads=threads, on_progress=on_progress, continuity=continuity
    )  # fmt: skip
    assert tests is not None
    return tests


def set_tests(
    data: Sorted,
    sets: Sequence[NDArray[np.integer[Any]]],
    n_cells: int,
    consume: Callable[[slice, GroupTests], None],
    *,
    original: bool = False,
    threads: int = 1,
    on_progress: OnProgress | None = None,
) -> None:
    """Test each set against all other listed cells, and pass on the tests of some genes at a time.

    For reductions: it holds no array of the size of sets times genes. Sets may overlap in any number of ways.

    Parameters
    ----------
    data, original, threads, on_progress
        As for `rank_tests`.
    sets
        Row numbers of each set.
    n_cells
        Number of cells in the data.
    consume
        Called with a range of genes and their tests, arrays ``(n_sets, length of the range)``, from several threads
        and in any order; each gene comes once.
    """
    listed = _listed(sets, n_cells)
    plans = _plan(sets, list(range(len(sets))), listed)
    _scan(
        data, plans, len(sets), original=original, threads=threads, on_progress=on_progress, consume=consume
    )  # fmt: skip


def pair_tests(
    data: Sorted,
    pairs: Sequence[tuple[NDArray[np.integer[Any]], NDArray[np.integer[Any]]]],
    n_cells: int,
    *,
    original: bool = False,
    continuity: bool = True,
    threads: int = 1,
    on_progress: OnProgress | None = None,
) -> list[GroupTests]:
    """Test the first cells of each pair against the second, all pairs in one pass over the data.

    Pairs that split the same cells, like each cluster against all others, share one ranking.

    Parameters
    ----------
    data, original, continuity, threads, on_progress
        As for `rank_tests`.
    pairs
        Row numbers of the two disjoint sides.
    n_cells
        Number of cells in the data.

    Returns
    -------
    list of GroupTests
        For each pair, arrays ``(1, n_genes)``.
    """
    shared: dict[bytes, list[int]] = {}
    for number, pair in enumerate(pairs):
        shared.setdefault(np.packbits(_listed(pair, n_cells)).tobytes(), []).append(number)
    bases = [base for base, _ in pairs]
    plans = [plan for numbers in shared.values() for plan in _plan(bases, numbers, _listed(pairs[numbers[0]], n_cells))]
    tests = _scan(
        data, plans, len(pairs), original=original, threads=threads, on_progress=on_progress, continuity=continuity
    )  # fmt: skip
    assert tests is not None
    return [
        GroupTests(*(getattr(tests, name)[k : k + 1] for name in _FIELDS), original=original) for k in range(len(pairs))
    ]


def _listed(sets: Sequence[NDArray[np.integer[Any]]], n_cells: int) -> NDArray[np.bool_]:
    listed = np.zeros(n_cells, np.bool_)
    for members in sets:
        listed[members] = True
    return listed
