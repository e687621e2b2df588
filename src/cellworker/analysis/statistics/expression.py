"""Expression of single genes from a sparse matrix stored gene after gene, each gene's values in ascending order.

The matrix is three arrays: `indptr` int64 ``(n_genes + 1,)``, `cells` int32 ``(nnz,)`` and `values` float32 ``(nnz,)``,
ascending within a gene, NaN last, no stored zeros.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from cellworker.native import address, kernel

__all__ = ["Columns", "ExpressionStatistics", "RowTexts", "gather_picked", "gene_statistics"]

_statistics = kernel("cw_gene_statistics")
_picked = kernel("cw_gather_picked")
_values_json = kernel("cw_gene_values_json")
_rows_json = kernel("cw_gene_rows_json")
# The capacity that the kernels in gene_text.c need: bytes per stored value, and a constant.
_TEXT_BYTES, _VALUE_BYTES, _ROW_BYTES, _SLACK = 28, 26, 12, 64
_WIDEST = 2  # for tests: the widest registers that the kernel uses


@dataclass(frozen=True, slots=True)
class ExpressionStatistics:
    """Statistics of genes over all cells, zeros included, float64 ``(k,)`` each; NaN where a gene has NaN.

    Attributes
    ----------
    mean
        Arithmetic mean.
    deviation
        Sample standard deviation (n - 1); NaN for a single cell.
    minimum
        Smallest value.
    cap
        The 0.95 quantile, linear between order statistics (R's type 7); where it is 0, the first nonzero quantile of
        0.96, 0.97 ... 1.0.
    """

    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]
    minimum: NDArray[np.float64]
    cap: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Columns:
    """Compressed columns: `ptr` int64 ``(k + 1,)``, `rows` int32 ascending within a column, `values` float32."""

    ptr: NDArray[np.int64]
    rows: NDArray[np.int32]
    values: NDArray[np.float32]


def gene_statistics(
    indptr: NDArray[np.int64], values: NDArray[np.float32], genes: NDArray[np.int64], n_cells: int
) -> ExpressionStatistics:
    """Return statistics of some genes.

    The order statistics come from the sorted values, so each gene costs two linear scans. The deviation is summed
    around the mean, so constant genes give 0, not the rounding noise of a difference of two sums.

    Parameters
    ----------
    indptr, values
        The matrix.
    genes
        int64 ``(k,)``, positions.
    n_cells
        Number of cells, stored or not.
    """
    _check(indptr, values, genes, n_cells)
    out = np.empty((len(genes), 4))
    _statistics(
        address(indptr, np.int64), address(values, np.float32), address(genes, np.int64), len(genes), n_cells,
        address(out, np.float64, writable=True),
    )  # fmt: skip
    return ExpressionStatistics(*np.ascontiguousarray(out.T))


class RowTexts:
    """Genes as JSON text: columns of a matrix in which every cell has a row of its own, by ascending row.

    Parameters
    ----------
    indptr, cells, values
        The matrix.
    genes
        int64 ``(k,)``, positions.
    row_of_cell
        int32 ``(n_cells,)``, different for every cell, below `n_rows`.
    n_rows
        Number of rows; a row without a cell stays empty.

    Raises
    ------
    ValueError
        If they do not fit each other, or a gene has `MAX_VALUES` or more.
    """

    MAX_VALUES = (1 << 27) // 7
    """19 million: gene_text.c holds the places of a gene's texts in 32 bits."""

    def __init__(  # noqa: PLR0917 the parts of one matrix, then what is asked
        self,
        indptr: NDArray[np.int64],
        cells: NDArray[np.int32],
        values: NDArray[np.float32],
        genes: NDArray[np.int64],
        row_of_cell: NDArray[np.int32],
        n_rows: int,
    ) -> None:
        longest = int(_check_matrix(indptr, cells, values, genes, len(row_of_cell)).max(initial=0))
        if len(row_of_cell) and not (row_of_cell.min() >= 0 and row_of_cell.max() < n_rows):
            raise ValueError("row_of_cell holds rows that do not exist")
        if longest >= self.MAX_VALUES:
            message = f"a gene has {longest} values, but no more than {self.MAX_VALUES - 1} become text"
            raise ValueError(message)
        self._parts = [
            (cells[start:end], values[start:end])
            for start, end in zip(indptr[genes].tolist(), indptr[genes + 1].tolist(), strict=True)
        ]
        self._row_of_cell, self._n_rows = row_of_cell, n_rows
        self._marks = np.zeros((n_rows + 63) // 64, np.uint64)
        # One gene's text at a time: its pages are touched once and stay in the cache.
        self._scratch = np.empty(longest * _TEXT_BYTES + _SLACK, np.uint8)
        self._places = np.empty(n_rows, np.uint32)
        self._text = np.empty(longest * max(_VALUE_BYTES, _ROW_BYTES) + _SLACK, np.uint8)

    def write_values(self, out: BinaryIO) -> NDArray[np.int64]:
        """Write the array of values, and return where each gene's begin, int64 ``(k + 1,)``.

        Numbers as `cellworker.analysis.text.number_text.floats_json` writes them.

        Raises
        ------
        ValueError
            If the matrix names a cell that does not exist.
        """
        counts = np.zeros(len(self._parts) + 1, np.int64)
        scratch = (
            address(self._scratch, np.uint8, writable=True), address(self._places, np.uint32, writable=True),
            address(self._marks, np.uint64, writable=True),
        )  # fmt: skip

        def write(number: int, cells: NDArray[np.int32], values: NDArray[np.float32]) -> int:
            count = address(counts[number + 1 :], np.int64, writable=True)
            return int(
                _values_json(
                    address(cells, np.int32), address(values, np.float32), len(cells), *self._rows(), *scratch, count,
                    address(self._text, np.uint8, writable=True), _WIDEST,
                )
            )  # fmt: skip

        self._write(out, write)
        return np.cumsum(counts)

    def write_rows(self, out: BinaryIO) -> None:
        """Write the array of the rows that have the values. Errors as `write_values`."""

        def write(_number: int, cells: NDArray[np.int32], _values: NDArray[np.float32]) -> int:
            return int(
                _rows_json(
                    address(cells, np.int32), len(cells), *self._rows(),
                    address(self._marks, np.uint64, writable=True), address(self._text, np.uint8, writable=True),
                )
            )  # fmt: skip

        self._write(out, write)

    def _rows(self) -> tuple[int, int, int]:
        return address(self._row_of_cell, np.int32), len(self._row_of_cell), self._n_rows

    def _write(self, out: BinaryIO, write: Callable[[int, NDArray[np.int32], NDArray[np.float32]], int]) -> None:
        before = b"["
        for number, (cells, values) in enumerate(self._parts):
            length = write(number, cells, values)
            _raise_for(length < 0)
            if length:
                out.write(before)
                out.write(self._text[: length - 1].data)
                before = b","
        out.write(b"]" if before == b"," else b"[]")


def gather_picked(  # noqa: PLR0917 the parts of one matrix, then what is asked
    indptr: NDArray[np.int64],
    cells: NDArray[np.int32],
    values: NDArray[np.float32],
    genes: NDArray[np.int64],
    picked: NDArray[np.int32],
    n_cells: int,
) -> Columns:
    """Return genes as columns of a matrix with one row for each picked cell.

    Parameters
    ----------
    indptr, cells, values
        The matrix.
    genes
        int64 ``(k,)``, positions.
    picked
        int32 ``(n_rows,)``: the cell of each row, -1 for an empty row; a cell may occur more than once.
    n_cells
        Number of cells of the matrix.
    """
    sizes = _check_matrix(indptr, cells, values, genes, n_cells)
    if len(picked) and not (picked.min() >= -1 and picked.max() < n_cells):
        raise ValueError("picked holds cells that do not exist")
    repeats = int(np.bincount(picked[picked >= 0]).max()) if (picked >= 0).any() else 0
    capacity = int(np.minimum(sizes * repeats, len(picked)).sum())
    out = Columns(np.empty(len(genes) + 1, np.int64), np.empty(capacity, np.int32), np.empty(capacity, np.float32))
    dense, marks = np.empty(n_cells, np.float32), np.zeros((n_cells + 63) // 64, np.uint64)
    status = _picked(
        address(indptr, np.int64), address(cells, np.int32), address(values, np.float32),
        address(genes, np.int64), len(genes),
        address(picked, np.int32), len(picked), n_cells, address(dense, np.float32), address(marks, np.uint64),
        address(out.ptr, np.int64), address(out.rows, np.int32), address(out.values, np.float32),
    )  # fmt: skip
    _raise_for(status)
    used = int(out.ptr[-1])
    return Columns(out.ptr, out.rows[:used], out.values[:used])


def _check(
    indptr: NDArray[np.int64], values: NDArray[np.float32], genes: NDArray[np.int64], n_cells: int
) -> NDArray[np.int64]:
    """Check what the kernels rely on and return the number of stored values of each gene."""
    if len(genes) and not (genes.min() >= 0 and genes.max() < len(indptr) - 1):
        raise ValueError("genes holds positions that do not exist")
    starts, ends = indptr[genes], indptr[genes + 1]
    sizes = np.asarray(ends - starts, np.int64)
    if len(genes) and not (
        starts.min() >= 0 and ends.max() <= len(values) and sizes.min() >= 0 and sizes.max() <= n_cells
    ):
        raise ValueError("indptr is damaged")
    return sizes


def _check_matrix(
    indptr: NDArray[np.int64],
    cells: NDArray[np.int32],
    values: NDArray[np.float32],
    genes: NDArray[np.int64],
    n_cells: int,
) -> NDArray[np.int64]:
    if len(cells) != len(values):
        raise ValueError("cells and values differ in length")
    return _check(indptr, values, genes, n_cells)


def _raise_for(status: int) -> None:
    if status:
        raise ValueError("the matrix names cells that do not exist")
