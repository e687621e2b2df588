"""Parts that an experiment lacks for a task. The task refuses by these functions, and `check` announces the refusal.

Each function inspects an experiment, and returns a `Concern` or None. A task passes it to `require`; `concerns`
collects the concerns of all tasks.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.model import Categorical, Experiment

__all__ = [
    "CLUSTERS",
    "MAPS",
    "Concern",
    "Need",
    "TaskConcern",
    "clusterable",
    "comparable_samples",
    "concerns",
    "counted",
    "full_reduction",
    "mapped",
    "measured",
    "own_graph",
    "placed",
    "rankable",
    "require",
    "sampled",
    "symbols",
    "unusable_genes",
]

_SHOWN = 5
MAPS, CLUSTERS = "embeddings are computed from", "cells are clustered on"
"""What a reduction is for, to end the sentence \"the reduction 'pca', which ...\"."""


@dataclass(frozen=True, slots=True)
class Concern:
    """A problem of an experiment for a purpose.

    Attributes
    ----------
    effect
        "refused": requests fail with `code` and `sentence`. "misleading": requests are answered, and the answers may
        mislead.
    sentence
        The message of a refused request.
    field, found, expected, advice
        For `check`; see `cellworker.formats.common.findings.Problem`. `advice` says what to do.
    """

    effect: Literal["refused", "misleading"]
    code: ErrorCode
    sentence: str
    field: str
    found: str
    expected: str
    advice: str


Need = Callable[[Experiment], Concern | None]


def require(concern: Concern | None) -> None:
    """Raise the error of a concern that refuses.

    Raises
    ------
    WorkerError
        With the concern's code and sentence.
    """
    if concern is not None and concern.effect == "refused":
        raise WorkerError(concern.code, concern.sentence)


def unusable_genes(experiment: Experiment) -> NDArray[np.int64]:
    """Return the positions of genes with normalised values that are missing or infinite, ascending.

    The store holds each gene's values ascending and missing ones last, so the first and the last value suffice.
    """
    indptr, values = experiment.data.indptr, experiment.data.values
    filled = np.flatnonzero(np.diff(indptr))
    usable = np.isfinite(values[indptr[filled + 1] - 1]) & np.isfinite(values[indptr[filled]])
    return filled[~usable]


def rankable(experiment: Experiment) -> Concern | None:
    """Return why rank tests, markers and scores are refused, if values are missing or infinite."""
    genes = unusable_genes(experiment)
    if not len(genes):
        return None
    names = [experiment.genes.names[i] for i in genes[:_SHOWN].tolist()]
    shown = ", ".join(names) + (", ..." if len(genes) > _SHOWN else "")
    how = "leave them out with --drop-genes (setting DROP_GENES=true), or compute the layer again"
    are = "gene has such values" if len(genes) == 1 else "genes have such values"
    return Concern(
        "refused",
        ErrorCode.EXPERIMENT_UNSUPPORTED,
        f"Cells cannot be ranked by values that are missing or infinite, and {len(genes)} {are} ({shown}): {how}.",
        f"{_assay(experiment)} data",
        f"values that are missing or infinite in {len(genes)} genes: {shown}",
        "finite values",
        how,
    )


def counted(experiment: Experiment) -> Concern | None:
    """Return why results from raw counts are refused, if there are no counts."""
    if experiment.counts is not None:
        return None
    return Concern(
        "refused",
        ErrorCode.EXPERIMENT_UNSUPPORTED,
        "Expressed genes are found by raw counts, and the experiment holds none: upload an object with counts.",
        "counts",
        "none",
        "raw counts",
        "keep raw counts in the file, or name them with --counts",
    )


def comparable_samples(experiment: Experiment) -> Concern | None:
    """Comparisons of samples need counts of 0 and above; decimals are accepted, but may mislead."""
    counts = experiment.counts
    field = f"{_assay(experiment)} counts"
    if counts is None:
        return Concern(
            "refused",
            ErrorCode.EXPERIMENT_UNSUPPORTED,
            "Samples are compared by their raw counts, and the experiment holds none: upload an object with counts.",
            "counts",
            "none",
            "raw counts",
            "keep raw counts in the file, or name them with --counts",
        )
    strange = experiment.strange_counts
    for number, what in ((strange.negative, "below 0"), (strange.missing, "missing or infinite")):
        if number:
            return Concern(
                "refused",
                ErrorCode.EXPERIMENT_UNSUPPORTED,
                f"Samples are compared by their raw counts, and {number:,} of the counts are {what}: upload an object "
                "with raw counts, or name the matrix that holds them with --counts.",
                field,
                f"{number} values {what}",
                "counts from 0 up",
                "store raw counts, or name the matrix that holds them with --counts",
            )
    if not strange.fractional:
        return None
    return Concern(
        "misleading",
        ErrorCode.EXPERIMENT_UNSUPPORTED,
        "",
        field,
        f"{strange.fractional} values that are no whole numbers",
        "raw counts",
        "comparisons between samples assume raw counts; corrected counts are taken as they are",
    )


def sampled(experiment: Experiment) -> Concern | None:
    """Comparisons of samples need each cell's sample."""
    if experiment.samples is not None:
        return None
    return Concern(
        "refused",
        ErrorCode.R_WORKER_COLUMN_NOT_FOUND,
        "samples is not computed for this experiment: without samples only cells can be compared.",
        f"{_table(experiment)} samples",
        "no such column",
        "a sample for every cell",
        "name the column with --sample",
    )


def measured(experiment: Experiment, *, column: str) -> Concern | None:
    """Return why a column of numbers is refused, if it is missing."""
    if measured_column(experiment, column) is not None:
        return None
    reason = experiment.origin.reasons.get(column, "")
    return Concern(
        "refused",
        ErrorCode.R_WORKER_COLUMN_NOT_FOUND,
        f"{column} is not computed for this experiment" + (f": {reason}." if ": " in reason else "."),
        f"{_table(experiment)} {column}",
        reason or "no such column",
        "one number from 0 up per cell",
        "",
    )


def measured_column(experiment: Experiment, column: str) -> NDArray[np.float64] | None:
    """Return a numeric column.

    The reader chooses the column (`formats.common.cells.measures`). For an experiment without that choice: Seurat names
    the two count columns after the assay (``nCount_SCT``, ``nFeature_Spatial``), so if the main assay is not named RNA,
    the columns of that assay are used.
    """
    names = [column]
    chosen = experiment.origin.columns.get(column)
    if chosen is not None:
        names = [chosen]
    elif column.endswith("_RNA"):
        names.append(f"{column.removesuffix('_RNA')}_{experiment.origin.assay}")
    for name in names:
        found = experiment.metadata.get(name)
        if found is not None and not isinstance(found, Categorical):
            return found
    return None


def placed(experiment: Experiment, *, name: str | None = None, purpose: str = MAPS) -> Concern | None:
    """Return why maps or clusters are refused, if the reduction `name`, else the active one, lacks a cell.

    `purpose` is `MAPS` or `CLUSTERS`.
    """
    name = name or full_reduction(experiment)
    there = ", ".join(experiment.reductions) or "none"
    found, expected = f"no reduction {name} (there are: {there})", f"the active reduction {name}"
    if name in experiment.reductions:
        finite = np.isfinite(experiment.reductions[name].values).all(axis=1)
        missing = experiment.n_cells - int(np.count_nonzero(finite))
        if not missing:
            return None
        found, expected = f"no coordinates for {missing} of {experiment.n_cells} cells", "coordinates of every cell"
        sentence = f"The reduction {name!r}, which {purpose}, has no coordinates for {missing} of "
        sentence += f"{experiment.n_cells} cells."
    else:
        sentence = f"The experiment's active reduction {name!r}, which {purpose}, is missing: it has {there}."
    advice = "compute principal components and write the file again"
    return Concern("refused", ErrorCode.REDUCTION_NOT_FOUND, sentence, "reductions", found, expected, advice)


def full_reduction(experiment: Experiment) -> str:
    """Return the name of the active reduction; for that of a sketch, the name of the reduction of all cells, if any."""
    active = experiment.misc.active_reduction
    full = active.removesuffix(".sketch")
    return full if full in experiment.reductions else active


def own_graph(experiment: Experiment) -> str | None:
    """Return the name of the object's own graph, which clustering uses, if any."""
    name = f"{experiment.origin.assay}_snn"
    return name if name in experiment.graphs else None


def clusterable(experiment: Experiment) -> Concern | None:
    """Clusters need the object's own graph or coordinates."""
    return None if own_graph(experiment) else placed(experiment, purpose=CLUSTERS)


def mapped(experiment: Experiment) -> Concern | None:
    """Trajectories need a map of the cells, saved or new."""
    saved = experiment.misc.default_reduction
    return None if saved in experiment.reductions else placed(experiment, purpose=MAPS)


def symbols(experiment: Experiment) -> Concern | None:
    """Cell types need gene symbols: half or more of the genes must have one that is no Ensembl id."""
    genes = experiment.genes
    without = [sum(name.startswith("ENS") for name in column) for column in (genes.ids, genes.original_names)]
    if not all(2 * number >= len(genes) for number in without):
        return None
    return Concern(
        "refused",
        ErrorCode.R_WORKER_NO_GENE_SYMBOLS,
        "Features file doesn't contain gene symbols.",
        "genes",
        f"{without[1]} of {len(genes)} symbols that are Ensembl ids",
        "gene symbols",
        "cell-type annotation will be refused; name the features by symbol",
    )


@dataclass(frozen=True, slots=True)
class TaskConcern:
    """A concern of a task.

    Attributes
    ----------
    task
        Its name on the wire.
    when
        The requests that it applies to, in words; empty for all.
    """

    task: str
    when: str
    concern: Concern

    def to_json(self) -> dict[str, str]:
        """Return the concern as plain text."""
        said = self.concern.sentence or f"{self.concern.found}; {self.concern.advice}"
        return {"task": self.task, "requests": self.when or "all", "effect": self.concern.effect, "why": said}


_BETWEEN, _WITHIN = "between samples", "within samples"
_OF_SUBSETS: tuple[tuple[str, Need], ...] = (
    ("by saved components", partial(placed, purpose=MAPS)),
    ("by components of their own", rankable),
)
_NEEDS: dict[str, tuple[tuple[str, Need], ...]] = {
    "GetEmbedding": (("new maps", partial(placed, purpose=MAPS)),),
    "DifferentialExpression": ((_WITHIN, rankable), (_BETWEEN, comparable_samples), (_BETWEEN, sampled)),
    "BatchDifferentialExpression": ((_WITHIN, rankable), (_BETWEEN, comparable_samples), (_BETWEEN, sampled)),
    "GetBackgroundExpressedGenes": (("", counted),),
    "ClusterCells": (("", clusterable),),
    "DotPlot": (("with marker genes", rankable),),
    "GetDoubletScore": (("", partial(measured, column="doublet_scores")),),
    "GetMitochondrialContent": (("", partial(measured, column="percent.mt")),),
    "GetNGenes": (("", partial(measured, column="nFeature_RNA")),),
    "GetNUmis": (("", partial(measured, column="nCount_RNA")),),
    "MarkerHeatmap": (("", rankable),),
    "GetTrajectoryAnalysisStartingNodes": (("", mapped),),
    "GetTrajectoryAnalysisPseudoTime": (("", mapped),),
    "ScTypeAnnotate": (("", symbols),),
    "CASSIAAnnotate": (("", rankable),),
    "CellCycleScoring": (("", rankable),),
    "ScoreGenes": (("", rankable),),
    "ClusterSubset": _OF_SUBSETS,
    "GetSubsetEmbedding": _OF_SUBSETS,
}


def concerns(experiment: Experiment) -> list[TaskConcern]:
    """Return the concerns of every task about an experiment, in the order of the contract."""
    answered: dict[Need, Concern | None] = {}
    out = []
    for task, needs in _NEEDS.items():
        for when, need in needs:
            if need not in answered:
                answered[need] = need(experiment)
            concern = answered[need]
            if concern is not None:
                out.append(TaskConcern(task, when, concern))
    return out


def _assay(experiment: Experiment) -> str:
    return f"assay {experiment.origin.assay}"


def _table(experiment: Experiment) -> str:
    return experiment.origin.table
