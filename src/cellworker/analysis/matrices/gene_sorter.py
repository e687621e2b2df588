"""Turns cell-major rows into gene-major runs in ascending order of value, a block of genes at a time.

The kernels release the interpreter lock, so plain threads run them in parallel. The output depends neither on the split
of the work nor on the number of threads.
"""

import numpy as np
from numpy.typing import NDArray

from cellworker.analysis.matrices.levels import ToldValues
from cellworker.analysis.matrices.sorting import Packed, check_rows, column_address, paged
from cellworker.native import address, kernel

__all__ = ["GeneSorter"]


class GeneSorter:
    """Turns cell-major rows into gene-major runs in ascending order of value.

    After `seek` it goes through the genes in order and remembers its place in every cell, so it reads each entry once.
    One per thread; its buffers are used again.

    Parameters
    ----------
    matrix
        The matrix, cell after cell; genes ascend within a cell.
    bounds
        int64 ``(n_genes + 1,)``: where each gene's entries go, the cumulative number of entries per gene.
    """

    def __init__(self, matrix: Packed, bounds: NDArray[np.int64]) -> None:
        indptr = matrix[0]
        check_rows(matrix, 0, len(indptr) - 1)
        self._matrix = matrix
        self._bounds = bounds
        self._gene = 0
        self._cursor = np.zeros(len(indptr) - 1, np.int32)  # a row has no more entries than genes
        self._gathered = 0, np.zeros(1, np.int64)
        self._entries = np.empty(0, np.uint64)
        self._cells = np.empty(0, np.int32)
        self._values = np.empty(0, np.float32)
        self._scratch = np.empty(0, np.uint64)

    def seek(self, gene: int) -> None:
        """Go to the beginning of a gene."""
        indptr, genes, _ = self._matrix
        if not 0 <= gene < len(self._bounds):
            raise ValueError(gene)
        self._gene = gene
        kernel("cw_seek_column")(
            address(indptr, np.int64),
            len(self._cursor),
            *column_address(genes),
            gene,
            address(self._cursor, np.int32, writable=True),
        )

    def until(self, last: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Return the cells and values of the genes up to `last`, each gene's values ascending, ties by cell, NaN last.

        The arrays are valid until the next call.
        """
        first = self._gene
        self.gather(last)
        return self.sort(first, last)

    def gather(self, last: int) -> None:
        """Gather the entries of the genes up to `last` for `sort`, 8 bytes each.

        Parameters
        ----------
        last
            The gene after the last one. It is where the next call begins.
        """
        indptr, genes, values = self._matrix
        first, self._gene = self._gene, last
        if not first <= last < len(self._bounds):
            raise ValueError(last)
        bounds = self._bounds[first : last + 1] - self._bounds[first]
        size = int(bounds[-1])
        longest = int(np.diff(bounds).max(initial=0))
        if len(self._entries) < size:
            # Free the old buffer first: both together would be the largest part of an opening's memory.
            self._entries = np.empty(0, np.uint64)
            self._entries = paged(size + (size >> 6), np.uint64)  # the next blocks are hardly longer
        if len(self._scratch) < longest:
            self._scratch = np.empty(longest, np.uint64)
        self._gathered = first, bounds
        slots = bounds[:-1].copy()
        lost = kernel("cw_gather_genes")(
            address(indptr, np.int64),
            len(self._cursor),
            *column_address(genes),
            *_values(values),
            first,
            last,
            address(self._cursor, np.int32, writable=True),
            address(slots, np.int64, writable=True),
            size,
            address(self._entries, np.uint64, writable=True),
        )
        if lost or not np.array_equal(slots, bounds[1:]):
            raise ValueError("the entries per gene are not what they were when they were counted")

    def sort(self, first: int, last: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Return the cells and values of some of the genes that were gathered, each once, as `until` does.

        A few genes at a time stay in the caches, and take little memory beside what is gathered.
        """
        begin, bounds = self._gathered
        if not begin <= first <= last < begin + len(bounds):
            raise ValueError(first, last)
        start, end = int(bounds[first - begin]), int(bounds[last - begin])
        own, size = bounds[first - begin : last - begin + 1] - start, end - start
        if len(self._cells) < size:
            self._cells, self._values = np.empty(0, np.int32), np.empty(0, np.float32)  # freed first, as above
            length = size + (size >> 6)
            self._cells, self._values = paged(length, np.int32), paged(length, np.float32)
        kernel("cw_sort_genes")(
            address(own, np.int64),
            last - first,
            address(self._entries[start:end], np.uint64, writable=True),
            address(self._scratch, np.uint64, writable=True),
            address(self._cells, np.int32, writable=True),
            address(self._values, np.float32, writable=True),
        )
        return self._cells[:size], self._values[:size]


def _values(values: NDArray[np.float32] | ToldValues) -> tuple[int | None, ...]:
    """Return the address of the values, or of the counts that stand for them with their width and levels."""
    if not isinstance(values, ToldValues):
        return address(values, np.float32), 0, None, None, None, 0
    levels, kind = values.levels, values.counts.dtype
    return (
        address(values.counts, kind), kind.itemsize, address(levels.first, np.int64), address(levels.counts, kind),
        address(levels.values, np.float32), len(levels.values),
    )  # fmt: skip
