"""Sums raw counts over groups of cells, from the cell-major side, so it reads only the chosen cells."""

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellworker.analysis.matrices.levels import ToldValues
from cellworker.analysis.matrices.sorting import column_address
from cellworker.native import address, kernel

__all__ = ["add_group_sums", "count_sums", "group_sums", "parts_of_rows"]

CompressedRows = tuple[NDArray[np.integer[Any]], NDArray[np.integer[Any]], NDArray[Any]]
_KERNELS = {
    "uint8": "cw_group_sums_u8",
    "uint16": "cw_group_sums_u16",
    "uint32": "cw_group_sums_u32",
    "float32": "cw_group_sums_f32",
    "float64": "cw_group_sums_f64",
    "int64": "cw_group_sums_i64",
}
_COUNTED = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float32", "float64")
"""The types of `cw_count_sums`, in its order."""
_BY_32, _BY_64, _DENSE = 0, 1, 2
_PARTS = 4  # for any number of threads: sums of fractional counts must not depend on it
_WORTH = 1 << 12  # cells
_ROWS_AT_ONCE = 1 << 11  # values looked up at a time


def group_sums(
    indptr: NDArray[np.int64],
    genes: NDArray[np.int32] | NDArray[np.uint16],
    values: NDArray[Any] | ToldValues,
    rows: NDArray[np.integer[Any]],
    group: NDArray[np.integer[Any]],
    *,
    n_groups: int,
    n_genes: int,
    threads: int = 1,
) -> NDArray[np.float64]:
    """Sum the counts of each group of cells.

    Parameters
    ----------
    indptr, genes, values
        Cell-major counts: int64 ``(n_cells + 1,)``, int32 or uint16 ``(nnz,)``, and
        uint8/uint16/uint32/int64/float32/float64 or `ToldValues` ``(nnz,)``.
    rows
        The cells to sum, row numbers ``(k,)``.
    group
        Group of each of them, 0 to `n_groups` - 1, ``(k,)``.
    n_groups, n_genes
        Shape of the result.
    threads
        Threads to use; the result does not depend on it.

    Returns
    -------
    numpy.ndarray
        float64 ``(n_groups, n_genes)``.

    Raises
    ------
    IndexError
        If a row, a group or a gene is out of range.
    """
    rows, group = np.ascontiguousarray(rows, np.int64), np.ascontiguousarray(group, np.int32)
    if len(group) != len(rows):
        raise IndexError("arrays of different lengths")
    cuts = parts_of_rows(len(rows))

    def part(chosen: slice) -> NDArray[np.float64]:
        return add_group_sums(np.zeros((n_groups, n_genes)), (indptr, genes, values), rows[chosen], group[chosen])

    total = np.zeros((n_groups, n_genes))
    with ThreadPoolExecutor(min(max(1, threads), len(cuts) - 1)) as pool:
        for piece in pool.map(part, [slice(a, b) for a, b in pairwise(cuts)]):
            total += piece
    return total


def count_sums(
    matrix: CompressedRows | NDArray[Any],
    group: NDArray[np.integer[Any]],
    *,
    n_groups: int,
    n_genes: int,
    threads: int = 1,
) -> NDArray[np.float64] | None:
    """Sum the counts of each group of cells, and check in the same pass that all stored values are counts.

    Parameters
    ----------
    matrix
        Untrusted cells x genes of any numeric type: bounds ``(n_cells + 1,)``, genes ``(nnz,)`` in any order, repeated
        or not, and values ``(nnz,)``; or dense ``(n_cells, n_genes)``.
    group
        Group of each cell, 0 to `n_groups` - 1, or below 0 for a cell that is checked and not summed, ``(n_cells,)``.
    n_groups, n_genes
        Shape of the result.
    threads
        Threads to use; the result does not depend on it.

    Returns
    -------
    numpy.ndarray or None
        float64 ``(n_groups, n_genes)``, the bits of `group_sums`. None where the matrix is damaged, is of another type
        or layout, or holds a value that may be no whole number from 0: the caller finds out which.

    Raises
    ------
    IndexError
        If a group is out of range, or there is not one for each cell.
    """
    group = np.require(group, np.int32, ["C", "A"])
    if isinstance(matrix, tuple):
        bounds, genes, values = matrix
        layout = {"int32": _BY_32, "int64": _BY_64}.get(genes.dtype.name)
        bounds = np.require(bounds, np.int64, ["C", "A"])
        n_cells, fits = len(bounds) - 1, len(genes) == len(values) and n_genes <= np.iinfo(np.int32).max
    else:
        bounds, genes, values, layout = np.zeros(1, np.int64), np.zeros(0, np.int32), matrix, _DENSE
        n_cells, fits = len(values), values.ndim == 2 and values.shape[1] == n_genes
    if len(group) != n_cells or (n_cells and int(group.max()) >= n_groups):
        raise IndexError("group out of range, or not one for each cell")
    native = all(one.dtype.isnative and one.flags.c_contiguous and one.flags.aligned for one in (genes, values))
    if not fits or layout is None or not native or values.dtype.name not in _COUNTED:
        return None
    run = kernel("cw_count_sums")
    fixed = (
        _COUNTED.index(values.dtype.name), layout, address(bounds, np.int64), address(genes, genes.dtype),
        address(values, values.dtype), values.size,
    )  # fmt: skip

    def part(first: int, last: int) -> NDArray[np.float64] | None:
        sums = np.zeros((n_groups, n_genes))
        odd = run(*fixed, first, last, address(group, np.int32), n_genes, address(sums, np.float64, writable=True))
        return None if odd else sums

    # The parts of `group_sums`, each with the cells before its first one that are checked alone.
    rows = np.flatnonzero(group >= 0)
    cuts = [0, *rows[parts_of_rows(len(rows))[1:-1]].tolist(), n_cells]
    total = np.zeros((n_groups, n_genes))
    with ThreadPoolExecutor(min(max(1, threads), len(cuts) - 1)) as pool:
        for piece in pool.map(part, cuts[:-1], cuts[1:]):
            if piece is None:
                return None
            total += piece
    return total


def parts_of_rows(n_rows: int) -> list[int]:
    """Return the starts of the parts of rows whose sums are added, and the number of rows.

    The sum of fractional values depends on its order. A program that adds each part row by row, and then adds the
    parts, gets the same bits as `group_sums`.
    """
    parts = _PARTS if n_rows >= _WORTH else 1
    return [n_rows * i // parts for i in range(parts + 1)]


def add_group_sums(
    sums: NDArray[np.float64],
    counts: tuple[NDArray[np.int64], NDArray[np.int32] | NDArray[np.uint16], NDArray[Any] | ToldValues],
    rows: NDArray[np.integer[Any]],
    group: NDArray[np.integer[Any]],
) -> NDArray[np.float64]:
    """Add rows, one after another, to the sums of their groups.

    Parameters
    ----------
    sums
        float64 ``(n_groups, n_genes)``; changed in place.
    counts, rows, group
        As for `group_sums`.

    Returns
    -------
    numpy.ndarray
        `sums`.

    Raises
    ------
    IndexError
        If a row, a group or a gene is out of range.
    """
    indptr, genes, values = counts
    rows, group = np.require(rows, np.int64, ["C", "A"]), np.require(group, np.int32, ["C", "A"])
    if len(group) != len(rows) or len(genes) != len(values):
        raise IndexError("arrays of different lengths")
    if len(rows):
        if rows.min() < 0 or rows.max() >= len(indptr) - 1 or group.min() < 0 or group.max() >= len(sums):
            raise IndexError("row or group out of range")
        if indptr[rows].min() < 0 or indptr[rows + 1].max() > len(genes):
            raise IndexError("the offsets of the cells do not fit the stored values")
    if isinstance(values, ToldValues):
        return _add_told(sums, (indptr, genes, values), rows, group)
    run = kernel(_KERNELS[values.dtype.name])
    if run(
        address(indptr, np.int64), *column_address(genes),
        address(values, values.dtype), address(rows, np.int64), len(rows), address(group, np.int32), sums.shape[1],
        address(sums, np.float64, writable=True),
    ):  # fmt: skip
        raise IndexError("the counts hold genes beyond the last one")
    return sums


def _add_told(
    sums: NDArray[np.float64],
    matrix: tuple[NDArray[np.int64], NDArray[np.int32] | NDArray[np.uint16], ToldValues],
    rows: NDArray[np.integer[Any]],
    group: NDArray[np.integer[Any]],
) -> NDArray[np.float64]:
    """Add rows whose values are looked up first, for all rows between the first and the last at once."""
    indptr, genes, values = matrix
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        some = rows[start : start + _ROWS_AT_ONCE]
        low, high = int(some.min()), int(some.max()) + 1
        bounds = indptr[low : high + 1]
        part = slice(int(bounds[0]), int(bounds[-1]))
        add_group_sums(
            sums, (bounds - bounds[0], genes[part], values[part]), some - low, group[start : start + _ROWS_AT_ONCE]
        )
    return sums
