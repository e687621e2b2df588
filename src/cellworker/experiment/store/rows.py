"""Writes sparse matrices to a store: checks every entry once, then writes the rows in order."""

import dataclasses
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellworker.analysis.matrices.sorting import RowConverter, RowSummary, scan_rows
from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.draft import SparseDraft
from cellworker.experiment.store.blocks import Meter, StoreFile, cut, in_threads
from cellworker.experiment.store.index import ArrayPlace

__all__ = ["Claim", "GiveBack", "ScannedRows", "keep", "narrow", "same_pattern", "scan", "write_rows"]

GiveBack = Callable[[NDArray[Any]], object]
"""Called with a part of a draft's array that is no longer read."""

Claim = Callable[[int, int, Sequence[NDArray[Any]]], object]
"""Called with the bytes that writing takes of the disk, the bytes of a temporary file that are freed meanwhile, and the
draft's arrays whose parts are freed."""

_BLOCK = 1 << 21


@dataclass(frozen=True, slots=True)
class ScannedRows:
    """A matrix that passed all checks.

    Attributes
    ----------
    title
        Its name in errors.
    bounds
        int64 ``(n_rows + 1,)``: the rows' bounds without stored zeros.
    per_column
        int64 ``(n_columns,)`` non-zeros of each column, where requested.
    """

    title: str
    draft: SparseDraft
    summary: RowSummary
    bounds: NDArray[np.int64]
    per_column: NDArray[np.int64] | None = None

    @property
    def nnz(self) -> int:
        """Number of non-zeros."""
        return int(self.bounds[-1])

    @property
    def needs_columns(self) -> bool:
        """Whether ordering its values needs its columns."""
        return not self.summary.in_order or self.draft.values.dtype != np.float32

    def blocks(self) -> list[tuple[int, int]]:
        """Split the rows into pieces with a limited number of entries."""
        return cut(self.draft.indptr, _BLOCK)

    def reader(self) -> Callable[[int, int], tuple[NDArray[np.int32], NDArray[Any]]]:
        """Return a function that returns rows in order; one per thread, and its result is valid until its next call."""
        draft = self.draft
        if draft.values.dtype != np.float32:
            return self._read_wide
        if self.summary.in_order:
            return lambda start, stop: (
                draft.columns[draft.indptr[start] : draft.indptr[stop]],
                draft.values[draft.indptr[start] : draft.indptr[stop]],
            )
        converter = RowConverter((draft.indptr, draft.columns, draft.values), self.bounds)

        def read(start: int, stop: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
            try:
                return converter.convert(start, stop)
            except ValueError as error:
                raise _unreadable(self.title, f"row {error} names the same column twice") from None

        return read

    def _read_wide(self, start: int, stop: int) -> tuple[NDArray[np.int32], NDArray[Any]]:
        """Order rows whose values float32 would round; such matrices are rare."""
        indptr = self.draft.indptr
        where = slice(int(indptr[start]), int(indptr[stop]))
        columns, values = self.draft.columns[where], self.draft.values[where]
        rows = np.repeat(np.arange(start, stop), np.diff(indptr[start : stop + 1]))
        kept = np.flatnonzero(narrow(values) != 0)
        kept = kept[np.lexsort((columns[kept], rows[kept]))]
        rows, columns, values = rows[kept], columns[kept], values[kept]
        twice = np.flatnonzero((np.diff(rows) == 0) & (np.diff(columns) == 0))
        if len(twice):
            raise _unreadable(self.title, f"row {rows[twice[0]]} names the same column twice")
        return columns, values


def keep(part: NDArray[Any]) -> None:
    """Free nothing."""


def narrow(values: NDArray[Any]) -> NDArray[np.float32]:
    """Return values in single precision; the same array where it already is."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.ascontiguousarray(values, np.float32)


def scan(
    title: str, draft: SparseDraft, shape: tuple[int, int], threads: int, meter: Meter, *, per_column: bool = False
) -> ScannedRows:
    """Check every entry of a matrix, so that readers can trust it.

    Raises
    ------
    WorkerError
        ``EXPERIMENT_UNREADABLE`` naming the fault.
    """
    n_rows, n_columns = shape
    nnz = len(draft.columns)
    indptr = draft.indptr
    if len(indptr) != n_rows + 1 or draft.n_columns != n_columns:
        raise _unreadable(title, f"it is {len(indptr) - 1} x {draft.n_columns}, but should be {n_rows} x {n_columns}")
    if len(draft.values) != nnz or indptr[0] != 0 or indptr[-1] != nnz or np.any(indptr[1:] < indptr[:-1]):
        raise _unreadable(title, f"its row bounds do not divide its {nnz} entries")
    bounds = np.zeros(n_rows + 1, np.int64)
    totals: list[NDArray[np.int64]] = []

    def worker() -> Callable[[tuple[int, int]], RowSummary]:
        columns = np.zeros(n_columns, np.int64) if per_column else None
        if columns is not None:
            totals.append(columns)

        def work(block: tuple[int, int]) -> RowSummary:
            start, stop = block
            kept = bounds[start + 1 : stop + 1]
            if draft.values.dtype == np.float32:
                found = scan_rows(
                    (indptr, draft.columns, draft.values), start, stop, n_columns, kept=kept, per_column=columns
                )
            else:
                found = _scan_wide(draft, start, stop, kept=kept, per_column=columns)
            meter.add("checking", found.stored)
            return found

        return work

    summary = sum(in_threads(cut(indptr, _BLOCK), threads, worker), RowSummary())
    if summary.problem == "column":
        raise _unreadable(title, f"row {summary.problem_row} names a column outside 0 to {n_columns - 1}")
    if summary.problem == "length":
        raise _unreadable(
            title, f"row {summary.problem_row} names the same column twice: it has more entries than columns"
        )
    if summary.problem:
        raise _unreadable(title, f"row {summary.problem_row} lies outside the matrix's entries")
    if summary.kept == nnz:
        bounds = indptr  # which often belong to two matrices
    else:
        np.cumsum(bounds, out=bounds)
    return ScannedRows(
        title, draft, summary, bounds, sum(totals, np.zeros(n_columns, np.int64)) if per_column else None
    )


def _scan_wide(
    draft: SparseDraft, start: int, stop: int, *, kept: NDArray[np.int64], per_column: NDArray[np.int64] | None
) -> RowSummary:
    """Check rows whose values float32 would round, by the rounded values."""
    first, last = int(draft.indptr[start]), int(draft.indptr[stop])
    bounds = draft.indptr[start : stop + 1] - first
    block = (bounds, np.ascontiguousarray(draft.columns[first:last]), narrow(draft.values[first:last]))
    found = scan_rows(block, 0, stop - start, draft.n_columns, kept=kept, per_column=per_column)
    return dataclasses.replace(found, problem_row=found.problem_row + start) if found.problem else found


def same_pattern(one: ScannedRows, other: ScannedRows, threads: int) -> bool:
    """Return whether two matrices have non-zeros at the same places."""
    if not np.array_equal(one.bounds, other.bounds):
        return False
    if one.draft.columns is other.draft.columns and one.summary.in_order and other.summary.in_order:
        return True
    differ = threading.Event()

    def worker() -> Callable[[tuple[int, int]], None]:
        read_one, read_other = one.reader(), other.reader()

        def work(block: tuple[int, int]) -> None:
            if not differ.is_set() and not np.array_equal(read_one(*block)[0], read_other(*block)[0]):
                differ.set()

        return work

    in_threads(one.blocks(), threads, worker)
    return not differ.is_set()


def write_rows(
    file: StoreFile,
    rows: ScannedRows,
    places: dict[str, ArrayPlace],
    name: str,
    *,
    threads: int,
    meter: Meter,
    indices: bool = True,
    spent: Sequence[NDArray[Any]] = (),
    give_back: GiveBack = keep,
) -> None:
    """Write a matrix, cell by cell, to its places in a file; the index arrays only where they are not shared.

    Each part of the draft's arrays in `spent` is freed as soon as it is written.
    """
    at_indices, at_data = places[f"{name}/indices"], places[f"{name}/data"]
    dtype, width = np.dtype(at_data.dtype), np.dtype(at_indices.dtype)
    if indices:
        file.put(places[f"{name}/indptr"].offset, rows.bounds)

    def worker() -> Callable[[tuple[int, int]], None]:
        read = rows.reader()

        def work(block: tuple[int, int]) -> None:
            columns, values = read(*block)
            first = int(rows.bounds[block[0]])
            if indices:
                file.put(at_indices.offset + first * width.itemsize, columns.astype(width, copy=False))
            file.put(at_data.offset + first * dtype.itemsize, values.astype(dtype, copy=False))
            read_entries = slice(int(rows.draft.indptr[block[0]]), int(rows.draft.indptr[block[1]]))
            for array in spent:
                give_back(array[read_entries])
            meter.add("writing", len(columns))

        return work

    in_threads(rows.blocks(), threads, worker)


def _unreadable(title: str, what: str) -> WorkerError:
    message = f"{title} cannot be used: {what}; the file is damaged, or no tool of the field wrote it; export it again"
    return WorkerError(ErrorCode.EXPERIMENT_UNREADABLE, message)
