"""Doublet scores of an experiment's cells, sample by sample: cells of two samples never shared a droplet."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from cellworker.analysis.graphs.doublets import MIN_CELLS, doublet_scores
from cellworker.experiment.draft import ExperimentDraft, SparseDraft
from cellworker.experiment.model import labels_of
from cellworker.formats.common.cells.measures import COMPUTED

__all__ = ["add_doublet_scores", "counts_of"]

Progress = Callable[[float], None]
Found = tuple[tuple[str, NDArray[np.float64]], str]

_MAX_CELLS = 100_000
"""Of a sample: a lane holds 20,000; what holds more is no sample, and pairs within it mean little."""


def add_doublet_scores(draft: ExperimentDraft, threads: int, progress: Progress) -> Found | None:
    """Score the cells of each sample that has enough.

    Returns
    -------
    The column's name and its numbers (0 for cells of samples with too few cells), and how they were made; None where
    no sample has enough cells, or counts are missing, infinite or below 0.
    """
    counts = draft.counts
    assert counts is not None
    labels = labels_of(draft.metadata.get(draft.origin.columns.get("samples") or "samples"))
    codes = labels.codes if labels is not None else np.zeros(len(draft.cell_ids), np.int32)
    sizes = np.bincount(codes + 1)
    usable = [code for code in range(len(sizes) - 1) if MIN_CELLS <= sizes[code + 1] <= _MAX_CELLS]
    scores = np.zeros(len(codes))
    scored = 0
    for number, code in enumerate(usable):
        cells = np.flatnonzero(codes == code)
        rows = counts_of(counts, cells)
        if not (np.isfinite(rows.data).all() and (rows.data >= 0).all()):
            return None

        def report(part: float, number: int = number) -> None:
            progress((number + part) / len(usable))

        try:
            scores[cells] = doublet_scores(rows, threads=threads, progress=report).scores
        except ValueError:  # no gene varies within the sample
            continue
        scored += 1
    if not scored:
        return None
    name = "doublet_scores" if "doublet_scores" not in draft.metadata else "doublet_scores" + COMPUTED
    of = f"{scored} of {int(np.count_nonzero(sizes[1:]))} samples" if len(sizes) > 2 else "all cells"
    return (name, scores), f"computed from the counts of {of} (Scrublet's method)"


def counts_of(counts: SparseDraft, cells: NDArray[np.int64]):  # type: ignore[no-untyped-def]  # noqa: ANN201 SciPy has no types
    """Return some cells' counts in memory, SciPy's compressed rows; no stored zeros, genes ascending."""
    from scipy.sparse import csr_matrix  # noqa: PLC0415 heavy

    starts, lengths = counts.indptr[cells], np.diff(counts.indptr)[cells]
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    where: NDArray[np.int64] | slice
    if len(cells) and cells[-1] - cells[0] == len(cells) - 1 and bool(np.all(np.diff(cells) == 1)):
        where = slice(int(starts[0]), int(starts[0] + indptr[-1]))
    else:
        where = np.repeat(starts - indptr[:-1], lengths) + np.arange(int(indptr[-1]))
    rows = csr_matrix(
        (np.array(counts.values[where]), np.array(counts.columns[where]), indptr),
        shape=(len(cells), counts.n_columns),
    )
    rows.eliminate_zeros()
    rows.sort_indices()
    return rows
