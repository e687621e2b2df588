"""Makes log-normalised values from counts, normalised values, or logarithms to another base."""

import math
from collections.abc import Callable, Iterator

import numpy as np

from cellworker.experiment.draft import SparseDraft
from cellworker.formats.common.findings import Findings
from cellworker.formats.common.matrices.sparse import blocks
from cellworker.formats.common.matrices.value_kinds import Decision
from cellworker.formats.common.scratch import Scratch
from cellworker.formats.common.stages import ADDING_UP, NORMALISING, told

__all__ = ["as_logarithms", "cell_totals", "log_normalise", "tell_about_counts"]

SCALE = 1e4
_MAX_EXACT = 2.0**53
_MAX_NEGATIVE_SHARE = 0.01
_SAME_TOTAL = 1e-3


def cell_totals(matrix: SparseDraft) -> tuple[np.ndarray, np.ndarray]:
    """Return each cell's sum, float64 ``(n_cells,)``, and its number of stored values other than zero, int64.

    Values that are missing or infinite are left out of the sum.
    """
    n_cells = len(matrix.indptr) - 1
    sums, detected = np.zeros(n_cells), np.zeros(n_cells, np.int64)
    for start, end in told(ADDING_UP, _blocks_of_cells(matrix), n_cells):
        bounds = matrix.indptr[start : end + 1]
        values = matrix.values[int(bounds[0]) : int(bounds[-1])]
        rows = np.repeat(np.arange(end - start), np.diff(bounds))
        sums[start:end] = np.bincount(rows, _finite(values), end - start)
        detected[start:end] = np.bincount(rows, values != 0, end - start)
    return sums, detected


def _blocks_of_cells(matrix: SparseDraft) -> Iterator[tuple[int, int]]:
    n_cells = len(matrix.indptr) - 1
    return blocks(n_cells, max(1, (1 << 22) * n_cells // max(1, len(matrix.values))))


def _finite(values: np.ndarray) -> np.ndarray:
    known = np.isfinite(values)
    return values if known.all() else np.where(known, values, 0)


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
    totals, _ = cell_totals(counts)
    negative = 0
    values = scratch.empty(counts.values.shape, np.float32)
    for start, end in told(NORMALISING, _blocks_of_cells(counts), len(totals)):
        bounds = counts.indptr[start : end + 1]
        where = slice(int(bounds[0]), int(bounds[-1]))
        block = counts.values[where].astype(np.float64)
        below = block < 0
        if below.any():
            negative += int(below.sum())
            block[below] = 0
        scale = np.divide(SCALE, totals[start:end], out=np.zeros(end - start), where=totals[start:end] > 0)
        values[where] = np.log1p(block * np.repeat(scale, np.diff(bounds)))
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
            values[start:end] = change(np.asarray(matrix.values[start:end], np.float64))
    return SparseDraft(matrix.indptr, matrix.columns, values, matrix.n_columns)


def tell_about_counts(field: str, counts: SparseDraft, findings: Findings) -> None:
    """Tell of counts that had to be rounded."""
    if counts.values.dtype == np.float64 and len(counts.values) and np.nanmax(np.abs(counts.values)) > _MAX_EXACT:
        findings.warning(
            field, found="counts above 2^53, held as decimal numbers", expected="whole numbers that a double holds",
            advice="they are rounded to doubles",
        )  # fmt: skip
