"""Puts entries of a matrix, in any order, in order of cells."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellworker.experiment.draft import SparseDraft
from cellworker.formats.common.matrices.sparse import blocks
from cellworker.formats.common.scratch import Scratch
from cellworker.native import address, kernel

__all__ = ["by_cell"]


def by_cell(
    cells: NDArray[np.int32], genes: NDArray[np.int32], values: NDArray[Any], shape: tuple[int, int], scratch: Scratch
) -> SparseDraft:
    """Lay entries in any order out cell after cell; within a cell they keep their order.

    Parameters
    ----------
    cells, genes
        int32 ``(nnz,)``, inside `shape`.
    values
        ``(nnz,)``.
    """
    n_cells, n_genes = shape
    lengths = np.zeros(n_cells, np.int64)
    ordered, last = True, -1
    for start, end in blocks(len(cells)):
        block = np.asarray(cells[start:end])
        lengths += np.bincount(block, minlength=n_cells)
        ordered = ordered and bool(block[0] >= last) and not np.any(block[1:] < block[:-1])
        last = int(block[-1])
    indptr = np.zeros(n_cells + 1, np.int64)
    np.cumsum(lengths, out=indptr[1:])
    if ordered:
        return SparseDraft(indptr, genes, values, n_genes)
    if values.dtype != np.float32:
        order = np.argsort(cells, kind="stable")
        return SparseDraft(indptr, np.asarray(genes)[order], np.asarray(values)[order], n_genes)
    columns, out = scratch.empty(genes.shape, np.int32), scratch.empty(genes.shape, np.float32)
    filled = indptr[:-1].copy()
    for start, end in blocks(len(cells)):
        kernel("cw_lay_entries")(
            address(np.ascontiguousarray(cells[start:end]), np.int32),
            address(np.ascontiguousarray(genes[start:end]), np.int32),
            address(np.ascontiguousarray(values[start:end]), np.float32), end - start,
            address(filled, np.int64, writable=True), address(columns, np.int32, writable=True),
            address(out, np.float32, writable=True),
        )  # fmt: skip
    return SparseDraft(indptr, columns, out, n_genes)
