"""Log-normalisation for objects that hold raw counts only."""

import numpy as np

from cellworker.experiment.draft import SparseDraft
from cellworker.formats.common.findings import Findings
from cellworker.formats.common.scratch import Scratch
from cellworker.formats.seurat.read.matrix import blocks

__all__ = ["cell_totals", "is_whole", "log_normalise"]

SCALE = 1e4


def is_whole(matrix: SparseDraft) -> bool:
    """Tell whether every stored value is a whole, non-negative number; stops at the first block where one is not."""
    return all(
        bool(np.all((block >= 0) & (block == np.floor(block))) and np.all(np.isfinite(block)))
        for block in (matrix.values[start:end] for start, end in blocks(len(matrix.values)))
    )


def cell_totals(matrix: SparseDraft) -> tuple[np.ndarray, np.ndarray]:
    """Return each cell's sum, float64 ``(n_cells,)``, and its number of stored values other than zero, int64."""
    n_cells = len(matrix.indptr) - 1
    sums, detected = np.zeros(n_cells), np.zeros(n_cells, np.int64)
    for start, end in blocks(n_cells, max(1, (1 << 22) * n_cells // max(1, len(matrix.values)))):
        bounds = matrix.indptr[start : end + 1]
        values = matrix.values[int(bounds[0]) : int(bounds[-1])]
        rows = np.repeat(np.arange(end - start), np.diff(bounds))
        sums[start:end] = np.bincount(rows, values, end - start)
        detected[start:end] = np.bincount(rows, values != 0, end - start)
    return sums, detected


def log_normalise(counts: SparseDraft, field: str, findings: Findings, scratch: Scratch) -> SparseDraft:
    """Return ``log(1 + 10000 * count / total of the cell)``, as Seurat's NormalizeData does by default.

    Parameters
    ----------
    counts
        Raw counts; indices are shared with the result.

    Raises
    ------
    PartBrokenError
        When a count is negative or not finite.
    """
    totals, _ = cell_totals(counts)
    values = scratch.empty(counts.values.shape, np.float32)
    n_cells = len(totals)
    for start, end in blocks(n_cells, max(1, (1 << 22) * n_cells // max(1, len(values)))):
        bounds = counts.indptr[start : end + 1]
        where = slice(int(bounds[0]), int(bounds[-1]))
        block = counts.values[where].astype(np.float64)
        if not np.all(block >= 0) or not np.all(np.isfinite(block)):
            raise findings.broken(
                field, found="counts that are negative or not numbers", expected="whole numbers from 0 up",
                advice="store raw counts, or normalised values as data, and save the object again",
            )  # fmt: skip
        scale = np.divide(SCALE, totals[start:end], out=np.zeros(end - start), where=totals[start:end] > 0)
        values[where] = np.log1p(block * np.repeat(scale, np.diff(bounds)))
    return SparseDraft(counts.indptr, counts.columns, values, counts.n_columns)
