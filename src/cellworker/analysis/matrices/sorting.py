"""Compressed sparse rows: checks, orders and splits them, in blocks that any thread may process.

The kernels release the interpreter lock, so plain threads run them in parallel. The output depends neither on the split
of the work nor on the number of threads.
"""

import mmap
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from cellworker.analysis.matrices.levels import ToldValues
from cellworker.native import address, kernel

__all__ = [
    "Compressed",
    "Packed",
    "RowConverter",
    "RowSplitter",
    "RowSummary",
    "check_rows",
    "column_address",
    "paged",
    "scan_rows",
]

Compressed = tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]
"""A compressed matrix: int64 ``(n_rows + 1,)`` bounds, int32 ``(nnz,)`` columns, float32 ``(nnz,)`` values."""
Packed = tuple[NDArray[np.int64], NDArray[np.int32] | NDArray[np.uint16], NDArray[np.float32] | ToldValues]
"""The same in a store: columns may be uint16, and values may be `ToldValues`."""


_SUMMARY = np.dtype(
    [
        (name, np.int64)
        for name in ("kept", "nan", "infinite", "negative", "fractional", "unsorted_rows", "problem", "problem_row")
    ]
    + [("largest", np.int32), ("smallest", np.int32)]
)
_PROBLEMS = {1: "bounds", 2: "column", 3: "length"}


@dataclass(frozen=True, slots=True)
class RowSummary:
    """Facts about some rows.

    Attributes
    ----------
    stored, kept
        Stored entries, and those that are not zero (NaN counts as not zero).
    nan, infinite, negative, fractional
        Numbers of such entries. NaN is neither negative nor fractional; an infinite value is not fractional.
    unsorted_rows
        Rows whose columns do not strictly ascend.
    largest, smallest
        Over all entries that are not NaN; minus and plus infinity where there are none.
    problem
        "" or the fault of `problem_row`: "bounds" (its place in the arrays), "column" (one is outside the matrix),
        "length" (more entries than columns). The other fields then describe the rows before it.
    """

    stored: int = 0
    kept: int = 0
    nan: int = 0
    infinite: int = 0
    negative: int = 0
    fractional: int = 0
    unsorted_rows: int = 0
    largest: float = -np.inf
    smallest: float = np.inf
    problem: str = ""
    problem_row: int = -1

    def __add__(self, other: "RowSummary") -> "RowSummary":
        first = self if self.problem or not other.problem else other
        return RowSummary(
            self.stored + other.stored,
            self.kept + other.kept,
            self.nan + other.nan,
            self.infinite + other.infinite,
            self.negative + other.negative,
            self.fractional + other.fractional,
            self.unsorted_rows + other.unsorted_rows,
            max(self.largest, other.largest),
            min(self.smallest, other.smallest),
            first.problem,
            first.problem_row,
        )

    @property
    def in_order(self) -> bool:
        """Whether the rows need no conversion: no stored zeros, columns ascending."""
        return self.kept == self.stored and self.unsorted_rows == 0


def paged(size: int, dtype: DTypeLike) -> NDArray[Any]:
    """Return an array in pages of its own, which go back to the system as soon as the array is freed.

    malloc keeps freed memory per thread, so its buffers would exist twice.
    """
    if not size:
        return np.empty(0, dtype)
    pages = mmap.mmap(-1, size * np.dtype(dtype).itemsize, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # a kernel without them
            pages.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(pages, dtype)


def check_rows(matrix: Packed, start: int, stop: int) -> None:
    """Refuse rows that a matrix does not have, and arrays of different lengths.

    Raises
    ------
    ValueError
        With the figures.
    """
    indptr, columns, values = matrix
    if not 0 <= start <= stop < len(indptr) or len(columns) != len(values):
        message = f"rows {start} to {stop} of {len(indptr) - 1}; {len(columns)} columns, {len(values)} values"
        raise ValueError(message)


def scan_rows(
    matrix: Compressed,
    start: int,
    stop: int,
    n_columns: int,
    *,
    kept: NDArray[np.int64],
    per_column: NDArray[np.int64] | None = None,
) -> RowSummary:
    """Check rows ``start`` to ``stop`` of an untrusted matrix.

    Parameters
    ----------
    matrix
        The whole matrix.
    kept
        Receives the number of non-zeros of each of these rows: int64 ``(stop - start,)``.
    per_column
        Adds the number of non-zeros of each column: int64 ``(n_columns,)``.
    """
    check_rows(matrix, start, stop)
    indptr, columns, values = matrix
    if len(kept) != stop - start or (per_column is not None and len(per_column) != n_columns):
        raise ValueError("kept and per_column do not fit the rows and columns")
    out = np.zeros(1, _SUMMARY)
    kernel("cw_scan_rows")(
        address(indptr, np.int64),
        start,
        stop,
        address(columns, np.int32),
        address(values, np.float32),
        len(columns),
        n_columns,
        address(kept, np.int64, writable=True),
        None if per_column is None else address(per_column, np.int64, writable=True),
        out.ctypes.data,
    )
    found: Any = out[0]
    problem = _PROBLEMS.get(int(found["problem"]), "")
    return RowSummary(
        stored=0 if problem else int(indptr[stop] - indptr[start]),
        kept=int(found["kept"]),
        nan=int(found["nan"]),
        infinite=int(found["infinite"]),
        negative=int(found["negative"]),
        fractional=int(found["fractional"]),
        unsorted_rows=int(found["unsorted_rows"]),
        largest=_from_key(int(found["largest"]), -np.inf),
        smallest=_from_key(int(found["smallest"]), np.inf),
        problem=problem,
        problem_row=int(found["problem_row"]) if problem else -1,
    )


def _from_key(key: int, none: float) -> float:
    """Return the float of an ordered key; the extreme keys stand for no number."""
    bits = np.int32(key if key >= 0 else key ^ 0x7FFFFFFF)
    value = float(bits.view(np.float32))
    return none if np.isnan(value) else value


class RowConverter:
    """Puts blocks of checked rows in order: no stored zeros, columns ascending.

    One per thread; its buffers are used again.

    Parameters
    ----------
    matrix
        The matrix; `scan_rows` has checked all rows.
    bounds
        int64 ``(n_rows + 1,)``: where each row's non-zeros go.
    """

    def __init__(self, matrix: Compressed, bounds: NDArray[np.int64]) -> None:
        self._matrix = matrix
        self._bounds = bounds
        self._columns = np.empty(0, np.int32)
        self._values = np.empty(0, np.float32)
        self._scratch = np.empty((2, 0), np.uint64)

    def convert(self, start: int, stop: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Return the columns and values of rows ``start`` to ``stop``; valid until the next call.

        Raises
        ------
        ValueError
            If a row names a column twice; the argument is the row's number.
        """
        check_rows(self._matrix, start, stop)
        indptr, columns, values = self._matrix
        bounds = self._bounds[start : stop + 1] - self._bounds[start]
        size = int(bounds[-1])
        longest = int(np.diff(indptr[start : stop + 1]).max(initial=0))
        if len(self._columns) < size + 1:
            self._columns, self._values = paged(size + 1, np.int32), paged(size + 1, np.float32)
        if self._scratch.shape[1] < longest:
            self._scratch = np.empty((2, longest), np.uint64)
        row = kernel("cw_convert_rows")(
            address(indptr, np.int64),
            start,
            stop,
            address(columns, np.int32),
            address(values, np.float32),
            address(bounds, np.int64),
            address(self._columns, np.int32, writable=True),
            address(self._values, np.float32, writable=True),
            address(self._scratch[0], np.uint64, writable=True),
            address(self._scratch[1], np.uint64, writable=True),
        )
        if row >= 0:
            raise ValueError(row)
        return self._columns[:size], self._values[:size]


class RowSplitter:
    """Splits rows at given columns, so that each range of columns can be processed alone.

    One per thread; its buffers are used again.

    Parameters
    ----------
    edges
        int32 ``(n_parts + 1,)``: the first column of each part, and the number of columns.
    """

    def __init__(self, edges: NDArray[np.int32]) -> None:
        self._edges = edges
        self._columns: NDArray[Any] = np.empty(0, np.int32)
        self._values: NDArray[Any] = np.empty(0, np.float32)

    def split(
        self, matrix: tuple[NDArray[np.int64], NDArray[Any], NDArray[Any]], start: int, stop: int
    ) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[Any], NDArray[Any]]:
        """Return the slices of rows ``start`` to ``stop``, part after part and in each part row after row.

        Parameters
        ----------
        matrix
            Its bounds; int32 or uint16 columns, which ascend within a row; and values of any type.

        Returns
        -------
        lengths
            int32 ``(n_parts, stop - start)``.
        bounds
            int64 ``(n_parts + 1,)``: where the parts are in `columns` and `values`.
        columns, values
            Of the same types; valid until the next call.
        """
        check_rows(matrix, start, stop)
        indptr, columns, values = matrix
        n_parts = len(self._edges) - 1
        size = int(indptr[stop] - indptr[start])
        before = self._columns, self._values
        if len(self._columns) < size or (before[0].dtype, before[1].dtype) != (columns.dtype, values.dtype):
            self._columns, self._values = paged(size, columns.dtype), paged(size, values.dtype)
        lengths = np.empty((n_parts, stop - start), np.int32)
        bounds = np.empty(n_parts + 1, np.int64)
        kernel("cw_split_rows")(
            address(indptr, np.int64),
            start,
            stop,
            *column_address(columns),
            address(values, values.dtype),
            values.itemsize,
            address(self._edges, np.int32),
            n_parts,
            address(lengths, np.int32, writable=True),
            address(bounds, np.int64, writable=True),
            address(self._columns, columns.dtype, writable=True),
            address(self._values, values.dtype, writable=True),
        )
        return lengths, bounds, self._columns[:size], self._values[:size]


def column_address(columns: NDArray[np.int32] | NDArray[np.uint16]) -> tuple[int, int]:
    """Return the address of column numbers, and the bytes of each."""
    narrow = columns.dtype == np.uint16
    return address(columns, np.uint16 if narrow else np.int32), 2 if narrow else 4
