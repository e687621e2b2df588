"""Variances of genes."""

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellworker.experiment.draft import SparseDraft
from cellworker.formats.common.findings import Findings
from cellworker.formats.common.matrices.sparse import blocks, check_bounds
from cellworker.formats.common.stages import MEASURING_GENES, told
from cellworker.native import address, kernel

__all__ = ["VARIANCE_ORDERS", "gene_variances"]

VARIANCE_ORDERS = "the variance of the normalised values orders the gene list"
"""The note of readers where a file does not give its genes' variability."""


def gene_variances(data: SparseDraft, findings: Findings) -> NDArray[np.float64]:
    """Return each gene's variance over all cells (n - 1 in the denominator), float64 ``(n_genes,)``."""
    n_cells, n_genes = len(data.indptr) - 1, data.n_columns
    sums, squares = np.zeros(n_genes), np.zeros(n_genes)
    check = partial(check_bounds, data.columns, n_genes, "data, slot i", findings)
    if data.values.dtype != np.float32:
        check()  # the kernel, for float32, looks itself
    for start, end in told(MEASURING_GENES, blocks(len(data.columns)), len(data.columns)):
        # Each block has sums of its own, which keeps the digits of those that came before.
        try:
            some, some_squares = _moments(data.columns[start:end], data.values[start:end], n_genes)
        except ValueError:
            check()  # says which it is
            raise
        sums += some
        squares += some_squares
    with np.errstate(invalid="ignore"):
        return np.maximum(squares - sums * sums / n_cells, 0) / max(n_cells - 1, 1)


def _moments(
    columns: NDArray[np.int32], values: NDArray[Any], n_genes: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the sums of values and of their squares by column, each float64 ``(n_genes,)``."""
    if values.dtype != np.float32:
        wide = values.astype(np.float64)
        sums, squares = (np.bincount(columns, weights, n_genes).astype(np.float64) for weights in (wide, wide * wide))
        return sums, squares
    sums, squares = np.zeros(n_genes), np.zeros(n_genes)
    outside = kernel("cw_gene_moments")(
        address(columns, np.int32), address(values, np.float32), len(columns), n_genes,
        address(sums, np.float64, writable=True), address(squares, np.float64, writable=True),
    )  # fmt: skip
    if outside:
        message = f"a column outside 0 to {n_genes - 1}"
        raise ValueError(message)
    return sums, squares
