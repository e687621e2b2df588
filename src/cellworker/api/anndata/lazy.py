"""Matrices that are Dask arrays: graphs whose tasks are our kernels on blocks of genes, or of cells.

A task takes a `Matrix`, as one machine has it, and returns arrays. What is computed by gene (ranks) needs all cells of
a gene in one place: blocks of cells are cut at genes, and matching parts travel to one worker. Genes come in
waves that fit into a share of the cluster's memory, so that hardly anything is spilled; each wave reads the matrix
again.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cellworker.analysis.statistics.groups import Sorted
from cellworker.analysis.statistics.sums import add_group_sums, parts_of_rows
from cellworker.api.anndata.arguments import check_kind
from cellworker.api.anndata.cluster import Cluster, deferred, is_lazy
from cellworker.api.anndata.matrix import Matrix, chosen_values, matrix_of

if TYPE_CHECKING:
    from anndata import AnnData
    from pandas import Index

__all__ = ["AnyMatrix", "LazyMatrix", "LazyRows", "chosen_anywhere"]

Floats = NDArray[np.float64]
Task = Any
"""The type of `dask.delayed`'s result."""

_VALUE_BYTES = 8  # an int32 index and a float32 value
_COPIES = 4  # of a block of genes, while it is put together, sorted and tested
_WAVE_SHARE = 0.25  # of the cluster's memory: the blocks of genes that are put together at a time
_FEW = 16  # partial sums that are added by one task
_CELLS_VALUES = 1 << 23  # stored values of the blocks of cells that one task cuts at genes


@dataclass(frozen=True)
class LazyMatrix:
    """Cells x genes as a Dask array of sparse or dense blocks.

    Attributes
    ----------
    array
        The Dask array.
    name
        Its name in messages, for example "adata.X".
    names
        The genes' names.
    kept
        The cells whose values count, bool ``(n_cells,)``; the others are there and have none. None keeps all.
    """

    array: Any
    name: str
    names: "Index"
    kept: NDArray[np.bool_] | None = None

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return int(self.array.shape[0])

    @property
    def n_genes(self) -> int:
        """Width."""
        return int(self.array.shape[1])

    @cached_property
    def _rows(self) -> tuple[list[Task], NDArray[np.int64]]:
        """Return a task for the `Matrix` of each block of cells, and where the blocks begin."""
        check_kind(self.array.dtype, self.name)
        array = self.array
        if array.numblocks[1] > 1:  # as columns come (CSC): Dask puts whole cells together
            cells = array.chunks[0] if array.numblocks[0] > 1 else -(-self.n_cells // array.numblocks[1])
            array = array.rechunk((cells, -1))
        named = deferred(self.name), deferred(self.names, traverse=False)
        blocks = [deferred(_as_matrix)(block, *named) for block in array.to_delayed()[:, 0]]
        starts = np.concatenate([[0], np.cumsum(array.chunks[0])]).astype(np.int64)
        if (kept := self.kept) is not None:
            empty = deferred(_emptied)
            blocks = [empty(block, kept[a:b]) for block, (a, b) in zip(blocks, pairwise(starts.tolist()), strict=True)]
        return blocks, starts

    def of_cells(self, kept: NDArray[np.bool_]) -> "LazyMatrix":
        """Return the matrix without the values of all other cells, which then neither travel nor need memory.

        The cells keep their numbers, and what is computed of the kept ones its bits.
        """
        return replace(self, kept=kept)

    @cached_property
    def _counts(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Count the stored values of each block of cells, and of each gene: one pass, which checks everything."""
        counted = [deferred(_count, nout=2)(block) for block in self._rows[0]]
        of_block, of_gene = Cluster.compute([[one for one, _ in counted], _added([two for _, two in counted])])
        return np.array(of_block, np.int64), of_gene[0]

    def by_cells(self, work: Callable[..., Any], *arguments: Any, each: Sequence[Any] | None = None) -> list[Any]:  # noqa: ANN401
        """Return ``work(matrix, *arguments)`` of each block of cells, in their order.

        Parameters
        ----------
        work
            A function of a module, so that it can be pickled.
        arguments
            Arguments for all blocks.
        each
            A further argument that differs: one for each block, after the matrix.
        """
        return Cluster.compute(self._cell_tasks(work, arguments, each))

    def total(self, work: Callable[..., tuple[Any, ...]], *arguments: Any) -> tuple[Any, ...]:  # noqa: ANN401
        """Return what ``work(matrix, *arguments)`` of all blocks of cells adds up to: a tuple of arrays."""
        (out,) = Cluster.compute([_added(self._cell_tasks(work, arguments, None))])
        return tuple(out)

    def _cell_tasks(
        self, work: Callable[..., Any], arguments: Sequence[Any], each: Sequence[Any] | None
    ) -> list[Task]:  # fmt: skip
        run, shared = deferred(work), [deferred(argument, traverse=False) for argument in arguments]
        blocks = self._rows[0]
        own = [()] * len(blocks) if each is None else [(deferred(one, traverse=False),) for one in each]
        return [run(block, *mine, *shared) for block, mine in zip(blocks, own, strict=True)]

    def by_genes(self, work: Callable[..., Any], *arguments: Any) -> Iterator[tuple[slice, Any]]:  # noqa: ANN401
        """Yield runs of genes and ``work(matrix, *arguments)`` of the matrix of all cells and these genes."""
        run, shared = deferred(work), [deferred(argument, traverse=False) for argument in arguments]
        _, per_gene = self._counts
        cluster = Cluster.of_now()
        bounds = np.concatenate([[0], np.cumsum(per_gene)]).astype(np.int64)
        edges = cuts(bounds, cluster.task_bytes // (_VALUE_BYTES * _COPIES))
        waves = cuts(bounds[edges], int(cluster.total_bytes * _WAVE_SHARE) // _VALUE_BYTES)
        named = deferred(self.name), deferred(self.names, traverse=False)
        cut = deferred(_cut_at_genes)
        for first, last in pairwise(waves.tolist()):
            mine = edges[first : last + 1]
            cuts_of = [cut(blocks, mine) for blocks in self._joined_rows()]
            tasks = [
                run(deferred(_put_together)([pieces[i] for pieces in cuts_of], *named, int(mine[i])), *shared)
                for i in range(len(mine) - 1)
            ]
            genes = [slice(a, b) for a, b in pairwise(mine.tolist())]
            yield from zip(genes, Cluster.compute(tasks), strict=True)

    def _joined_rows(self) -> list[list[Task]]:
        """Return the blocks of cells, small ones together: pieces become fewer and larger."""
        out: list[list[Task]] = []
        held = _CELLS_VALUES
        for block, count in zip(self._rows[0], self._counts[0].tolist(), strict=True):
            if held + count > _CELLS_VALUES:
                out.append([])
                held = 0
            out[-1].append(block)
            held += count
        return out

    def group_sums(self, code: NDArray[np.integer[Any]], n_groups: int, threads: int = 1) -> Floats:  # noqa: ARG002
        """Sum the values of groups of cells to the bits that one machine gets, float64 ``(n_groups, n_genes)``.

        Each part of `cellworker.analysis.statistics.sums.parts_of_rows` is a chain of tasks that hand on the sums so
        far; nothing else travels.

        Parameters
        ----------
        code
            Group of each cell, 0 to `n_groups` - 1 or below 0 for a cell that takes no part, ``(n_cells,)``.
        n_groups
            Number of groups.
        threads
            Ignored: Dask has its own.
        """
        blocks, starts = self._rows
        add = deferred(_add_sums)
        sums = []
        rows = np.flatnonzero(code >= 0)
        for a, b in pairwise(parts_of_rows(len(rows))):
            last = deferred(np.zeros)((n_groups, self.n_genes))
            places = a + np.searchsorted(rows[a:b], starts)
            for block, start, (low, high) in zip(blocks, starts.tolist(), pairwise(places.tolist()), strict=False):
                if low < high:
                    some = rows[low:high]
                    last = add(last, block, some - start, np.asarray(code[some], np.int32))
            sums.append(last)
        return np.asarray(sum(Cluster.compute(sums), np.zeros((n_groups, self.n_genes))))

    def genes_of(self, positions: NDArray[np.int64]) -> Sorted:
        """Return some genes, gene after gene: int64 bounds, int32 cells (ascending), float32 values."""
        return _stack(self.by_cells(_picked, positions), self.name, self.names[positions]).genes_of(
            np.arange(len(positions))
        )


AnyMatrix = Matrix | LazyMatrix
"""A matrix in memory, or a Dask array."""


def chosen_anywhere(adata: "AnnData", *, layer: str | None = None, use_raw: bool | None = None) -> AnyMatrix:
    """Return the matrix that scanpy would take (see `chosen_values`), in memory or as Dask has it.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` naming `layer`, `use_raw` or the matrix.
    """
    found = chosen_values(adata, layer=layer, use_raw=use_raw)
    return LazyMatrix(*found) if is_lazy(found[0]) else matrix_of(*found)


class LazyRows:
    """Some genes of a matrix as the parts that principal components are found in.

    Parameters
    ----------
    matrix
        All genes.
    positions
        Those that are used.
    """

    def __init__(self, matrix: LazyMatrix, positions: NDArray[np.int64]) -> None:
        self.shape = matrix.n_cells, len(positions)
        self._matrix, self._positions = matrix, positions

    def total(self, function: Callable[..., tuple[Floats, ...]], *arguments: Floats) -> tuple[Floats, ...]:
        """Add up the results of all parts."""
        return self._matrix.total(_on_rows, self._positions, function, *arguments)

    def joined(self, function: Callable[..., Floats], *arguments: Floats) -> Floats:
        """Put the results of all parts below each other."""
        return np.concatenate(self._matrix.by_cells(_on_rows, self._positions, function, *arguments))


def cuts(bounds: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Return where to cut things, of whose sizes `bounds` is the running sum: only a run of one may exceed `most`."""
    edges, last = [0], len(bounds) - 1
    while edges[-1] < last:
        here = edges[-1]
        edges.append(max(here + 1, int(np.searchsorted(bounds, bounds[here] + most, side="right")) - 1))
    return np.array(edges, np.int64)


def _as_matrix(block: Any, name: str, names: "Index") -> Matrix:  # noqa: ANN401
    return matrix_of(block, name, names)


def _emptied(matrix: Matrix, kept: NDArray[np.bool_]) -> Matrix:
    """Return a checked block without the values of cells that are not kept."""
    indptr, genes, values = matrix.rows
    sizes = np.diff(indptr)
    stay = np.repeat(kept, sizes)
    bounds = np.concatenate([[0], np.cumsum(np.where(kept, sizes, 0))]).astype(np.int64)
    return replace(matrix, rows=(bounds, genes[stay], values[stay]))


def _count(matrix: Matrix) -> tuple[int, tuple[NDArray[np.int64]]]:
    return len(matrix.rows[1]), (np.bincount(matrix.rows[1], minlength=matrix.n_genes),)


def _cut_at_genes(blocks: Sequence[Matrix], edges: NDArray[np.int64]) -> list[Any]:
    """Return the compressed rows of each run of genes."""
    from scipy.sparse import vstack  # noqa: PLC0415 heavy

    rows = vstack([block.csr() for block in blocks], format="csr") if len(blocks) > 1 else blocks[0].csr()
    return [rows[:, a:b] for a, b in pairwise(edges.tolist())]


def _put_together(pieces: Sequence[Any], name: str, names: "Index", first: int) -> Matrix:
    width = pieces[0].shape[1]
    return _stack(pieces, name, names[first : first + width])


def _stack(pieces: Sequence[Any], name: str, names: "Index") -> Matrix:
    genes, values = (np.concatenate([getattr(piece, part) for piece in pieces]) for part in ("indices", "data"))
    lengths = np.concatenate([[0], *(np.diff(piece.indptr) for piece in pieces)])
    rows = np.cumsum(lengths, dtype=np.int64), genes.astype(np.int32, copy=False), values
    return Matrix(rows, len(names), name, names)


def _picked(matrix: Matrix, positions: NDArray[np.int64]) -> Any:  # noqa: ANN401
    return matrix.csr()[:, positions]


def _add_sums(sums: Floats, matrix: Matrix, rows: NDArray[np.int64], code: NDArray[np.int32]) -> Floats:
    return add_group_sums(sums.copy(), matrix.rows, rows, code)  # Dask may hold on to what it handed in


def _on_rows(matrix: Matrix, positions: NDArray[np.int64], function: Callable[..., Any], *arguments: Floats) -> Any:  # noqa: ANN401
    rows = matrix.csr()
    some = rows if len(positions) == rows.shape[1] else rows[:, positions]
    return function(some.astype(np.float64), *arguments)


def _added(tasks: Sequence[Task]) -> Task:
    """Return a task for the sum of tuples of arrays: few at a time, always in the same order."""
    add = deferred(_sum_of)
    while len(tasks) > 1:
        tasks = [add(list(tasks[i : i + _FEW])) for i in range(0, len(tasks), _FEW)]
    return tasks[0]


def _sum_of(found: Sequence[tuple[Any, ...]]) -> tuple[Any, ...]:
    out = tuple(array.copy() for array in found[0])
    for arrays in found[1:]:
        for mine, more in zip(out, arrays, strict=True):
            np.add(mine, more, out=mine)
    return out
