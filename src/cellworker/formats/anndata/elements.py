"""AnnData's on-disk elements, in every encoding from 0.7 to 0.12: columns, tables, sparse and dense matrices.

The encodings are described in AnnData's documentation, "On-disk format". Index arrays of sparse matrices are checked
here, since what follows relies on them.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeGuard

import numpy as np
from numpy.typing import NDArray

from cellworker.errors import WorkerError
from cellworker.experiment.draft import SparseDraft
from cellworker.experiment.model import Categorical, Column
from cellworker.experiment.packed_texts import PackedTexts
from cellworker.formats.anndata.containers.growing import Growing
from cellworker.formats.anndata.containers.memory import MemoryMatrix
from cellworker.formats.anndata.containers.tree import Array, Node, TreeGroup, damaged, row_pieces
from cellworker.formats.common.cells.labels import categorical
from cellworker.formats.common.matrices.exact_values import ExactValues, exact_dtype, single
from cellworker.formats.common.matrices.sparse import blocks
from cellworker.formats.common.scratch import Scratch
from cellworker.native import address, kernel

__all__ = [
    "Table",
    "UnreadMatrix",
    "bounds_of",
    "column",
    "is_array",
    "is_group",
    "matrix_of",
    "members",
    "table_of",
    "text_of",
    "turned",
    "values_of",
]

_MAX_INT32 = 2**31 - 1
_MANY_ROWS = 1 << 16


def is_group(node: Node | None) -> TypeGuard[TreeGroup]:
    """Tell a group from an array."""
    return node is not None and not hasattr(node, "shape")


def is_array(node: Node | None) -> TypeGuard[Array]:
    """Tell an array from a group."""
    return node is not None and hasattr(node, "shape")


def members(node: Node | None) -> Iterator[tuple[str, Node]]:
    """Walk over what is in a group; nothing where there is no group."""
    if is_group(node):
        for name in node.names():
            child = node.get(name)
            if child is not None:
                yield name, child


def text_of(node: Node | None) -> list[str] | None:
    """Return an array's strings, or its numbers as text; None for anything else."""
    if not is_array(node):
        return None
    if node.dtype is None:
        return node.texts()
    return _as_text(node.read()) if node.dtype.kind in "biuf" else None


def _as_text(values: NDArray[Any]) -> list[str]:
    return [str(value) for value in np.atleast_1d(values).tolist()]


# --- columns and tables ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Table:
    """A data frame on disk: its index, and its columns by name, unread."""

    group: TreeGroup
    index: Sequence[str]
    columns: Collection[str]

    def get(self, name: str) -> Column | None:
        """Read a column; None when it is not there, is no plain column, or has another length."""
        return column(self.group, name, len(self.index)) if name in self.columns else None

    def texts(self, name: str) -> list[str] | None:
        """Read a column as strings, "" where it is missing."""
        found = self.get(name)
        if found is None:
            return None
        if isinstance(found, Categorical):
            labels = [*found.categories, ""]
            return [labels[code] for code in found.codes.tolist()]
        return _as_text(found)


def table_of(node: Node | None) -> Table | None:
    """Read a data frame's index and the names of its columns; None when it is none."""
    if not is_group(node):
        return None
    at = node.attrs.get("_index", "_index")
    names = node.names()
    if at not in names and "index" in names:
        at = "index"
    index = _index_of(node.get(at)) if isinstance(at, str) else None
    if index is None:
        held = column(node, at, None) if isinstance(at, str) and at in names else None
        if not isinstance(held, Categorical):
            return None
        index = [held.categories[code] if code >= 0 else "" for code in held.codes.tolist()]
    order = node.attrs.get("column-order", None)
    listed = [str(name) for name in order] if isinstance(order, list) else []
    known = set(names)
    # A mapping keeps the order and finds a name at once, of tens of thousands too.
    columns = {name: None for name in listed if name in known}
    columns |= {name: None for name in names if name not in {at, "__categories"}}
    return Table(node, index, columns)


def _index_of(node: Node | None) -> Sequence[str] | None:
    """Return the names of a table's rows; those of a large one, of many cells, are packed."""
    if is_array(node) and node.dtype is None and len(node.shape) == 1 and node.shape[0] > _MANY_ROWS:
        return PackedTexts(node.text_pieces())
    return text_of(node)


def column(parent: TreeGroup, name: str, length: int | None) -> Column | None:
    """Read one column of a data frame; None when it is no plain column of `length` values."""
    node = parent.get(name)
    found = _from_group(node) if is_group(node) else _from_array(parent, name, node) if is_array(node) else None
    size = len(found.codes) if isinstance(found, Categorical) else len(found) if found is not None else -1
    return found if length is None or size == length else None


def _from_group(node: TreeGroup) -> Column | None:
    codes, labels = node.get("codes"), node.get("categories")
    if is_array(codes):
        texts = text_of(labels)
        if texts is None and is_group(labels):
            # anndata writes categories that may be missing as an array of text with a mask.
            texts = text_of(labels.get("values"))
        return _labels(codes, texts)
    values, mask = node.get("values"), node.get("mask")
    if not is_array(values) or not is_array(mask) or values.shape != mask.shape or len(values.shape) != 1:
        return None
    missing = mask.read().astype(np.bool_)
    if values.dtype is None:
        texts = values.texts()
        return categorical([None if gone else text for text, gone in zip(texts, missing.tolist(), strict=True)])
    numbers = values.read()
    if numbers.dtype == np.bool_:
        if not missing.any():
            return numbers
        return Categorical(np.where(missing, -1, numbers).astype(np.int32), ["FALSE", "TRUE"])
    return np.where(missing, np.nan, numbers.astype(np.float64)) if missing.any() else _numbers(numbers)


def _from_array(parent: TreeGroup, name: str, node: Array) -> Column | None:
    if len(node.shape) != 1:
        return None
    if node.attrs.get("categories", None) is not None:
        # Before 0.8 a categorical was its codes, with a reference to labels kept beside the columns.
        return _labels(node, text_of(parent.get(f"__categories/{name}")))
    if node.dtype is None:
        return categorical(node.texts())
    return _numbers(node.read()) if node.dtype.kind in "biuf" else None


def _numbers(values: NDArray[Any]) -> NDArray[Any] | None:
    if values.dtype == np.bool_:
        return values
    if values.dtype.kind == "f":
        return values.astype(np.float64)
    return values.astype(np.float64) if values.dtype == np.uint64 else values.astype(np.int64)


def _labels(codes: Array, categories: list[str] | None) -> Categorical | None:
    if categories is None or codes.dtype is None or codes.dtype.kind not in "iu" or len(codes.shape) != 1:
        return None
    places = codes.read().astype(np.int64)
    if len(places) and (places.min() < -1 or places.max() >= len(categories)):
        raise damaged(codes.path, f"a code outside the {len(categories)} categories")
    return Categorical(places.astype(np.int32), categories)


# --- matrices -------------------------------------------------------------------------------------------------------


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
        self, scratch: Scratch, progress: Callable[[float], None], others: Collection[SparseDraft] = ()
    ) -> SparseDraft:
        """Read it cell after cell; large arrays go to spool files.

        Where one of the `others`, which were read before, has its values at the same places, it lends its index arrays.

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
        matrix = _compressed(
            self.node, self.form, self.shape, scratch, progress, others=others if self.form == "csr" else ()
        )
        return matrix if self.form == "csr" else turned(matrix, scratch)

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


def _compressed(
    group: TreeGroup,
    form: str,
    shape: tuple[int, int],
    scratch: Scratch,
    progress: Callable[[float], None],
    *,
    others: Collection[SparseDraft],
) -> SparseDraft:
    n_major, n_minor = shape if form == "csr" else shape[::-1]
    read = bounds_of(group, n_major)
    pointers = next((other.indptr for other in others if np.array_equal(other.indptr, read)), read)
    data, indices = values_of(group, "data"), values_of(group, "indices")
    nnz = indices.shape[0]
    if data.shape[0] != nnz:
        raise _undivided(group)
    minor = _Indices(nnz, [other.columns for other in others if other.indptr is pointers], scratch)
    for start, block in indices.blocks():
        # As an unsigned number a negative index is a large one, so that one look finds both.
        if len(block) and block.view(f"u{block.itemsize}").max() >= n_minor:
            raise damaged(path=f"{group.path}/indices", what=f"an index outside 0 to {n_minor - 1}")
        minor.put(start, block)
        progress(0.5 * (start + len(block)) / nnz)
    values = ExactValues(nnz, scratch)
    for start, block in data.blocks():
        values.put(slice(start, start + len(block)), block)
        progress(0.5 + 0.5 * (start + len(block)) / nnz)
    return SparseDraft(pointers, minor.finish(), values.values, n_minor)


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
                self._own[begin:end] = before[begin:end]
        self._own[start:stop] = block

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


def turned(matrix: SparseDraft, scratch: Scratch) -> SparseDraft:
    """Turn compressed columns, whose indices were checked, into compressed rows, each row ascending."""
    n_rows, nnz = matrix.n_columns, len(matrix.columns)
    lengths = np.zeros(n_rows, np.int64)
    for start, end in blocks(nnz):
        lengths += np.bincount(matrix.columns[start:end], minlength=n_rows)
    indptr = np.zeros(n_rows + 1, np.int64)
    np.cumsum(lengths, out=indptr[1:])
    columns, values = scratch.empty((nnz,), np.int32), scratch.empty((nnz,), np.float32)
    filled = indptr[:-1].copy()
    if matrix.values.dtype != np.float32:
        order = np.argsort(matrix.columns, kind="stable")
        columns[:] = np.repeat(np.arange(len(matrix.indptr) - 1, dtype=np.int32), np.diff(matrix.indptr))[order]
        return SparseDraft(indptr, columns, np.asarray(matrix.values)[order], len(matrix.indptr) - 1)
    transpose = kernel("cw_transpose_columns")
    transpose(
        address(matrix.indptr, np.int64), 0, len(matrix.indptr) - 1,
        address(matrix.columns, np.int32), address(matrix.values, np.float32), address(filled, np.int64, writable=True),
        address(columns, np.int32, writable=True), address(values, np.float32, writable=True),
    )  # fmt: skip
    return SparseDraft(indptr, columns, values, len(matrix.indptr) - 1)


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
