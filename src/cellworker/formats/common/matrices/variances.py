"""How much genes vary."""

import numpy as np
from numpy.typing import NDArray

from cellworker.experiment.draft import SparseDraft
from cellworker.formats.common.findings import Findings
from cellworker.formats.common.matrices.sparse import blocks, check_bounds

__all__ = ["VARIANCE_ORDERS", "gene_variances"]

VARIANCE_ORDERS = "the variance of the normalised values orders the gene list"
"""What readers advise where a file does not say how much its genes vary."""


def gene_variances(data: SparseDraft, findings: Findings) -> NDArray[np.float64]:
    """Return each gene's variance over all cells (n - 1 in the denominator), float64 ``(n_genes,)``."""
    n_cells, n_genes = len(data.indptr) - 1, data.n_columns
    sums, squares = np.zeros(n_genes), np.zeros(n_genes)
    check_bounds(data.columns, n_genes, "data, slot i", findings)
    for start, end in blocks(len(data.columns)):
        columns, values = data.columns[start:end], data.values[start:end].astype(np.float64)
        sums += np.bincount(columns, values, n_genes)
        squares += np.bincount(columns, values * values, n_genes)
    with np.errstate(invalid="ignore"):
        return np.maximum(squares - sums * sums / n_cells, 0) / max(n_cells - 1, 1)
