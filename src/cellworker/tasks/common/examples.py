"""Shared parts of example bodies."""

from typing import Any

import numpy as np

from cellworker.experiment.cell_sets import CellClass, CellSets
from cellworker.experiment.model import Categorical, Experiment
from cellworker.tasks.task import ExampleParts

__all__ = ["UI_LAYOUT", "comparison_example", "example_parts"]

UI_LAYOUT = {"minimumDistance": 0.3, "distanceMetric": "cosine"}
"""Parameters of a UMAP as the platform's UI sends them."""


def comparison_example(parts: ExampleParts) -> dict[str, Any]:
    """Return the body that compares one cluster with all other cells."""
    return {"cellSet": parts.first_cluster, "compareWith": "rest", "basis": "all", "comparisonType": "within"}


def example_parts(experiment: Experiment, cell_sets: CellSets) -> ExampleParts:
    """Look up the names for example bodies."""
    clusters = _or_any(cell_sets.clusters, cell_sets)
    samples = _or_any(cell_sets.find_class("sample"), cell_sets)
    saved = experiment.misc.default_reduction or "umap"
    return ExampleParts(
        genes=_lively_genes(experiment),
        cell_class=clusters.key if clusters else "louvain",
        clusters=[child.key for child in clusters.children] if clusters else [],
        samples=[child.key for child in samples.children] if samples else [],
        reduction=saved,
        is_saved=saved in experiment.reductions,
        column=_labelled_column(experiment),
        stored=next(iter(experiment.stored), "results"),
    )


def _labelled_column(experiment: Experiment) -> str:
    names = list(experiment.metadata)
    return next(
        (name for name in names if isinstance(experiment.metadata[name], Categorical)), (names or ["samples"])[0]
    )


def _or_any(found: CellClass | None, cell_sets: CellSets) -> CellClass | None:
    """Return the class, else the first that has sets."""
    return found or next((item for item in cell_sets.classes if item.children), None)


def _lively_genes(experiment: Experiment) -> list[str]:
    """Return the names of the genes that vary most, or that most cells express."""
    if experiment.dispersions is not None:
        order = np.argsort(-np.nan_to_num(np.asarray(experiment.dispersions.dispersions, np.float64), nan=-np.inf))
        names = [experiment.dispersions.names[i] for i in order[:50].tolist()]
        known = [name for name in names if name in experiment.genes.by_name]
        if known:
            return known
    cells_per_gene = np.diff(np.asarray(experiment.data.indptr))
    return [experiment.genes.names[i] for i in np.argsort(-cells_per_gene, kind="stable")[:10].tolist()]
