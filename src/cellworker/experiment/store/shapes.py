"""Checks that the parts of an experiment fit each other, before they are written."""

from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.draft import ExperimentDraft
from cellworker.experiment.model import Categorical

__all__ = ["check_shapes"]


def check_shapes(draft: ExperimentDraft) -> None:
    """Refuse parts whose shapes do not match.

    Raises
    ------
    WorkerError
        ``EXPERIMENT_UNREADABLE`` with all that do not fit.
    """
    n_cells, n_genes = len(draft.cell_ids), len(draft.genes)
    problems = []

    def expect(what: str, found: int, wanted: int) -> None:
        if found != wanted:
            problems.append(f"{what}: {found} entries, expected {wanted}")

    expect("the barcodes", len(draft.barcodes), n_cells)
    expect("the gene names", len(draft.genes.names), n_genes)
    expect("the original gene names", len(draft.genes.original_names), n_genes)
    labels = dict(draft.metadata)
    if draft.identities is not None:
        labels["identities"] = draft.identities
    for name, column in labels.items():
        codes = column.codes if isinstance(column, Categorical) else column
        expect(f"the metadata column {name}", len(codes), n_cells)
        if (
            isinstance(column, Categorical)
            and len(codes)
            and not -1 <= codes.min() <= codes.max() < len(column.categories)
        ):
            problems.append(f"the metadata column {name}: codes outside its {len(column.categories)} labels")
    for name, reduction in draft.reductions.items():
        expect(f"the reduction {name}", len(reduction.values), n_cells)
    for name, image in draft.images.items():
        expect(f"the image {name}", len(image.cells), len(image.points))
        if len(image.cells) and not 0 <= image.cells.min() <= image.cells.max() < n_cells:
            problems.append(f"the image {name}: cells that are not in the experiment")
    if draft.scaled_values is not None and draft.scaled_genes is not None:
        positions = draft.scaled_genes
        expect("the scaled data's cells", len(draft.scaled_values), n_cells)
        expect("the scaled data's genes", draft.scaled_values.shape[1], len(positions))
        if len(positions) and not 0 <= positions.min() <= positions.max() < n_genes:
            problems.append("the scaled data: genes that are not in the experiment")
    if draft.dispersions is not None:
        expect("the dispersions' names", len(draft.dispersions.names), len(draft.dispersions.dispersions))
        expect("the dispersions' ids", len(draft.dispersions.ids), len(draft.dispersions.dispersions))
    problems += _stored_problems(draft)
    if problems:
        message = f"the parts of the experiment do not fit each other ({'; '.join(problems)}); export it again"
        raise WorkerError(ErrorCode.EXPERIMENT_UNREADABLE, message)


def _stored_problems(draft: ExperimentDraft) -> list[str]:
    problems = []
    for name, table in draft.stored.items():
        for title, column in table.columns.items():
            codes = column.codes if isinstance(column, Categorical) else column
            labels = len(column.categories) if isinstance(column, Categorical) and len(codes) else 0
            if len(codes) != table.n_rows or (labels and not -1 <= codes.min() <= codes.max() < labels):
                problems.append(f"the column {title} of the stored result {name}: another length, or codes of no label")
    return problems
