"""The score of a gene set in every cell, Seurat's way (``AddModuleScore``) or scanpy's (``score_genes``)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from msgspec import Meta, Struct, field
from numpy.typing import NDArray

from cellworker.analysis.annotation.module_scores import ModuleError, control_genes, mean_expression
from cellworker.analysis.annotation.scanpy_scores import scanpy_controls
from cellworker.analysis.statistics.variable_genes import gene_totals
from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.model import Experiment, Genes
from cellworker.protocol.validation import Text
from cellworker.tasks.common.compared_cells import check_values
from cellworker.tasks.common.result_cache import kept
from cellworker.tasks.task import Context

__all__ = ["GeneSetScore", "ScoredCells", "known_genes", "score_cells"]

_STAGE = "Scoring the genes"
_DEFAULTS = {"seurat": (100, 24, 1), "scanpy": (50, 25, 0)}
_READING = 0.7  # rough share of the time: the mean of every gene


class GeneSetScore(Struct):
    """The method of scoring a gene set; missing fields are the method's defaults.

    `n_controls` is Seurat's ``ctrl`` (100) and scanpy's ``ctrl_size`` (50), `n_bins` ``nbin`` (24) and ``n_bins`` (25),
    `seed` ``seed`` (1) and ``random_state`` (0).
    """

    genes: Annotated[list[Text], Meta(min_length=1, max_length=5000)]
    method: Literal["seurat", "scanpy"] = "seurat"
    n_controls: Annotated[int, Meta(ge=1, le=100_000)] | None = field(name="nControls", default=None)
    n_bins: Annotated[int, Meta(ge=2, le=1000)] | None = field(name="nBins", default=None)
    seed: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None

    def settings(self) -> tuple[int, int, int]:
        """Return the number of controls and of bins, and the seed."""
        given = (self.n_controls, self.n_bins, self.seed)
        controls, bins, seed = (
            default if value is None else value for value, default in zip(given, _DEFAULTS[self.method], strict=True)
        )
        return controls, bins, seed


@dataclass(frozen=True, slots=True)
class ScoredCells:
    """Scores, and the genes behind them.

    Attributes
    ----------
    values
        float64 ``(n_cells,)``.
    genes
        Positions of the set's genes, int64.
    unknown
        Names that no gene has.
    controls
        Positions of the control genes, int64, ascending.
    """

    values: NDArray[np.float64]
    genes: NDArray[np.int64]
    unknown: list[str]
    controls: NDArray[np.int64]


def known_genes(genes: Genes, wanted: Sequence[str]) -> tuple[list[int], list[str]]:
    """Return the genes of some names, each once, in the order of the names, and the names that no gene has.

    A name means the gene of that name, else the gene of that id, else the first gene whose name differs only by case.
    """
    found: dict[int, None] = {}
    unknown = []
    for name in wanted:
        place = genes.by_name.get(name, genes.by_id.get(name))
        if place is None:
            place = next(iter(genes.by_upper_name.get(name.strip().upper(), ())), None)
        if place is None:
            unknown.append(name)
        else:
            found[place] = None
    return list(found), unknown


def score_cells(experiment: Experiment, asked: GeneSetScore, context: Context, what: str) -> ScoredCells:
    """Score every cell.

    Parameters
    ----------
    what
        The request's field, for messages.

    Raises
    ------
    WorkerError
        ``R_WORKER_GENE_NOT_FOUND`` when no gene is known; ``EXPERIMENT_UNSUPPORTED`` when values are missing;
        ``INVALID_INPUT`` when there are too few genes for the controls or bins.
    """
    check_values(experiment)
    genes, unknown = known_genes(experiment.genes, asked.genes)
    if not genes:
        raise WorkerError(ErrorCode.R_WORKER_GENE_NOT_FOUND, f"Gene(s): {', '.join(asked.genes[:20])} not found!")
    n_controls, n_bins, seed = asked.settings()
    means = _means(experiment, context)
    try:
        if asked.method == "seurat":
            (controls,) = control_genes(means, [genes], n_controls, n_bins=n_bins, seed=seed)
        else:
            controls = scanpy_controls(means, genes, n_controls, n_bins=n_bins, seed=seed)
    except ModuleError as error:
        message = f"{what}: {error}, among {len(means):,} genes; ask for fewer controls (nControls) or bins (nBins)"
        other = "; or score the scanpy way" if asked.method == "seurat" else ""
        raise WorkerError(ErrorCode.INVALID_INPUT, f"{message}{other}.") from None
    data = experiment.data
    positions, total = np.asarray(genes, np.int64), len(genes) + len(controls)
    parts, before = [], 0
    for side in (positions, controls):
        parts.append(
            mean_expression(
                (data.indptr, data.cells, data.values), side, experiment.n_cells,
                lambda i, before=before: context.progress(_STAGE, _READING + (1 - _READING) * (before + i) / total),  # type: ignore[misc]
            )
        )  # fmt: skip
        before += len(side)
    return ScoredCells(parts[0] - parts[1], positions, unknown, controls)


def _means(experiment: Experiment, context: Context) -> NDArray[np.float64]:
    """Mean of each gene, summed cell by cell as in both programs: near ties decide which genes are drawn."""
    return kept(context.kept, f"means-{experiment.key}", lambda: {"means": _summed(experiment, context)})["means"]


def _summed(experiment: Experiment, context: Context) -> NDArray[np.float64]:
    by_cell = experiment.data_by_cell
    sums = gene_totals(
        by_cell.genes, by_cell.values, n_genes=by_cell.n_genes, threads=context.threads,
        progress=lambda done: context.progress(_STAGE, _READING * done),
    )  # fmt: skip
    return np.asarray(sums / max(1, experiment.n_cells))
