"""Turns matrices of compressed columns, gene after gene, into compressed rows, straight from their file.

The index array is read twice and never copied: first the values of each cell are counted, then each value goes to its
place. Nothing is trusted that was read before, since the file may change meanwhile.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellworker.experiment.draft import SparseDraft
from cellworker.formats.anndata.containers.tree import Array, damaged
from cellworker.formats.common.matrices.exact_values import exact_dtype, single
from cellworker.formats.common.matrices.sparse import blocks
from cellworker.formats.common.scratch import Scratch
from cellworker.native import address, kernel

__all__ = ["CompressedColumns", "checked_indices", "turned"]

Blocks = Iterable[tuple[int, NDArray[Any]]]


@dataclass(frozen=True, slots=True)
class CompressedColumns:
    """The parts of such a matrix, unread but for its bounds.

    Attributes
    ----------
    path
        Where it is in its file.
    pointers
        int64 ``(n_columns + 1,)``: the bounds of the columns, which divide the values.
    indices, data
        The row and the value of each entry.
    n_rows
        Number of rows.
    """

    path: str
    pointers: NDArray[np.int64]
    indices: Array
    data: Array
    n_rows: int

    def is_exact(self) -> bool:
        """Return whether float32 holds every value that is a whole number; other matrices are rare."""
        dtype = self.data.dtype
        if dtype is not None and (dtype == np.float32 or dtype.itemsize < 4):
            return True
        return all(exact_dtype(block) == np.float32 for _, block in self.data.blocks())

    def same_places(self, other: "CompressedColumns") -> bool:
        """Return whether another matrix has its values at the same places."""
        if self.n_rows != other.n_rows or not np.array_equal(self.pointers, other.pointers):
            return False
        return all(np.array_equal(one, two) for _, one, two in _together(self.indices.blocks(), other.indices.blocks()))

    def read(self, scratch: Scratch, progress: Callable[[float], None], same: SparseDraft | None = None) -> SparseDraft:
        """Read it row after row, each row ascending.

        Parameters
        ----------
        same
            A matrix with its values at the same places, which lends its index arrays.

        Raises
        ------
        WorkerError
            ``EXPERIMENT_UNREADABLE`` when an index is outside the matrix, or the file changes meanwhile.
        """
        nnz = int(self.pointers[-1])
        indptr = self._counted(progress) if same is None else same.indptr
        columns = scratch.empty((nnz,), np.int32) if same is None else same.columns
        out = SparseDraft(indptr, columns, scratch.empty((nnz,), np.float32), len(self.pointers) - 1)
        scatter = _Scatter(self.pointers, out, with_columns=same is None)
        for start, rows, values in _together(self.indices.blocks(), self.data.blocks()):
            if scatter.put(start, self._checked(rows), single(values)):
                raise damaged(self.path, "its index array changed while it was read")
            progress(0.5 + 0.5 * (start + len(rows)) / nnz)
        return out

    def _counted(self, progress: Callable[[float], None]) -> NDArray[np.int64]:
        """Return the bounds of the rows."""
        lengths = np.zeros(self.n_rows, np.int64)
        for start, block in self.indices.blocks():
            lengths += np.bincount(self._checked(block), minlength=self.n_rows)
            progress(0.5 * (start + len(block)) / int(self.pointers[-1]))
        return _bounds(lengths)

    def _checked(self, block: NDArray[Any]) -> NDArray[np.int32]:
        return np.ascontiguousarray(checked_indices(block, self.n_rows, self.path), np.int32)


def checked_indices(block: NDArray[Any], n: int, path: str) -> NDArray[Any]:
    """Return a piece of the index array of the matrix at `path`, whose indices are below `n`.

    Raises
    ------
    WorkerError
        ``EXPERIMENT_UNREADABLE`` when one is outside.
    """
    # As an unsigned number a negative index is a large one, so that one look finds both.
    if len(block) and block.view(f"u{block.itemsize}").max() >= n:
        raise damaged(path=f"{path}/indices", what=f"an index outside 0 to {n - 1}")
    return block


def turned(matrix: SparseDraft, scratch: Scratch) -> SparseDraft:
    """Turn compressed columns in memory, whose indices were checked, into compressed rows, each row ascending."""
    n_rows, nnz = matrix.n_columns, len(matrix.columns)
    lengths = np.zeros(n_rows, np.int64)
    for start, end in blocks(nnz):
        lengths += np.bincount(matrix.columns[start:end], minlength=n_rows)
    columns = scratch.empty((nnz,), np.int32)
    if matrix.values.dtype != np.float32:
        order = np.argsort(matrix.columns, kind="stable")
        columns[:] = np.repeat(np.arange(len(matrix.indptr) - 1, dtype=np.int32), np.diff(matrix.indptr))[order]
        return SparseDraft(_bounds(lengths), columns, np.asarray(matrix.values)[order], len(matrix.indptr) - 1)
    out = SparseDraft(_bounds(lengths), columns, scratch.empty((nnz,), np.float32), len(matrix.indptr) - 1)
    if _Scatter(matrix.indptr, out, with_columns=True).put(0, matrix.columns, matrix.values):
        raise ValueError("the rows are not those that were counted")
    return out


class _Scatter:
    """Puts entries, which come column after column, into the rows of a new matrix."""

    def __init__(self, pointers: NDArray[np.int64], out: SparseDraft, *, with_columns: bool) -> None:
        self._pointers = np.ascontiguousarray(pointers, np.int64)
        self._out, self._with_columns = out, with_columns
        self._filled, self._ends = out.indptr[:-1].copy(), np.ascontiguousarray(out.indptr[1:])
        if int(out.indptr[-1]) > len(out.values) or (with_columns and len(out.columns) != len(out.values)):
            raise ValueError("the rows have more entries than there is room for")

    def put(self, start: int, rows: NDArray[np.int32], values: NDArray[np.float32]) -> int:
        """Take entries from `start` on; returns the number of those without a place."""
        if len(rows) != len(values):
            raise ValueError("each entry has a row and a value")
        out = self._out
        lost: int = kernel("cw_scatter_columns")(
            address(self._pointers, np.int64), len(self._pointers) - 1, start, start + len(rows),
            address(rows, np.int32), address(values, np.float32),
            len(self._ends), address(self._ends, np.int64), address(self._filled, np.int64, writable=True),
            address(out.columns, np.int32, writable=True) if self._with_columns else None,
            address(out.values, np.float32, writable=True),
        )  # fmt: skip
        return lost


def _bounds(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    out = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=out[1:])
    return out


def _together(one: Blocks, other: Blocks) -> Iterator[tuple[int, NDArray[Any], NDArray[Any]]]:
    """Walk over two arrays of one length in pieces that are the same for both, with the start of each."""
    others = iter(other)
    at, piece = 0, np.zeros(0)
    for start, block in one:
        done = 0
        while done < len(block):
            if not len(piece):
                at, piece = next(others)
            length = min(len(block) - done, len(piece))
            yield start + done, block[done : done + length], piece[:length]
            done, at, piece = done + length, at + length, piece[length:]
