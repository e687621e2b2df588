"""Measures of cells from the matrices: totals, numbers of genes, and the share of mitochondrial genes."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cellworker.experiment.draft import SparseDraft
from cellworker.experiment.model import Genes
from cellworker.formats.common.matrices.sparse import blocks, require_columns, require_rows
from cellworker.formats.common.stages import MEASURING_CELLS, told
from cellworker.native import address, kernel

__all__ = ["Floats", "Matrices", "Measured", "mitochondrial_genes"]

Floats = NDArray[np.float64]

_MITOCHONDRIAL: Final = ("MT-", "mt-", "Mt-", "mT-")
MAX_CHECKED_CELLS: Final = 1000
"""Number of cells, spread over the file, that a column is compared with."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Measures of some cells from the matrices, to compare columns with; None where they cannot be measured.

    Attributes
    ----------
    rows
        int64 ``(k,)``: which cells.
    sums, genes
        float64 ``(k,)``: the sum of each cell's counts, and how many genes have any.
    share
        float64 ``(k,)``: percentage of mitochondrial genes among the counts, or among normalised values.
    """

    rows: NDArray[np.int64]
    sums: Floats | None = None
    genes: Floats | None = None
    share: Floats | None = None


def mitochondrial_genes(genes: Genes) -> NDArray[np.bool_]:
    """Return which genes are mitochondrial by their symbols, bool ``(n_genes,)``: those of man and mouse are MT-..."""
    pairs = zip(genes.names, genes.original_names, strict=True)
    return np.array(
        [name.startswith(_MITOCHONDRIAL) or own.startswith(_MITOCHONDRIAL) for name, own in pairs], np.bool_
    )


@dataclass(frozen=True)  # no slots: the sums of all cells are kept for the next role
class Matrices:
    """The matrices to measure: counts and log-normalised values, and which genes are mitochondrial, bool ``(g,)``."""

    counts: SparseDraft | None
    data: SparseDraft | None
    mitochondrial: NDArray[np.bool_]

    def measure(self, n_cells: int) -> Measured:
        """Measure some cells, spread over all."""
        rows = np.unique(np.linspace(0, max(0, n_cells - 1), min(n_cells, MAX_CHECKED_CELLS)).astype(np.int64))
        if self.counts is not None:
            sums, genes, part = _sums(self.counts, rows, self.mitochondrial)
            return Measured(rows, sums, genes, self._share(part, sums))
        if self.data is not None and self.mitochondrial.any():
            sums, _, part = _sums(self.data, rows, self.mitochondrial, np.expm1)
            return Measured(rows, share=self._share(part, sums))
        return Measured(rows)

    def _share(self, part: Floats, sums: Floats) -> Floats | None:
        if not self.mitochondrial.any():
            return None
        return np.divide(100 * part, sums, out=np.zeros(len(sums)), where=sums > 0)

    def computable(self, role: str) -> bool:
        """Say whether a role's number can be computed for every cell."""
        counted = self.counts is not None and role in ("nCount_RNA", "nFeature_RNA", "percent.mt")
        return counted and (role != "percent.mt" or bool(self.mitochondrial.any()))

    @cached_property
    def _of_all_cells(self) -> tuple[Floats, Floats, Floats]:
        assert self.counts is not None
        return _sums(self.counts, range(len(self.counts.indptr) - 1), self.mitochondrial)

    def compute(self, role: str, n_cells: int) -> NDArray[np.float64] | NDArray[np.int64]:
        """Compute a role's number for every cell, from the counts."""
        sums, genes, part = self._of_all_cells
        assert len(sums) == n_cells
        if role == "nFeature_RNA":
            return genes.astype(np.int64)
        share = self._share(part, sums)
        return sums if role == "nCount_RNA" or share is None else share


def _sums(
    matrix: SparseDraft,
    rows: NDArray[np.int64] | range,
    chosen: NDArray[np.bool_],
    change: Callable[[Floats], Floats] = lambda values: values,
) -> tuple[Floats, Floats, Floats]:
    """Return the sum, the number of values other than 0 and the sum over the chosen genes of each of some cells."""
    require_rows(matrix.indptr, min(len(matrix.values), len(matrix.columns)))
    out = tuple(np.zeros(len(rows)) for _ in range(3))  # each of its own, so that one may be freed
    sums_of_rows, flags = kernel("cw_row_sums"), np.ascontiguousarray(chosen, np.bool_)
    widest = max(1, len(matrix.values) // max(1, len(matrix.indptr) - 1))
    for begin, end in told(MEASURING_CELLS, blocks(len(rows), max(1, (1 << 18) // widest)), len(rows)):
        some = np.asarray(rows[begin:end], np.int64)
        starts, ends = matrix.indptr[some], matrix.indptr[some + 1]
        lengths = ends - starts
        if len(some) and some[-1] - some[0] == len(some) - 1:
            where: NDArray[np.int64] | slice = slice(int(starts[0]), int(ends[-1]))
        else:
            offsets = np.repeat(starts - np.cumsum(lengths) + lengths, lengths)
            where = offsets + np.arange(int(lengths.sum()))
        values = np.ascontiguousarray(change(np.asarray(matrix.values[where], np.float64)))
        columns = np.ascontiguousarray(matrix.columns[where], np.int32)
        require_columns(columns, len(flags))
        bounds = np.concatenate([[0], np.cumsum(lengths)])
        sums_of_rows(
            address(bounds, np.int64), len(some), address(values, np.float64), address(columns, np.int32),
            address(flags, np.bool_),
            *(address(line[begin : begin + len(some)], np.float64, writable=True) for line in out),
        )  # fmt: skip
    return out[0], out[1], out[2]
