"""The matrix of an AnnData in the kernels' form, without a copy where it is compressed rows of single precision."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cellworker.analysis.matrices.gene_sorter import GeneSorter
from cellworker.analysis.matrices.sorting import Compressed, scan_rows
from cellworker.analysis.statistics.groups import Sorted
from cellworker.analysis.statistics.sums import group_sums
from cellworker.api.anndata.arguments import check_kind, invalid, one_of
from cellworker.api.anndata.cluster import is_lazy

if TYPE_CHECKING:
    from anndata import AnnData
    from pandas import Index

__all__ = ["Matrix", "chosen_values", "matrix_of"]

_BLOCK_VALUES = 1 << 22  # stored values of a run of genes
_DENSE_BYTES = 64 << 20
_PRODUCT_ROWS = 256  # of a part of a product, which SciPy copies in double precision
_INDEX_BYTES = 4


@dataclass(frozen=True, slots=True)
class Matrix:
    """Cells x genes, cell after cell.

    Attributes
    ----------
    rows
        int64 bounds, int32 genes ascending within a cell, float32 values; no stored zeros.
    n_genes
        Width.
    name
        Its name in messages, for example "adata.X".
    names
        The genes' names.
    """

    rows: Compressed
    n_genes: int
    name: str
    names: "Index"

    def __post_init__(self) -> None:
        object.__setattr__(self, "rows", _aligned(*self.rows))

    def __reduce__(self) -> tuple[Any, ...]:
        # Bytes from a network may be unaligned: the constructor aligns them.
        return Matrix, (self.rows, self.n_genes, self.name, self.names)

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return len(self.rows[0]) - 1

    def csr(self) -> Any:  # noqa: ANN401
        """Return the same arrays as SciPy's matrix."""
        from scipy.sparse import csr_array  # noqa: PLC0415 heavy

        indptr, genes, values = self.rows
        if indptr[-1] <= np.iinfo(np.int32).max:  # SciPy copies the genes to the type of the bounds
            indptr = indptr.astype(np.int32)
        return csr_array((values, genes, indptr), shape=(self.n_cells, self.n_genes), copy=False)

    def times(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the product with genes x columns, float64 ``(n_cells, n_columns)``; SciPy would copy the matrix."""
        from scipy.sparse import csr_array  # noqa: PLC0415 heavy

        indptr, genes, values = self.rows
        out = np.empty((self.n_cells, weights.shape[1]))
        for start in range(0, self.n_cells, _PRODUCT_ROWS):
            bounds = indptr[start : start + _PRODUCT_ROWS + 1]
            first, last = int(bounds[0]), int(bounds[-1])
            part = (values[first:last], genes[first:last], (bounds - first).astype(np.int32))
            shape = (len(bounds) - 1, self.n_genes)
            out[start : start + shape[0]] = csr_array(part, shape=shape, copy=False) @ weights
        return out

    def genes_of(self, positions: NDArray[np.int64]) -> Sorted:
        """Return some genes, gene after gene: int64 bounds, int32 cells (ascending), float32 values."""
        some = self.csr()[:, positions].tocsc()
        return some.indptr.astype(np.int64), some.indices.astype(np.int32), some.data

    def group_sums(self, code: NDArray[np.integer[Any]], n_groups: int, threads: int = 1) -> NDArray[np.float64]:
        """Sum the values of groups of cells, float64 ``(n_groups, n_genes)``.

        Parameters
        ----------
        code
            Group of each cell, 0 to `n_groups` - 1 or below 0 for a cell that takes no part, ``(n_cells,)``.
        n_groups
            Number of groups.
        threads
            Threads to use; the result does not depend on it.
        """
        rows = np.flatnonzero(code >= 0)
        return group_sums(*self.rows, rows, code[rows], n_groups=n_groups, n_genes=self.n_genes, threads=threads)

    def sorted_runs(self, work: Callable[[slice, Sorted], None], *, threads: int) -> None:
        """Call `work` with runs of genes whose values ascend, from several threads and in any order."""
        genes = self.rows[1]
        per_gene = np.bincount(genes, minlength=self.n_genes)
        bounds = np.concatenate([[0], np.cumsum(per_gene)]).astype(np.int64)
        aims = np.arange(0, bounds[-1] + _BLOCK_VALUES, _BLOCK_VALUES)
        cuts = np.unique(np.clip(np.searchsorted(bounds, aims), 0, self.n_genes))
        cuts = np.unique(np.concatenate([[0], cuts, [self.n_genes]]))
        runs = list(pairwise(cuts.tolist()))
        shares = [runs[i::threads] for i in range(min(threads, len(runs)))]

        def some(mine: list[tuple[int, int]]) -> None:
            sorter = GeneSorter(self.rows, bounds)
            for first, last in mine:
                sorter.seek(first)
                cells, values = sorter.until(last)
                work(slice(first, last), (bounds[first : last + 1] - bounds[first], cells, values))

        with ThreadPoolExecutor(max(1, len(shares))) as pool:
            list(pool.map(some, shares))


def chosen_values(
    adata: "AnnData", *, layer: str | None = None, use_raw: bool | None = None
) -> tuple[Any, str, "Index"]:
    """Return the matrix that scanpy would take, how messages call it, and its genes' names.

    That is a layer, ``raw`` where there is one (or it is asked for), else ``X``. See `matrix_of`.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` naming `layer` or `use_raw`.
    """
    if layer is not None:
        if use_raw:
            raise invalid("use_raw", "a layer is not in raw: give layer or use_raw=True, not both")
        one_of("layer", layer, adata.layers.keys())
        return adata.layers[layer], f"adata.layers[{layer!r}]", adata.var_names
    if use_raw and adata.raw is None:
        raise invalid("use_raw", "this AnnData has no raw; expected use_raw=False, or adata.raw = adata before")
    if use_raw or (use_raw is None and adata.raw is not None):
        return adata.raw.X, "adata.raw.X", adata.raw.var_names
    if adata.X is None:
        listed = ", ".join(repr(name) for name in adata.layers)
        raise invalid("adata.X", f"is empty; give layer=... ({listed or 'there are no layers either'})")
    return adata.X, "adata.X", adata.var_names


def matrix_of(values: Any, name: str, names: "Index") -> Matrix:  # noqa: ANN401
    """Return a matrix of cells x genes, sparse (CSR, CSC), dense or backed, as compressed rows.

    Compressed rows of single precision are taken as they are, everything else is brought into that form.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` for text or complex numbers, NaN, infinite values, and arrays that do not fit each other.
    """
    from scipy import sparse  # noqa: PLC0415 heavy

    if is_lazy(values):
        raise invalid(name, "is a Dask array, and this function needs it in memory; pass adata.to_memory()")
    if hasattr(values, "to_memory"):  # backed, sparse
        values = values.to_memory()
    if not sparse.issparse(values):
        return _from_dense(values, name, names)
    check_kind(values.dtype, name)
    rows = values.tocsr()
    wide = rows.indices if rows.indices.dtype.itemsize > _INDEX_BYTES else rows.indices[:0]
    if len(wide) and not 0 <= wide.min() <= wide.max() < rows.shape[1]:  # cut to 32 bits it might look sound
        raise invalid(name, f"is damaged (it names column {int(wide.max())} of {rows.shape[1]})")
    matrix = _aligned(rows.indptr, rows.indices, rows.data)
    kept = np.empty(rows.shape[0], np.int64)
    found = scan_rows(matrix, 0, rows.shape[0], rows.shape[1], kept=kept)
    if found.problem:
        raise invalid(name, f"is damaged ({found.problem} of row {found.problem_row})")
    _check_finite(found.nan, found.infinite, name)
    if not found.in_order:
        rows = sparse.csr_array((matrix[2], matrix[1], matrix[0]), shape=rows.shape, copy=True)
        rows.sum_duplicates()
        rows.eliminate_zeros()
        matrix = np.asarray(rows.indptr, np.int64), np.asarray(rows.indices, np.int32), rows.data
    return Matrix(matrix, rows.shape[1], name, names)


def _aligned(indptr: NDArray[Any], columns: NDArray[Any], values: NDArray[Any]) -> Compressed:
    """Return the arrays in the types and at addresses that kernels take; copied only where they are not."""
    return (
        np.require(indptr, np.int64, ["C", "A"]),
        np.require(columns, np.int32, ["C", "A"]),
        np.require(values, np.float32, ["C", "A"]),
    )


def _from_dense(values: Any, name: str, names: "Index") -> Matrix:  # noqa: ANN401
    """Compress a dense matrix (an array, or a data set of a file) some rows at a time."""
    if getattr(values, "dtype", None) is None or len(getattr(values, "shape", ())) != 2:
        raise invalid(name, f"expected a matrix of numbers, found {type(values).__name__}")
    check_kind(values.dtype, name)
    n, width = values.shape
    lengths, genes, stored = [np.zeros(1, np.int64)], [], []
    for block in _row_blocks(values):
        if not np.isfinite(block).all():
            _check_finite(int(np.isnan(block).sum()), int(np.isinf(block).sum()), name)
        row, gene = np.nonzero(block)
        lengths.append(np.bincount(row, minlength=len(block)))
        genes.append(gene.astype(np.int32))
        stored.append(block[row, gene])
    indptr = np.cumsum(np.concatenate(lengths)).astype(np.int64)
    assert len(indptr) == n + 1
    return Matrix((indptr, np.concatenate(genes), np.concatenate(stored)), width, name, names)


def _row_blocks(values: Any) -> Iterator[NDArray[np.float32]]:  # noqa: ANN401
    step = max(1, _DENSE_BYTES // max(1, 4 * values.shape[1]))
    for start in range(0, values.shape[0], step):
        yield np.asarray(values[start : start + step]).astype(np.float32, copy=False)


def _check_finite(nan: int, infinite: int, name: str) -> None:
    if nan or infinite:
        what = f"{nan} missing" if nan else f"{infinite} infinite"
        raise invalid(name, f"holds {what} values; expected finite numbers (leave such genes out, or name a layer)")
