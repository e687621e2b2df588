"""Expression of single genes from a sparse matrix stored gene after gene, each gene's values in ascending order.

The matrix is three arrays: `indptr` int64 ``(n_genes + 1,)``, `cells` int32 ``(nnz,)`` and `values` float32 ``(nnz,)``,
ascending within a gene, NaN last, no stored zeros.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cellworker.native import address, kernel

__all__ = ["Columns", "ExpressionStatistics", "gather_picked", "gather_rows", "gene_statistics"]

_statistics = kernel("cw_gene_statistics")
_rows = kernel("cw_gather_rows")
_picked = kernel("cw_gather_picked")


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


def _gather(
    run: Callable[..., int],
    matrix: tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]],
    genes: NDArray[np.int64],
    places: NDArray[np.int32],
    *,
    n_dense: int,
    capacity: int,
) -> Columns:
    """Call one of the two kernels; both spread a gene over `n_dense` slots before they read it in order."""
    indptr, cells, values = matrix
    out = Columns(np.empty(len(genes) + 1, np.int64), np.empty(capacity, np.int32), np.empty(capacity, np.float32))
    dense, marks = np.empty(n_dense, np.float32), np.zeros((n_dense + 63) // 64, np.uint64)
    status = run(
        address(indptr, np.int64), address(cells, np.int32), address(values, np.float32),
        address(genes, np.int64), len(genes),
        address(places, np.int32), len(places), n_dense, address(dense, np.float32), address(marks, np.uint64),
        address(out.ptr, np.int64), address(out.rows, np.int32), address(out.values, np.float32),
    )  # fmt: skip
    _raise_for(status)
    return out


def gather_rows(  # noqa: PLR0917 the parts of one matrix, then what is asked
    indptr: NDArray[np.int64],
    cells: NDArray[np.int32],
    values: NDArray[np.float32],
    genes: NDArray[np.int64],
    row_of_cell: NDArray[np.int32],
    n_rows: int,
) -> Columns:
    """Return genes as columns of a matrix in which every cell has a row of its own.

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
    """
    sizes = _check_matrix(indptr, cells, values, genes, len(row_of_cell))
    if len(row_of_cell) and not (row_of_cell.min() >= 0 and row_of_cell.max() < n_rows):
        raise ValueError("row_of_cell holds rows that do not exist")
    total = int(sizes.sum())
    return _gather(_rows, (indptr, cells, values), genes, row_of_cell, n_dense=n_rows, capacity=total)


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
    out = _gather(_picked, (indptr, cells, values), genes, picked, n_dense=n_cells, capacity=capacity)
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
