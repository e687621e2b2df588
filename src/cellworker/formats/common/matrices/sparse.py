"""Sparse matrices in blocks of cells: cut, checked, transposed, joined."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.draft import SparseDraft
from cellworker.formats.common.findings import Findings
from cellworker.formats.common.scratch import Scratch

__all__ = ["assemble", "blocks", "check_bounds", "require_columns", "require_rows", "same_matrix", "transpose"]

_BLOCK = 1 << 22


def blocks(length: int, size: int = _BLOCK) -> Iterator[tuple[int, int]]:
    """Cut ``range(length)`` into pieces of at most `size`."""
    for start in range(0, length, size):
        yield start, min(start + size, length)


def require_rows(indptr: NDArray[np.int64], size: int) -> None:
    """Refuse rows that are outside a matrix's `size` entries, before a kernel follows them.

    Raises
    ------
    WorkerError
        ``EXPERIMENT_UNREADABLE``.
    """
    if len(indptr) and (int(indptr[0]) < 0 or int(indptr[-1]) > size or bool(np.any(indptr[1:] < indptr[:-1]))):
        raise _outside("rows lie outside the matrix's entries")


def require_columns(columns: NDArray[np.int32], n_columns: int) -> None:
    """Refuse columns outside ``0 .. n_columns - 1``, before a kernel follows them.

    Raises
    ------
    WorkerError
        ``EXPERIMENT_UNREADABLE``.
    """
    if len(columns) and (int(columns.min()) < 0 or int(columns.max()) >= n_columns):
        msg = f"a row names a column outside 0 to {n_columns - 1}"
        raise _outside(msg)


def _outside(what: str) -> WorkerError:
    message = f"A matrix is damaged: {what}. Copy the file here again, or save it again."
    return WorkerError(ErrorCode.EXPERIMENT_UNREADABLE, message)


def check_bounds(indices: NDArray[np.int32], n: int, field: str, findings: Findings) -> None:
    """Refuse indices outside ``0 .. n - 1``."""
    for start, end in blocks(len(indices)):
        block = indices[start:end]
        low, high = int(block.min()), int(block.max())
        if low < 0 or high >= n:
            bad = low if low < 0 else high
            advice = "the file is damaged; save the object again"
            raise findings.broken(field, found=f"index {bad}", expected=f"0 to {n - 1}", advice=advice)


def transpose(matrix: SparseDraft, field: str, findings: Findings) -> SparseDraft:
    """Turn rows into columns; entries of a row come out ascending."""
    check_bounds(matrix.columns, matrix.n_columns, field, findings)
    n_rows = len(matrix.indptr) - 1
    order = np.argsort(matrix.columns, kind="stable")
    rows = np.repeat(np.arange(n_rows, dtype=np.int32), np.diff(matrix.indptr))[order]
    indptr = np.zeros(matrix.n_columns + 1, np.int64)
    np.cumsum(np.bincount(matrix.columns, minlength=matrix.n_columns), out=indptr[1:])
    return SparseDraft(indptr, rows, np.asarray(matrix.values)[order], n_rows)


def assemble(
    parts: Sequence[tuple[SparseDraft, NDArray[np.int64], NDArray[np.int64] | None]],
    shape: tuple[int, int], field: str, findings: Findings, scratch: Scratch,
) -> SparseDraft:  # fmt: skip
    """Lay matrices of different cells (and perhaps fewer genes) into one.

    Parameters
    ----------
    parts
        Each a matrix, the place of each of its cells in the whole (-1: left out), and the place of each of its genes
        (-1: left out; None: the whole's genes in its order). No cell may come from two parts.
    shape
        Cells and genes of the whole.
    """
    n_cells, n_genes = shape
    lengths = np.zeros(n_cells, np.int64)
    kept = [_kept(matrix, genes, field, findings) for matrix, _, genes in parts]
    for (_, cells, _), row_lengths in zip(parts, kept, strict=True):
        lengths[cells[cells >= 0]] = row_lengths[cells >= 0]
    indptr = np.zeros(n_cells + 1, np.int64)
    np.cumsum(lengths, out=indptr[1:])
    nnz = int(indptr[-1])
    dtype = np.result_type(np.float32, *(matrix.values.dtype for matrix, _, _ in parts))
    if any(matrix.values.dtype == np.int64 for matrix, _, _ in parts):
        dtype = np.dtype(np.int64)  # whole numbers that float64 would round
    out = SparseDraft(indptr, scratch.empty((nnz,), np.int32), scratch.empty((nnz,), dtype), n_genes)
    for matrix, cells, genes in parts:
        _lay(matrix, cells, genes, out)
    return out


def _kept(matrix: SparseDraft, genes: NDArray[np.int64] | None, field: str, findings: Findings) -> NDArray[np.int64]:
    if genes is None:
        return np.diff(matrix.indptr)
    check_bounds(matrix.columns, matrix.n_columns, field, findings)
    running = np.zeros(len(matrix.columns) + 1, np.int64)
    np.cumsum((genes >= 0)[matrix.columns], out=running[1:])
    return np.diff(running[matrix.indptr])


def _lay(matrix: SparseDraft, cells: NDArray[np.int64], genes: NDArray[np.int64] | None, out: SparseDraft) -> None:
    step = max(1, int(_BLOCK // max(1, len(matrix.columns) // max(1, len(cells)))))
    table = None if genes is None else genes.astype(np.int32)
    for start, end in blocks(len(cells), step):
        bounds = matrix.indptr[start : end + 1]
        low, high = int(bounds[0]), int(bounds[-1])
        block, x = np.asarray(matrix.columns[low:high]), np.asarray(matrix.values[low:high])
        places, lengths = cells[start:end], np.diff(bounds)
        keep = np.repeat(places >= 0, lengths)
        if table is not None:
            block = table[block]
            keep &= block >= 0
        if not keep.all():
            running = np.concatenate([[0], np.cumsum(keep)])
            lengths, block, x = np.diff(running[bounds - low]), block[keep], x[keep]
        if table is not None and not _ascending(block, lengths):
            order = np.lexsort((block, np.repeat(np.arange(len(lengths)), lengths)))
            block, x = block[order], x[order]
        where = _places(out.indptr[places], lengths)
        out.columns[where], out.values[where] = block, x


def _ascending(columns: NDArray[np.int32], lengths: NDArray[np.int64]) -> bool:
    """Return whether each row's columns ascend already: most files are written so, and sorting costs most."""
    up = columns[1:] >= columns[:-1]
    ends = np.cumsum(lengths)
    up[ends[(ends > 0) & (ends < len(columns))] - 1] = True
    return bool(up.all())


def _places(begins: NDArray[np.int64], lengths: NDArray[np.int64]) -> slice | NDArray[np.int64]:
    """Return where rows that begin there go: one piece where they follow each other, as most do."""
    begins, lengths = begins[lengths > 0], lengths[lengths > 0]
    if not len(begins):
        return slice(0, 0)
    if np.array_equal(begins[1:], begins[:-1] + lengths[:-1]):
        return slice(int(begins[0]), int(begins[-1] + lengths[-1]))
    ends = np.cumsum(lengths)
    return np.repeat(begins - ends + lengths, lengths) + np.arange(int(ends[-1]))


def same_matrix(a: SparseDraft, b: SparseDraft) -> bool:
    """Return whether two matrices are the same, entry by entry; stops at the first block that differs."""
    if len(a.values) != len(b.values) or not np.array_equal(a.indptr, b.indptr):
        return False
    return all(
        np.array_equal(a.values[s:e], b.values[s:e]) and np.array_equal(a.columns[s:e], b.columns[s:e])
        for s, e in blocks(len(a.values))
    )
