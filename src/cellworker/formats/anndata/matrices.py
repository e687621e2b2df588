"""The matrices of an AnnData file, sparse and dense, in every encoding from 0.7 to 0.12.

Index arrays of sparse matrices are checked here, since what follows relies on them.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cellworker.errors import WorkerError
from cellworker.experiment.draft import SparseDraft
from cellworker.formats.anndata.containers.growing import Growing
from cellworker.formats.anndata.containers.memory import MemoryMatrix
from cellworker.formats.anndata.containers.tree import Array, Mapped, Node, TreeGroup, damaged, row_pieces
from cellworker.formats.anndata.elements import is_array, is_group
from cellworker.formats.anndata.turning import CompressedColumns, checked_indices, turned
from cellworker.formats.common.matrices.exact_values import ExactValues, exact_dtype, single
from cellworker.formats.common.matrices.sparse import blocks
from cellworker.formats.common.scratch import Scratch, fill

__all__ = ["UnreadMatrix", "bounds_of", "matrix_of", "nonzeros_of", "values_of"]

_MAX_INT32 = 2**31 - 1


@dataclass(frozen=True, slots=True)
class UnreadMatrix:
    """A matrix of cells and genes on disk, dense or sparse, unread.

    Attributes
    ----------
    form
        "csr", "csc" or "dense".
    """

    path: str
    form: Literal["csr", "csc", "dense"]
    shape: tuple[int, int]
    node: Node

    def read(
        self,
        scratch: Scratch,
        progress: Callable[[float], None],
        others: "Collection[tuple[UnreadMatrix, SparseDraft]]" = (),
    ) -> SparseDraft:
        """Read it cell after cell; large arrays go to spool files.

        Parameters
        ----------
        others
            Matrices that were read before: one that has its values at the same places lends its index arrays.

        Raises
        ------
        WorkerError
            ``EXPERIMENT_UNREADABLE`` when its parts contradict each other.
        """
        if self.form == "dense":
            assert is_array(self.node)
            return nonzeros_of(self.node, scratch, progress)
        assert is_group(self.node)
        if isinstance(self.node, MemoryMatrix):
            return self.node.draft
        if self.form == "csr":
            return _compressed_rows(self.node, self.shape, scratch, progress, [draft for _, draft in others])
        columns = self.compressed_columns()
        if not columns.is_exact():
            wide = _compressed_rows(self.node, (self.shape[1], self.shape[0]), scratch, progress, [])
            return turned(wide, scratch)
        alike = ((other, draft) for other, draft in others if other.form == "csc" and other.is_on_disk)
        same = (draft for other, draft in alike if columns.same_places(other.compressed_columns()))
        return columns.read(scratch, progress, next(same, None))

    @property
    def is_on_disk(self) -> bool:
        """Whether its parts are arrays of a file, and not made in memory."""
        return not isinstance(self.node, MemoryMatrix)

    def compressed_columns(self) -> CompressedColumns:
        """Return the parts of a matrix of compressed columns that is on disk.

        Raises
        ------
        WorkerError
            ``EXPERIMENT_UNREADABLE`` when they contradict each other.
        """
        assert is_group(self.node)
        pointers = bounds_of(self.node, self.shape[1])
        indices, data = _entries_of(self.node)
        return CompressedColumns(self.node.path, pointers, indices, data, self.shape[0])

    @property
    def is_mapped(self) -> bool:
        """Whether its values stay in the file; the index arrays are always copied, since memory depends on them."""
        return self.form == "csr" and is_group(self.node) and _mapped(values_of(self.node, "data")) is not None

    def dense(self, scratch: Scratch) -> NDArray[np.float32]:
        """Read every value of a dense matrix, float32."""
        assert is_array(self.node)
        out: NDArray[np.float32] = scratch.empty(self.shape, np.float32)
        for start, piece in row_pieces(self.node):
            out[start : start + len(piece)] = single(piece)
        return out


def matrix_of(node: Node | None) -> UnreadMatrix | None:  # noqa: PLR0911 - one for each form
    """Look at a matrix without reading it; None when it is none that is known."""
    if is_array(node):
        if len(node.shape) != 2 or node.dtype is None or node.dtype.kind not in "biuf":
            return None
        return UnreadMatrix(node.path, "dense", (node.shape[0], node.shape[1]), node)
    if not is_group(node):
        return None
    kind = str(node.attrs.get("encoding-type", "") or node.attrs.get("h5sparse_format", ""))
    shape = node.attrs.get("shape", None) or node.attrs.get("h5sparse_shape", None)
    if not isinstance(shape, list) or len(shape) != 2 or not all(type(length) is int for length in shape):
        return None
    size = int(shape[0]), int(shape[1])
    if min(size) < 0 or max(size) > _MAX_INT32:
        return None
    if kind in {"csr_matrix", "csr"}:
        return UnreadMatrix(node.path, "csr", size, node)
    return UnreadMatrix(node.path, "csc", size, node) if kind in {"csc_matrix", "csc"} else None


def values_of(group: TreeGroup, name: str) -> Array:
    """Return one of the arrays of a sparse matrix, unread."""
    node = group.get(name)
    if not is_array(node) or len(node.shape) != 1 or node.dtype is None or node.dtype.kind not in "biuf":
        raise damaged(path=f"{group.path}/{name}", what="expected a list of numbers")
    return node


def _entries_of(group: TreeGroup) -> tuple[Array, Array]:
    """Return the indices and the values of a sparse matrix, unread, which are as many."""
    indices, data = values_of(group, "indices"), values_of(group, "data")
    if indices.shape[0] != data.shape[0]:
        raise _undivided(group)
    return indices, data


def _compressed_rows(
    group: TreeGroup,
    shape: tuple[int, int],
    scratch: Scratch,
    progress: Callable[[float], None],
    others: Collection[SparseDraft],
) -> SparseDraft:
    n_major, n_minor = shape
    read = bounds_of(group, n_major)
    pointers = next((other.indptr for other in others if np.array_equal(other.indptr, read)), read)
    indices, data = _entries_of(group)
    nnz = indices.shape[0]
    minor = _Indices(nnz, [other.columns for other in others if other.indptr is pointers], scratch)
    for start, block in indices.blocks():
        minor.put(start, checked_indices(block, n_minor, group.path))
        progress(0.5 * (start + len(block)) / nnz)
    mapped = _mapped(data)
    if mapped is not None:
        return SparseDraft(pointers, minor.finish(), mapped, n_minor)
    values = ExactValues(nnz, scratch)
    for start, block in data.blocks():
        values.put(slice(start, start + len(block)), block)
        progress(0.5 + 0.5 * (start + len(block)) / nnz)
    return SparseDraft(pointers, minor.finish(), values.values, n_minor)


def _mapped(data: Array) -> NDArray[np.float32] | None:
    """Return the values of a sparse matrix where they lie in the file, None where they must be read."""
    found = data.mapped() if isinstance(data, Mapped) else None
    return found if found is not None and found.dtype == np.float32 else None


class _Indices:
    """The index array of a matrix on its way in: another's as long as both are the same, a copy from there on."""

    def __init__(self, length: int, others: list[NDArray[np.int32]], scratch: Scratch) -> None:
        self._length, self._scratch = length, scratch
        self._same = others
        self._own: NDArray[np.int32] | None = None if others else scratch.empty((length,), np.int32)

    def put(self, start: int, block: NDArray[Any]) -> None:
        """Take the next piece."""
        stop = start + len(block)
        if self._own is None:
            before = self._same[0]
            self._same = [other for other in self._same if np.array_equal(other[start:stop], block)]
            if self._same:
                return
            self._own = self._scratch.empty((self._length,), np.int32)
            for begin, end in blocks(start):
                fill(self._own, begin, before[begin:end])
        fill(self._own, start, block)

    def finish(self) -> NDArray[np.int32]:
        """Return the whole."""
        return self._same[0] if self._own is None else self._own


def bounds_of(group: TreeGroup, n_major: int) -> NDArray[np.int64]:
    """Read where the rows of a sparse matrix (or its columns) begin and end among its values.

    Raises
    ------
    WorkerError
        ``EXPERIMENT_UNREADABLE`` when they do not divide them.
    """
    pointers = values_of(group, "indptr").read().astype(np.int64, copy=False)
    sound = len(pointers) == n_major + 1 and pointers[0] == 0 and pointers[-1] == values_of(group, "data").shape[0]
    if not sound or np.any(pointers[1:] < pointers[:-1]):
        raise _undivided(group)
    return pointers


def _undivided(group: TreeGroup) -> WorkerError:
    return damaged(group.path, "its row bounds (indptr) do not divide its values")


def nonzeros_of(node: Array, scratch: Scratch, progress: Callable[[float], None] = lambda _: None) -> SparseDraft:
    """Read a dense matrix some rows at a time, and keep what is not 0; float32 where that holds every value."""
    if node.shape[1] > _MAX_INT32:
        raise damaged(node.path, "more columns than a matrix of genes can have")
    found = _nonzeros_as(np.dtype(np.float32), node, scratch, progress)
    while isinstance(found, np.dtype):
        found = _nonzeros_as(found, node, scratch, progress)
    return found


def _nonzeros_as(
    dtype: np.dtype[Any], node: Array, scratch: Scratch, progress: Callable[[float], None]
) -> SparseDraft | np.dtype[Any]:
    """Keep what is not 0; returns a wider type instead where the values need it."""
    n_cells, n_genes = node.shape
    indptr = np.zeros(n_cells + 1, np.int64)
    genes, kept = Growing(np.int32, scratch), Growing(dtype, scratch)
    for start, read in row_pieces(node):
        block, end = read, start + len(read)
        narrow = dtype == np.float32
        if narrow and (wanted := exact_dtype(block.ravel())) != np.float32:
            return wanted
        block = single(block) if narrow else block
        rows, columns = np.nonzero(block)
        indptr[start + 1 : end + 1] = np.bincount(rows, minlength=end - start)
        genes.append(columns)
        kept.append(block[rows, columns])
        progress(end / n_cells)
    np.cumsum(indptr, out=indptr)
    return SparseDraft(indptr, genes.finish(), kept.finish(), n_genes)
