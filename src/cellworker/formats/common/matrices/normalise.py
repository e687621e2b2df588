"""Makes log-normalised values from counts, normalised values, or logarithms to another base."""

import math
from collections.abc import Callable

import numpy as np

from cellworker.experiment.draft import SparseDraft
from cellworker.formats.common.findings import Findings
from cellworker.formats.common.matrices.sparse import blocks
from cellworker.formats.common.matrices.value_kinds import Decision
from cellworker.formats.common.scratch import Scratch, fill
from cellworker.formats.common.stages import NORMALISING, told
from cellworker.native import address, kernel

__all__ = ["as_logarithms", "log_normalise", "tell_about_counts"]

SCALE = 1e4
_MAX_EXACT = 2.0**53
_MAX_NEGATIVE_SHARE = 0.01
_SAME_TOTAL = 1e-3


def log_normalise(counts: SparseDraft, field: str, findings: Findings, scratch: Scratch) -> SparseDraft:
    """Return ``log(1 + 10000 * count / total of the cell)``, as Seurat's NormalizeData does by default.

    Stray counts below 0 become 0, which is reported; missing and infinite counts stay, and do not count in totals.

    Parameters
    ----------
    counts
        Raw counts; indices are shared with the result.

    Raises
    ------
    PartBrokenError
        When more than a hundredth of the counts are negative.
    """
    negative = 0
    values = scratch.empty(counts.values.shape, np.float32)
    scale_rows = kernel("cw_scale_rows")
    n_cells = len(counts.indptr) - 1
    pieces = blocks(n_cells, max(1, (1 << 22) * n_cells // max(1, len(values))))
    for start, end in told(NORMALISING, pieces, n_cells):
        bounds = np.ascontiguousarray(counts.indptr[start : end + 1], np.int64)
        where = slice(int(bounds[0]), int(bounds[-1]))
        block = np.array(counts.values[where], np.float64)
        if len(block) != bounds[-1] - bounds[0] or np.any(np.diff(bounds) < 0):
            raise ValueError("the cells' places in the matrix are not in order")
        negative += scale_rows(address(bounds, np.int64), end - start, SCALE, address(block, np.float64, writable=True))
        fill(values, where.start, np.log1p(block, out=block))
    if negative > _MAX_NEGATIVE_SHARE * len(values):
        raise findings.broken(
            field, found=f"counts that are negative ({negative:,} of {len(values):,} values)",
            expected="whole numbers from 0 up",
            advice="store raw counts, or normalised values as data, and save the object again",
        )  # fmt: skip
    if negative:
        findings.warning(
            field, found=f"{negative:,} of {len(values):,} counts below 0", expected="counts from 0 up",
            advice="normalised, they count as 0; comparisons of samples will be refused: correct them",
        )  # fmt: skip
    return SparseDraft(counts.indptr, counts.columns, values, counts.n_columns)


def as_logarithms(
    matrix: SparseDraft, field: str, decision: Decision, findings: Findings, scratch: Scratch
) -> SparseDraft:
    """Return the natural logarithms that requests expect, from normalised values of another kind.

    * linear values with one total for all cells, other than 10,000: as counts, that is
      ``log1p(10000 * value / total of the cell)`` (scanpy's ``normalize_total(target_sum=1e4)`` and ``log1p``);
    * other linear values: ``log1p``;
    * logarithms to another base: times the natural logarithm of the base;
    * counts: `log_normalise`; all else: as it is.
    """
    total = decision.total
    if decision.kind == "counts" or (total is not None and abs(total - SCALE) > _SAME_TOTAL * SCALE):
        findings.fallback(
            field, found=f"{decision.title} ({decision.why})", advice="log1p is taken of 10,000 times a cell's shares"
        )
        return log_normalise(matrix, field, findings, scratch)
    if decision.kind == "linear":
        findings.fallback(field, found=f"{decision.title} ({decision.why})", advice="log1p is taken of them")
        return _changed(matrix, scratch, np.log1p)
    if decision.kind == "log" and decision.base != math.e:
        factor = math.log(decision.base)
        advice = f"they are multiplied by {factor:.5g}: natural logarithms are served"
        findings.fallback(field, found=f"logarithms to base {decision.base:g}", advice=advice)
        return _changed(matrix, scratch, lambda block: block * factor)
    return matrix


def _changed(matrix: SparseDraft, scratch: Scratch, change: Callable[[np.ndarray], np.ndarray]) -> SparseDraft:
    values = scratch.empty(matrix.values.shape, np.float32)
    with np.errstate(invalid="ignore", divide="ignore"):
        for start, end in told(NORMALISING, blocks(len(values)), len(values)):
            fill(values, start, change(np.asarray(matrix.values[start:end], np.float64)))
    return SparseDraft(matrix.indptr, matrix.columns, values, matrix.n_columns)


def tell_about_counts(field: str, counts: SparseDraft, findings: Findings) -> None:
    """Tell of counts that had to be rounded."""
    if counts.values.dtype == np.float64 and len(counts.values) and np.nanmax(np.abs(counts.values)) > _MAX_EXACT:
        findings.warning(
            field, found="counts above 2^53, held as decimal numbers", expected="whole numbers that a double holds",
            advice="they are rounded to doubles",
        )  # fmt: skip
