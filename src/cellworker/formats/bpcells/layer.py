"""A disk-backed layer as a matrix of the store, in bounded memory."""

from collections.abc import Iterator

import numpy as np

from cellworker.experiment.draft import SparseDraft
from cellworker.formats.bpcells.broken import MatrixError, damaged
from cellworker.formats.bpcells.operations import BpcellsMatrix
from cellworker.formats.bpcells.outside import Outside
from cellworker.formats.bpcells.stored import MajorSlice
from cellworker.formats.bpcells.tree import build, is_bpcells, is_turned
from cellworker.formats.common.findings import Findings
from cellworker.formats.common.matrices.exact_values import ExactValues
from cellworker.formats.common.scratch import Scratch
from cellworker.formats.r.rds.model import RS4

__all__ = ["is_bpcells", "read_disk_backed"]

_BLOCK = 1 << 21
"""Values decoded at a time: some 100 MB with all that is made of them."""
_MAX_VALUES = 1 << 36


def read_disk_backed(value: RS4, outside: Outside, field: str, findings: Findings, scratch: Scratch) -> SparseDraft:
    """Read a matrix of BPCells with all operations on it.

    Parameters
    ----------
    value
        genes x cells: the object's tree of operations.
    outside
        Where its matrices are.

    Raises
    ------
    PartBrokenError
        When it cannot be read; the finding says why, and names the class of an operation that is not known.
    WorkerError
        ``EXPERIMENT_UNREADABLE`` for a damaged or hostile archive, ``DISK_FULL``.
    """
    try:
        matrix = build(value, outside)
        if int(matrix.lengths.sum()) > _MAX_VALUES:
            raise damaged(found=f"{int(matrix.lengths.sum()):,} values", expected="an experiment")
        # Numbers beyond float32 become infinite, as they would anywhere.
        with np.errstate(all="ignore"):
            return _by_minor(matrix, scratch) if is_turned(value) else _by_major(matrix, scratch)
    except MatrixError as problem:
        raise findings.broken(
            field, found=problem.found, expected=problem.expected, advice=problem.advice, code=problem.code
        ) from None


def _slices(matrix: BpcellsMatrix) -> Iterator[tuple[int, int, MajorSlice]]:
    """Read all majors, in blocks of about `_BLOCK` values."""
    ends = np.cumsum(matrix.lengths)
    start = 0
    while start < matrix.n_majors:
        before = int(ends[start - 1]) if start else 0
        end = max(start + 1, min(int(np.searchsorted(ends, before + _BLOCK, "right")), start + _BLOCK, matrix.n_majors))
        found = matrix.take(np.arange(start, end))
        yield start, end, _ordered(found)
        start = end


def _ordered(found: MajorSlice) -> MajorSlice:
    rows = np.repeat(np.arange(len(found.lengths)), found.lengths)
    same = rows[1:] == rows[:-1]
    steps = np.diff(found.minors)
    if not np.any(same & (steps <= 0)):
        return found
    order = np.lexsort((found.minors, rows))
    minors = found.minors[order]
    if np.any(same & (np.diff(minors) == 0)):
        raise damaged(found="the same place twice in one row or column", expected="each place once")
    return MajorSlice(found.lengths, minors, found.values[order])


def _by_major(matrix: BpcellsMatrix, scratch: Scratch) -> SparseDraft:
    capacity = int(matrix.lengths.sum())
    columns, values = scratch.empty((capacity,), np.int32), ExactValues(capacity, scratch)
    indptr = np.zeros(matrix.n_majors + 1, np.int64)
    at = 0
    for start, end, found in _slices(matrix):
        here = slice(at, at + len(found.minors))
        columns[here] = found.minors
        values.put(here, found.values)
        indptr[start + 1 : end + 1] = found.lengths
        at = here.stop
    return SparseDraft(np.cumsum(indptr), columns[:at], values.values[:at], matrix.n_minors)


def _by_minor(matrix: BpcellsMatrix, scratch: Scratch) -> SparseDraft:
    """Turn it: read once to count, once more to put each value in its place."""
    indptr = np.zeros(matrix.n_minors + 1, np.int64)
    for _, _, found in _slices(matrix):
        indptr[1:] += np.bincount(found.minors, minlength=matrix.n_minors)
    np.cumsum(indptr, out=indptr)
    columns, values = scratch.empty((int(indptr[-1]),), np.int32), ExactValues(int(indptr[-1]), scratch)
    free = indptr[:-1].copy()
    for start, end, found in _slices(matrix):
        order = np.argsort(found.minors, kind="stable")
        minors = found.minors[order]
        first = np.searchsorted(minors, minors, "left")
        where = free[minors] + np.arange(len(minors)) - first
        columns[where] = np.repeat(np.arange(start, end), found.lengths)[order]
        values.put(where, found.values[order])
        free += np.bincount(minors, minlength=matrix.n_minors)
    return SparseDraft(indptr, columns, values.values, matrix.n_majors)
