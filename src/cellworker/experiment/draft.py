"""A reader's output for the store: all parts of an experiment, checked, before they are written."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellworker.experiment.model import (
    Categorical,
    Column,
    Dispersions,
    Genes,
    Misc,
    Origin,
    Reduction,
    StoredTable,
    TissueImage,
)

__all__ = ["ExperimentDraft", "SparseDraft"]


@dataclass(slots=True)
class SparseDraft:
    """A cell-major sparse matrix from a reader. Arrays may be maps of spool files.

    Attributes
    ----------
    indptr
        int64 ``(n_rows + 1,)``.
    columns
        int32 ``(nnz,)``: gene positions (cell positions for graphs), unchecked.
    values
        float32 ``(nnz,)``; float64 or int64 where float32 would round a count. May hold stored zeros, which the store
        drops.
    n_columns
        Width of the matrix.
    """

    indptr: NDArray[np.int64]
    columns: NDArray[np.int32]
    values: NDArray[Any]
    n_columns: int


@dataclass(slots=True)
class ExperimentDraft:
    """All parts of an experiment, in memory or spooled. `data` is never None: readers normalise or refuse."""

    cell_ids: NDArray[np.int32]
    barcodes: Sequence[str]
    genes: Genes
    data: SparseDraft
    counts: SparseDraft | None = None
    scaled_genes: NDArray[np.int32] | None = None
    scaled_values: NDArray[np.float32] | None = None
    """float32 ``(n_cells, n_scaled_genes)``"""
    metadata: dict[str, Column] = field(default_factory=dict)
    reductions: dict[str, Reduction] = field(default_factory=dict)
    graphs: dict[str, SparseDraft] = field(default_factory=dict)
    images: dict[str, TissueImage] = field(default_factory=dict)
    stored: dict[str, StoredTable] = field(default_factory=dict)
    dispersions: Dispersions | None = None
    dispersions_stand_in: bool = False
    """Whether the file has none, so that the variance of the normalised values replaces them."""
    identities: Categorical | None = None
    """Seurat's active identities (``Idents``)."""
    misc: Misc = field(default_factory=Misc)
    origin: Origin = field(default_factory=lambda: Origin(kind="platform"))
    extra: dict[str, Any] = field(default_factory=dict)
