"""Scans a matrix of the file without keeping it: some of its cells, or all of them, piece by piece.

Pieces hold whole cells, whose sums say most about a matrix; the genes of the values are left out.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from cellworker.experiment.draft import SparseDraft
from cellworker.experiment.store.blocks import cut
from cellworker.formats.anndata.containers.tree import Array, row_pieces
from cellworker.formats.anndata.elements import is_array, is_group
from cellworker.formats.anndata.matrices import UnreadMatrix, bounds_of, values_of
from cellworker.formats.common.matrices.exact_values import single
from cellworker.formats.common.matrices.value_evidence import Evidence, Pieces
from cellworker.formats.common.scratch import Scratch

__all__ = ["count_of", "pieces_of", "sample_of"]

_BLOCK = 1 << 20
_SAMPLE = 1 << 19
_SURE = 0.5
"""Safety factor on a sample's figures, since cells differ."""
_NO_COLUMNS = np.zeros(0, np.int32)


def pieces_of(matrix: UnreadMatrix, scratch: Scratch) -> Pieces:
    """Return the whole matrix for a scan.

    A matrix of compressed columns is read and turned first, which takes disk space in `scratch`; others take none.

    Raises
    ------
    WorkerError
        ``EXPERIMENT_UNREADABLE`` when its parts contradict each other.
    """
    if matrix.form == "csc":
        return Pieces.of(matrix.read(scratch, lambda _: None))
    node = matrix.node
    if is_array(node):
        return Pieces(matrix.shape[0], lambda: _of_dense(node, [(0, matrix.shape[0])]))
    assert is_group(node)
    values, pointers = values_of(node, "data"), bounds_of(node, matrix.shape[0])
    return Pieces(matrix.shape[0], lambda: (_of_rows(values, pointers, rows) for rows in cut(pointers, _BLOCK)))


def sample_of(matrix: UnreadMatrix) -> tuple[SparseDraft, bool]:
    """Return some of a matrix's cells, from its beginning and from its middle, and whether these are all.

    Of a large matrix of compressed columns, whose cells are scattered, all values that were looked at come as one cell.
    """
    node, n_rows = matrix.node, matrix.shape[0]
    if is_array(node):
        rows = max(1, _SAMPLE // max(1, matrix.shape[1]))
        parts = [(0, n_rows)] if n_rows <= 2 * rows else [(0, rows), (n_rows // 2, n_rows // 2 + rows)]
        return _joined(list(_of_dense(node, parts))), len(parts) == 1
    assert is_group(node)
    values = values_of(node, "data")
    pointers = values_of(node, "indptr").read().astype(np.int64)
    if matrix.form == "csr" and len(pointers) > 1 and not np.any(np.diff(pointers, append=values.shape[0]) < 0):
        parts = _some_rows(pointers)
        return _joined([_of_rows(values, pointers, rows) for rows in parts]), len(parts) == 1
    if matrix.form == "csc" and values.shape[0] <= 2 * _SAMPLE:
        return matrix.read(Scratch(), lambda _: None), True
    middle = values.shape[0] // 2
    found = single(np.concatenate([values.read(at, min(at + _SAMPLE, values.shape[0])) for at in (0, middle)]))
    return SparseDraft(np.array([0, len(found)]), _NO_COLUMNS, found, matrix.shape[1]), False


def count_of(matrix: UnreadMatrix, evidence: Evidence) -> int:
    """Return how many values reading a matrix keeps: a sparse one's exactly, of a dense one at least about so many.

    Parameters
    ----------
    evidence
        What `sample_of` the matrix says.
    """
    node, n_rows = matrix.node, matrix.shape[0]
    if is_group(node):
        return values_of(node, "data").shape[0]
    if evidence.complete:
        return evidence.nonzero
    looked_at = min(n_rows, 2 * max(1, _SAMPLE // max(1, matrix.shape[1])))
    return int(_SURE * evidence.nonzero / looked_at * n_rows)


def _some_rows(pointers: NDArray[np.int64]) -> list[tuple[int, int]]:
    n_rows = len(pointers) - 1
    if pointers[-1] - pointers[0] <= 2 * _SAMPLE:
        return [(0, n_rows)]
    starts = (0, int(np.searchsorted(pointers, pointers[-1] // 2)))
    ends = [int(np.searchsorted(pointers, pointers[at] + _SAMPLE, "right")) - 1 for at in starts]
    return [(at, max(at + 1, min(end, n_rows))) for at, end in zip(starts, ends, strict=True) if at < n_rows]


def _of_rows(values: Array, pointers: NDArray[np.int64], rows: tuple[int, int]) -> SparseDraft:
    bounds = pointers[rows[0] : rows[1] + 1]
    found = single(values.read(int(bounds[0]), int(bounds[-1])))
    return SparseDraft(bounds - bounds[0], _NO_COLUMNS, found, 0)


def _of_dense(node: Array, parts: list[tuple[int, int]]) -> Iterator[SparseDraft]:
    width = node.shape[1]
    for first, last in parts:
        for _, piece in row_pieces(node, first, last):
            found = single(piece)
            yield SparseDraft(np.arange(len(found) + 1, dtype=np.int64) * width, _NO_COLUMNS, found.ravel(), width)


def _joined(pieces: list[SparseDraft]) -> SparseDraft:
    ends = np.cumsum([0, *(len(piece.values) for piece in pieces)])
    bounds = [piece.indptr[1:] + end for piece, end in zip(pieces, ends, strict=False)]
    values = np.concatenate([np.zeros(0, np.float32), *(piece.values for piece in pieces)])
    return SparseDraft(np.concatenate([np.zeros(1, np.int64), *bounds]), _NO_COLUMNS, values, 0)
