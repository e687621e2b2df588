"""Rows of a sparse matrix as CSV text."""

import numpy as np
from numpy.typing import NDArray

from cellworker.native import address, kernel

__all__ = ["CsvRows"]

_rows = kernel("cw_csv_rows")
# The capacity that the kernel in text.c needs: bytes per column, stored value, and row.
_COLUMN_BYTES, _VALUE_BYTES, _ROW_BYTES = 2, 25, 32


class CsvRows:
    """A matrix genes x cells as CSV lines: row number from 1, gene id, one value per column.

    Values are the shortest decimals that read back as the same float32; zeros are ``0``, missing values ``NA``,
    infinities ``Inf``.

    Parameters
    ----------
    indptr, cells, values
        The matrix: int64 ``(n_genes + 1,)``, int32 and float32 ``(nnz,)``; cells in any order within a gene.
    ids
        The gene ids.
    column_of_cell
        int32 ``(n_cells,)``: the column of each cell, -1 for cells that are left out.
    n_columns
        Number of columns.
    """

    def __init__(  # noqa: PLR0917 the parts of one matrix
        self,
        indptr: NDArray[np.int64],
        cells: NDArray[np.int32],
        values: NDArray[np.float32],
        ids: list[str],
        column_of_cell: NDArray[np.int32],
        n_columns: int,
    ) -> None:
        sizes = np.diff(indptr)
        if len(ids) != len(sizes) or len(cells) != len(values):
            raise ValueError("the parts of the matrix differ in length")
        if len(sizes) and not (indptr[0] >= 0 and sizes.min() >= 0 and indptr[-1] <= len(values)):
            raise ValueError("indptr is damaged")
        if len(column_of_cell) and not (column_of_cell.min() >= -1 and column_of_cell.max() < n_columns):
            raise ValueError("column_of_cell holds columns that do not exist")
        encoded = [text.encode() for text in ids]
        self._id_ends = np.zeros(len(ids) + 1, np.int64)
        np.cumsum([len(text) for text in encoded], out=self._id_ends[1:])
        self._ids = np.frombuffer(b"".join(encoded) or b"\0", np.uint8)
        self._matrix = (np.ascontiguousarray(indptr), cells, values)
        self._column_of_cell = column_of_cell
        self.n_columns = n_columns
        self._max_bytes = _COLUMN_BYTES * n_columns + _VALUE_BYTES * sizes + np.diff(self._id_ends) + _ROW_BYTES

    def blocks(self, max_bytes: int) -> list[tuple[int, int]]:
        """Return ranges of genes whose text has at most `max_bytes`; a longer gene is a range of its own."""
        out = []
        start, size = 0, 0
        for gene, needed in enumerate(self._max_bytes.tolist()):
            if size and size + needed > max_bytes:
                out.append((start, gene))
                start, size = gene, 0
            size += needed
        if size:
            out.append((start, len(self._max_bytes)))
        return out

    def text(self, first: int, last: int) -> memoryview:
        """Return the lines of genes `first` to `last` - 1.

        Runs without the interpreter lock and may be called from several threads.
        """
        if not 0 <= first <= last <= len(self._max_bytes):
            raise ValueError("no such genes")
        indptr, cells, values = self._matrix
        out = np.empty(int(self._max_bytes[first:last].sum()) + 1, np.uint8)
        dense, marks = np.empty(self.n_columns, np.float32), np.zeros((self.n_columns + 63) // 64, np.uint64)
        length = _rows(
            address(indptr, np.int64), address(cells, np.int32), address(values, np.float32), first, last,
            address(self._column_of_cell, np.int32), len(self._column_of_cell), self.n_columns,
            address(self._ids, np.uint8), address(self._id_ends, np.int64),
            address(dense, np.float32), address(marks, np.uint64), address(out, np.uint8),
        )  # fmt: skip
        if length < 0:
            raise ValueError("the matrix names cells that do not exist")
        return out.data[:length]
