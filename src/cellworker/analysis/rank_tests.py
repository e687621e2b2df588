"""Exact Wilcoxon rank-sum tests on every cell, from values sorted once.

The order of the values inside a gene does not depend on the groups, so with each gene's values stored in order
(`GeneMajor`) a test of any groups is one linear scan. Formulas: Mann and Whitney (1947) with the normal
approximation, tie correction and continuity correction as in R's ``wilcox.test``; the original used presto
(algorithms.md, section 1).
"""

import ctypes
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellworker.analysis.groups import Groups, Sorted, check_offsets, over_sets
from cellworker.native import address, kernel

__all__ = [
    "GroupTests",
    "Groups",
    "OnProgress",
    "Sorted",
    "benjamini_hochberg",
    "pair_tests",
    "rank_tests",
    "set_tests",
]

_POINTER = ctypes.c_void_p
_BLOCK = 1 << 17  # stored values that stay in the cache while every comparison reads them
_CHUNK = 16 * _BLOCK  # stored values per unit of work
_ROOM = 1 << 18  # genes times classes per unit of work: bounds the memory, whatever the matrix
_MAX_CLASSES = 1024  # sets that overlap in more ways than this are cheaper to scan apart
_REPORTS = 50

OnProgress = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class GroupTests:
    """One set against all other listed cells, for every gene. All arrays are ``(n_sets, n_genes)``.

    Attributes
    ----------
    p
        Two-sided p-value.
    auc
        P(inside > outside) + half P(equal).
    log_fold_change
        Difference of the mean values (natural log where the data are).
    fraction_in, fraction_out
        Percentage (0 to 100) of cells with a stored value.
    """

    p: NDArray[np.float64]
    auc: NDArray[np.float64]
    log_fold_change: NDArray[np.float64]
    fraction_in: NDArray[np.float64]
    fraction_out: NDArray[np.float64]


_FIELDS = tuple(item.name for item in fields(GroupTests))


@dataclass(frozen=True, slots=True)
class _Plan:
    """Sets that share one ranking: `groups` lists them first, then perhaps the other cells ranked with them."""

    numbers: list[int]
    groups: Groups


@dataclass(frozen=True, slots=True)
class _Scan:
    rank2: NDArray[np.int64]
    detected: NDArray[np.int64]
    sums: NDArray[np.float64]
    ties: NDArray[np.float64]
    negative: NDArray[np.int64]

    @classmethod
    def empty(cls, n_genes: int, n_classes: int) -> "_Scan":
        shape = (n_genes, n_classes)
        return cls(
            np.empty(shape, np.int64),
            np.empty(shape, np.int64),
            np.empty(shape),
            np.empty(n_genes),
            np.empty(n_genes, np.int64),
        )


def _cut(indptr: NDArray[np.int64], n_values: int, most_genes: int) -> list[tuple[int, int]]:
    """Cut the genes into runs of about `n_values` stored values and at most `most_genes` genes."""
    n_genes = len(indptr) - 1
    cuts = np.searchsorted(indptr, np.arange(indptr[0], indptr[-1] + n_values, n_values))
    cuts = np.unique(np.clip(np.concatenate([cuts, np.arange(0, n_genes, most_genes), [n_genes]]), 0, n_genes))
    return list(pairwise(cuts.tolist()))


def _scan(
    data: Sorted,
    plans: Sequence[_Plan],
    n_sets: int,
    consume: Callable[[slice, GroupTests], None],
    *,
    original_ties: bool,
    threads: int,
    on_progress: OnProgress | None,
) -> None:
    """Hand the tests of all sets to `consume`, some genes at a time, from several threads.

    The runs of genes depend on the data and the sets alone, so that the number of threads cannot change a result.
    """
    check_offsets(data)
    indptr, cells, values = data
    longest = int(np.diff(indptr).max(initial=1))
    most_classes = max((len(plan.groups.class_sizes) for plan in plans), default=0)
    width, label = ("narrow", np.int8) if most_classes <= np.iinfo(np.int8).max else ("wide", np.int16)
    codes = [plan.groups.code.astype(label) for plan in plans]
    run = kernel(
        f"cw_rank_scan_{width}", None, *[_POINTER] * 3, ctypes.c_int64, ctypes.c_int64, _POINTER, ctypes.c_int32,
        ctypes.c_int64, ctypes.c_int32, *[_POINTER] * 5, ctypes.c_int64, _POINTER,
    )  # fmt: skip
    fixed = (address(indptr, np.int64), address(cells, np.int32), address(values, np.float32))
    n_cells = min((len(plan.groups.code) for plan in plans), default=0)
    own = threading.local()  # a buffer per thread: the pages of a new one would cost more than the scan

    def work(genes: tuple[int, int]) -> None:
        first, last = genes
        if not hasattr(own, "scratch"):
            own.scratch = np.empty(3 * most_classes + -(-10 * longest // 8) + 1, np.int64)
        scratch = address(own.scratch, np.int64, writable=True)
        scans = [_Scan.empty(last - first, len(plan.groups.class_sizes)) for plan in plans]
        calls = []
        for plan, code, out in zip(plans, codes, scans, strict=True):
            groups, row = plan.groups, 8 * len(plan.groups.class_sizes)
            calls.append((
                (address(code, label), len(groups.class_sizes), groups.total, int(original_ties)),
                [
                    (address(out.rank2, np.int64, writable=True), row),
                    (address(out.detected, np.int64, writable=True), row),
                    (address(out.sums, np.float64, writable=True), row),
                    (address(out.ties, np.float64, writable=True), 8),
                    (address(out.negative, np.int64, writable=True), 8),
                ],
            ))  # fmt: skip
        for a, b in _cut(indptr[first : last + 1], _BLOCK, last - first):
            start, end = first + a, first + b
            block = cells[indptr[start] : indptr[end]]
            if len(block) and int(block.view(np.uint32).max()) >= n_cells:
                raise IndexError("the data hold cells that the groups do not know")
            for given, outputs in calls:
                run(*fixed, start, end, *given, *(base + a * row for base, row in outputs), longest, scratch)
        tests = _empty_tests(n_sets, last - first)
        for plan, scan in zip(plans, scans, strict=True):
            for name, column in zip(_FIELDS, _tests(scan, plan.groups, len(plan.numbers)), strict=True):
                getattr(tests, name)[plan.numbers] = column
        consume(slice(first, last), tests)

    classes = sum(len(plan.groups.class_sizes) for plan in plans) + n_sets
    chunks = _cut(indptr, _CHUNK, max(1, _ROOM // max(1, classes)))
    every = -(-len(chunks) // _REPORTS)
    with ThreadPoolExecutor(max(1, threads)) as pool:
        try:
            for done, _ in enumerate(pool.map(work, chunks), start=1):
                if on_progress is not None and done % every == 0:
                    on_progress(done / len(chunks))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _empty_tests(n_sets: int, n_genes: int) -> GroupTests:
    return GroupTests(*(np.empty((n_sets, n_genes)) for _ in _FIELDS))


def _gather(
    data: Sorted,
    plans: Sequence[_Plan],
    n_sets: int,
    *,
    original_ties: bool,
    threads: int,
    on_progress: OnProgress | None,
) -> GroupTests:
    out = _empty_tests(n_sets, len(data[0]) - 1)

    def keep(genes: slice, tests: GroupTests) -> None:
        for name in _FIELDS:
            getattr(out, name)[:, genes] = getattr(tests, name)

    _scan(data, plans, n_sets, keep, original_ties=original_ties, threads=threads, on_progress=on_progress)
    return out


def _plan(sets: Sequence[NDArray[np.integer[Any]]], numbers: list[int], listed: NDArray[np.bool_]) -> list[_Plan]:
    """Share one ranking of the listed cells among sets, unless they overlap in too many ways."""
    rest = listed.copy()
    for number in numbers:
        rest[sets[number]] = False
    chosen = [*(sets[number] for number in numbers), np.flatnonzero(rest)]
    groups = Groups.combine(chosen, len(listed), _MAX_CLASSES)
    if groups is None and len(numbers) > 1:
        half = len(numbers) // 2
        return [*_plan(sets, numbers[:half], listed), *_plan(sets, numbers[half:], listed)]
    assert groups is not None  # a set and the rest are two classes at most
    return [_Plan(numbers, groups)]


def rank_tests(
    data: Sorted,
    groups: Groups,
    *,
    original_ties: bool = False,
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
    original_ties
        Leave the block of equal largest values out of the tie correction, as presto does.
    threads
        Threads of the scan; the result does not depend on it.
    on_progress
        Told the fraction done, now and then; it may raise to stop the scan.

    Returns
    -------
    GroupTests
        NaN where a set or its complement is empty.

    Raises
    ------
    IndexError
        If the data hold a cell beyond those of `groups`.
    """
    n_sets = len(groups.members)
    plans = [_Plan(list(range(n_sets)), groups)]
    return _gather(data, plans, n_sets, original_ties=original_ties, threads=threads, on_progress=on_progress)


def set_tests(
    data: Sorted,
    sets: Sequence[NDArray[np.integer[Any]]],
    n_cells: int,
    consume: Callable[[slice, GroupTests], None],
    *,
    original_ties: bool = False,
    threads: int = 1,
    on_progress: OnProgress | None = None,
) -> None:
    """Test each set against all other listed cells, and hand the tests over some genes at a time.

    For reductions: nothing of the size of sets times genes is kept. Sets may overlap in any number of ways.

    Parameters
    ----------
    data, original_ties, threads, on_progress
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
    _scan(data, plans, len(sets), consume, original_ties=original_ties, threads=threads, on_progress=on_progress)


def pair_tests(
    data: Sorted,
    pairs: Sequence[tuple[NDArray[np.integer[Any]], NDArray[np.integer[Any]]]],
    n_cells: int,
    *,
    original_ties: bool = False,
    threads: int = 1,
    on_progress: OnProgress | None = None,
) -> list[GroupTests]:
    """Test the first cells of each pair against the second, all pairs in one pass over the data.

    Pairs that share out the same cells, as each cluster against all others does, share one ranking.

    Parameters
    ----------
    data, original_ties, threads, on_progress
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
    tests = _gather(data, plans, len(pairs), original_ties=original_ties, threads=threads, on_progress=on_progress)
    return [GroupTests(*(getattr(tests, name)[k : k + 1] for name in _FIELDS)) for k in range(len(pairs))]


def _listed(sets: Sequence[NDArray[np.integer[Any]]], n_cells: int) -> NDArray[np.bool_]:
    listed = np.zeros(n_cells, np.bool_)
    for members in sets:
        listed[members] = True
    return listed


def _tests(scan: _Scan, groups: Groups, n_sets: int) -> tuple[NDArray[np.float64], ...]:
    """Return the fields of `GroupTests` for the first sets."""
    total, sizes = groups.total, groups.sizes[:n_sets].astype(np.float64)[:, None]
    members = groups.members[:n_sets]
    stored = scan.detected.sum(axis=1)
    zeros = total - stored
    # the implicit zeros of a class share twice the rank 2 * below + zeros + 1
    rank2 = scan.rank2 + (groups.class_sizes[None, :] - scan.detected) * (2 * scan.negative + zeros + 1)[:, None]
    rank_sum = over_sets(rank2, members) / 2.0
    detected = over_sets(scan.detected, members).astype(np.float64)
    sums = over_sets(scan.sums, members)
    rest = total - sizes
    with np.errstate(divide="ignore", invalid="ignore"):
        u = rank_sum - sizes * (sizes + 1) / 2
        auc = u / (sizes * rest)
        spread = float(total) ** 3 - total - scan.ties[None, :]
        sigma = np.sqrt(sizes * rest * spread / (12.0 * (float(total) ** 2 - total)))
        z = u - sizes * rest / 2
        z = z - 0.5 * np.sign(z)
        score = np.where(z == 0, 0.0, z / sigma)
        fold = sums / sizes - (scan.sums.sum(axis=1)[None, :] - sums) / rest
        inside, outside = 100 * detected / sizes, 100 * (stored[None, :] - detected) / rest
    untestable = ((sizes == 0) | (rest == 0))[:, 0]
    for column in (score, auc, fold):
        column[untestable] = np.nan
    return _two_sided(score), auc, fold, inside, outside


def _two_sided(score: NDArray[np.float64]) -> NDArray[np.float64]:
    score = np.ascontiguousarray(score)
    p = np.empty_like(score)
    kernel("cw_two_sided", None, _POINTER, ctypes.c_int64, _POINTER)(
        address(score, np.float64), score.size, address(p, np.float64, writable=True)
    )
    return p


def benjamini_hochberg(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Adjust p-values for the false discovery rate (Benjamini and Hochberg 1995), along the last axis.

    NaN stays NaN and does not count among the tests.
    """
    p = np.asarray(p, np.float64)
    if p.ndim > 1:
        return np.stack([benjamini_hochberg(row) for row in p]) if len(p) else p.copy()
    out = np.full(p.shape, np.nan)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    scaled = p[order] * len(order) / np.arange(1, len(order) + 1)
    out[order] = np.minimum(1.0, np.minimum.accumulate(scaled[::-1])[::-1])
    return out
