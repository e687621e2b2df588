"""Exact Wilcoxon rank-sum tests on every cell, from values sorted once.

The order of the values inside a gene does not depend on the groups, so with each gene's values stored in order
(`GeneMajor`) a test of any groups is one linear scan. Formulas: Mann and Whitney (1947) with the normal
approximation, tie
correction and continuity correction as in R's ``wilcox.test``; the original used presto (algorithms.md, section 1).
"""

import ctypes
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellworker.native import address, kernel

__all__ = ["GroupTests", "Groups", "benjamini_hochberg", "expm1_means", "pair_tests", "rank_tests"]

_POINTER = ctypes.c_void_p
_BLOCK = 1 << 17  # stored values per unit of work: they stay in the cache while every comparison reads them

_REPORT = 64  # blocks between two reports of progress

OnProgress = Callable[[float], None]
Sorted = tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]
"""Gene-major values in order: indptr int64 ``(n_genes + 1,)``, cells int32 and values float32 ``(nnz,)``."""


@dataclass(frozen=True, slots=True)
class Groups:
    """Sets of cells that may overlap, as classes that do not.

    A *class* is the cells that belong to the same sets. Sums over classes add up to sums over sets, so overlapping
    sets cost nothing in the scan.

    Attributes
    ----------
    code
        int16 ``(n_cells,)``: class of each cell, -1 for cells in no set.
    members
        bool ``(n_sets, n_classes)``: which classes make up each set.
    class_sizes
        int64 ``(n_classes,)``.
    """

    code: NDArray[np.int16]
    members: NDArray[np.bool_]
    class_sizes: NDArray[np.int64]

    @classmethod
    def from_sets(cls, sets: Sequence[NDArray[np.integer[Any]]], n_cells: int) -> "Groups":
        """Build from row numbers of each set; a set may be empty.

        Raises
        ------
        ValueError
            If the sets overlap in more than 32,767 different ways.
        """
        combined = np.zeros(n_cells, np.int64)  # id of the combination of sets seen so far; 0 is none
        rows = np.zeros((1, 0), np.bool_)  # one row per combination: which of the sets so far it is in
        for members in sets:
            inside = np.zeros(n_cells, np.int64)
            inside[members] = 1
            distinct, combined = np.unique(combined * 2 + inside, return_inverse=True)
            rows = np.hstack([rows[distinct // 2], (distinct % 2).astype(np.bool_)[:, None]])
        listed = rows.any(axis=1)
        number = np.full(len(rows), -1, np.int64)
        number[listed] = np.arange(int(listed.sum()))
        if listed.sum() > np.iinfo(np.int16).max:
            raise ValueError("the cell sets overlap in too many different ways")
        code = number[combined].astype(np.int16)
        sizes = np.bincount(code[code >= 0], minlength=int(listed.sum())).astype(np.int64)
        return cls(np.ascontiguousarray(code), np.ascontiguousarray(rows[listed].T), sizes)

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Cells per set, int64 ``(n_sets,)``."""
        return self.members.astype(np.int64) @ self.class_sizes

    @property
    def total(self) -> int:
        """Number of cells in any set."""
        return int(self.class_sizes.sum())


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


def _blocks(indptr: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Cut the genes into runs of about `_BLOCK` stored values; the cuts depend on the data alone."""
    cuts = np.searchsorted(indptr, np.arange(0, indptr[-1] + _BLOCK, _BLOCK))
    cuts = np.unique(np.clip(np.append(cuts, len(indptr) - 1), 0, len(indptr) - 1))
    return list(zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True))


def _scan(
    data: Sorted, comparisons: Sequence[Groups], *, skip_top_block: bool, threads: int, on_progress: OnProgress | None
) -> list[_Scan]:
    indptr, cells, values = data
    n_genes = len(indptr) - 1
    run = kernel(
        "cw_rank_scan", None, _POINTER, _POINTER, _POINTER, ctypes.c_int64, ctypes.c_int64, _POINTER, ctypes.c_int32,
        ctypes.c_int64, ctypes.c_int32, _POINTER, _POINTER, _POINTER, _POINTER, _POINTER,
    )  # fmt: skip
    fixed = (address(indptr, np.int64), address(cells, np.int32), address(values, np.float32))
    scans = [_Scan.empty(n_genes, len(groups.class_sizes)) for groups in comparisons]

    def block(limits: tuple[int, int]) -> None:
        start, end = limits
        for groups, out in zip(comparisons, scans, strict=True):
            run(
                *fixed, start, end, address(groups.code, np.int16), len(groups.class_sizes), groups.total,
                int(skip_top_block), address(out.rank2[start:end], np.int64, writable=True),
                address(out.detected[start:end], np.int64, writable=True),
                address(out.sums[start:end], np.float64, writable=True),
                address(out.ties[start:end], np.float64, writable=True),
                address(out.negative[start:end], np.int64, writable=True),
            )  # fmt: skip

    blocks = _blocks(indptr)
    with ThreadPoolExecutor(max(1, threads)) as pool:
        try:
            for done, _ in enumerate(pool.map(block, blocks), start=1):
                if on_progress is not None and done % _REPORT == 0:
                    on_progress(done / len(blocks))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return scans


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
    """
    scan = _scan(data, [groups], skip_top_block=original_ties, threads=threads, on_progress=on_progress)[0]
    return _tests(scan, groups, len(groups.members))


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
    unions = []
    for number, (base, background) in enumerate(pairs):
        unions.append(np.union1d(base, background).astype(np.int64))
        shared.setdefault(unions[-1].tobytes(), []).append(number)
    comparisons = []
    for numbers in shared.values():
        bases = [pairs[i][0] for i in numbers]
        rest = np.setdiff1d(unions[numbers[0]], np.concatenate(bases))
        comparisons.append(Groups.from_sets([*bases, rest], n_cells))
    scans = _scan(data, comparisons, skip_top_block=original_ties, threads=threads, on_progress=on_progress)
    out: list[GroupTests | None] = [None] * len(pairs)
    for numbers, scan, groups in zip(shared.values(), scans, comparisons, strict=True):
        tests = _tests(scan, groups, len(numbers))
        for k, number in enumerate(numbers):
            row = slice(k, k + 1)
            out[number] = GroupTests(
                tests.p[row],
                tests.auc[row],
                tests.log_fold_change[row],
                tests.fraction_in[row],
                tests.fraction_out[row],
            )
    return [tests for tests in out if tests is not None]


def _tests(scan: _Scan, groups: Groups, n_sets: int) -> GroupTests:
    total, sizes = groups.total, groups.sizes[:n_sets].astype(np.float64)[:, None]
    members = groups.members[:n_sets].astype(np.int64)
    stored = scan.detected.sum(axis=1)
    zeros = total - stored
    # the implicit zeros of a class share twice the rank 2 * below + zeros + 1
    rank2 = scan.rank2 + (groups.class_sizes[None, :] - scan.detected) * (2 * scan.negative + zeros + 1)[:, None]
    rank_sum = (members @ rank2.T) / 2.0
    detected = (members @ scan.detected.T).astype(np.float64)
    sums = members.astype(np.float64) @ scan.sums.T
    rest = total - sizes
    with np.errstate(divide="ignore", invalid="ignore"):
        u = rank_sum - sizes * (sizes + 1) / 2
        auc = u / (sizes * rest)
        spread = float(total) ** 3 - total - scan.ties[None, :]
        sigma = np.sqrt(sizes * rest * spread / (12.0 * (float(total) ** 2 - total)))
        z = u - sizes * rest / 2
        z = z - 0.5 * np.sign(z)
        score = np.where(z == 0, 0.0, z / sigma)
        score[((sizes == 0) | (rest == 0))[:, 0]] = np.nan
        fold = sums / sizes - (scan.sums.sum(axis=1)[None, :] - sums) / rest
        inside, outside = 100 * detected / sizes, 100 * (stored[None, :] - detected) / rest
    return GroupTests(_two_sided(score), auc, fold, inside, outside)


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


def expm1_means(
    data: Sorted, groups: Groups, genes: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Average ``expm1`` of some genes, and the percentage of cells above zero, in each set.

    Returns
    -------
    tuple
        float64 ``(n_sets, len(genes))`` means and percentages (0 to 100).
    """
    indptr, cells, values = data
    genes = np.ascontiguousarray(genes, np.int64)
    if len(genes) and (genes.min() < 0 or genes.max() >= len(indptr) - 1):
        raise IndexError("gene position out of range")
    n_classes = len(groups.class_sizes)
    sums, positive = np.zeros((len(genes), n_classes)), np.zeros((len(genes), n_classes), np.int64)
    kernel("cw_expm1_sums", None, *[_POINTER] * 4, ctypes.c_int64, _POINTER, ctypes.c_int32, _POINTER, _POINTER)(
        address(indptr, np.int64), address(cells, np.int32), address(values, np.float32), address(genes, np.int64),
        len(genes),
        address(groups.code, np.int16), n_classes, address(sums, np.float64, writable=True), address(positive,
        np.int64, writable=True),
    )  # fmt: skip
    sizes = groups.sizes.astype(np.float64)[:, None]
    members = groups.members.astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        return members @ sums.T / sizes, 100 * (members @ positive.T) / sizes
