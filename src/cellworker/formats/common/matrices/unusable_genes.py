"""Leaves out genes with missing or infinite values, where the user wants that."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cellworker.experiment.draft import ExperimentDraft, SparseDraft
from cellworker.experiment.model import Dispersions, Genes
from cellworker.formats.common.findings import Findings
from cellworker.formats.common.matrices.sparse import assemble, blocks
from cellworker.formats.common.scratch import Scratch

__all__ = ["leave_out_unusable"]


def leave_out_unusable(draft: ExperimentDraft, findings: Findings, scratch: Scratch, *, drop: bool) -> ExperimentDraft:
    """Return the experiment without the genes that cannot be tested; as it is where that was not asked for.

    The writer of the store handles columns outside a matrix.
    """
    if not drop:
        return draft
    bad = _unusable(draft.data) | (_unusable(draft.counts) if draft.counts is not None else False)
    if not bad.any():
        return draft
    names = [draft.genes.names[i] for i in np.flatnonzero(bad).tolist()]
    if bad.all():
        findings.error(
            "genes", found="values that are missing or infinite in every gene", expected="finite values",
            advice="compute the matrix again",
        )  # fmt: skip
        return draft
    shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    findings.fallback(
        "genes", found=f"values that are missing or infinite in {len(names)} of {len(bad)} genes: {shown}",
        advice="these genes are left out",
    )  # fmt: skip
    return _without(draft, bad, findings, scratch)


def _unusable(matrix: SparseDraft) -> NDArray[np.bool_]:
    out = np.zeros(matrix.n_columns, np.bool_)
    for start, end in blocks(len(matrix.values)):
        strange = np.flatnonzero(~np.isfinite(matrix.values[start:end]))
        columns = matrix.columns[start:end][strange]
        out[columns[(columns >= 0) & (columns < matrix.n_columns)]] = True
    return out


def _without(draft: ExperimentDraft, bad: NDArray[np.bool_], findings: Findings, scratch: Scratch) -> ExperimentDraft:
    places = np.where(bad, -1, np.cumsum(~bad) - 1).astype(np.int64)
    kept = np.flatnonzero(~bad).tolist()

    def filtered(matrix: SparseDraft, field: str) -> SparseDraft:
        n_cells = len(matrix.indptr) - 1
        return assemble([(matrix, np.arange(n_cells), places)], (n_cells, len(kept)), field, findings, scratch)

    genes = draft.genes
    left_out = {genes.ids[i] for i in np.flatnonzero(bad).tolist()}
    changed = replace(
        draft,
        genes=Genes(*([names[i] for i in kept] for names in (genes.ids, genes.names, genes.original_names))),
        data=filtered(draft.data, "data"),
        counts=filtered(draft.counts, "counts") if draft.counts is not None else None,
        origin=replace(draft.origin, fallbacks=findings.fallbacks),
        extra={**draft.extra, "used": {}},  # no matrix of the file is served as it is
    )
    if draft.scaled_genes is not None and draft.scaled_values is not None:
        known = places[draft.scaled_genes] >= 0
        changed.scaled_genes = places[draft.scaled_genes][known].astype(np.int32)
        changed.scaled_values = np.ascontiguousarray(draft.scaled_values[:, known])
    table = draft.dispersions
    if table is not None:
        rows = [i for i, gene in enumerate(table.ids) if gene not in left_out]
        values = np.asarray(table.dispersions)[rows]
        changed.dispersions = Dispersions([table.names[i] for i in rows], [table.ids[i] for i in rows], values)
    return changed
