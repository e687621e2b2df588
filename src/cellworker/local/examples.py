"""An example body of every task, with genes and cell sets that the experiment really has."""

from typing import Any

import numpy as np

from cellworker.experiment.cell_sets import CellClass, CellSets
from cellworker.experiment.model import Experiment

__all__ = ["example_bodies"]


def example_bodies(experiment: Experiment, cell_sets: CellSets) -> dict[str, dict[str, Any]]:
    """Return the bodies by task, in the order of the contract; they are what the platform's UI would send."""
    genes = _lively_genes(experiment)
    clusters = _or_any(cell_sets.clusters, cell_sets)
    samples = _or_any(cell_sets.find_class("sample"), cell_sets)
    cluster_keys = [child.key for child in clusters.children] if clusters else []
    sample_keys = [child.key for child in samples.children] if samples else []
    root = clusters.key if clusters else "louvain"
    first = (cluster_keys or ["louvain-0"])[0]
    saved = experiment.misc.default_reduction or "umap"
    comparison = {"cellSet": first, "compareWith": "rest", "basis": "all", "comparisonType": "within"}
    umap = {"minimumDistance": 0.3, "distanceMetric": "cosine"}
    trajectory = {
        "embedding": {"method": saved, "methodSettings": umap},
        "clustering": {"method": "louvain", "resolution": 0.8},
        "cellSets": [root],
    }
    bodies: dict[str, dict[str, Any]] = {
        "GetEmbedding": {"type": saved, "useSaved": saved in experiment.reductions, "config": umap},
        "ListGenes": {
            "selectFields": ["gene_names", "dispersions"],
            "orderBy": "dispersions",
            "orderDirection": "DESC",
            "offset": 0,
            "limit": 20,
        },
        "DifferentialExpression": comparison,
        "BatchDifferentialExpression": {**comparison, "cellSet": cluster_keys[:2] or [first], "basis": ["all"]},
        "GeneExpression": {"genes": genes[:3]},
        "GetBackgroundExpressedGenes": comparison,
        "ClusterCells": {
            "cellSetName": "Louvain clusters",
            "type": "louvain",
            "cellSetKey": "louvain",
            "config": {"resolution": 0.8},
        },
        "DotPlot": {
            "useMarkerGenes": False,
            "numberOfMarkers": 3,
            "customGenesList": genes[:3],
            "groupBy": root,
            "filterBy": {"group": "All", "key": "All"},
        },
        "GetDoubletScore": {},
        "GetMitochondrialContent": {},
        "GetNGenes": {},
        "GetNUmis": {},
        "MarkerHeatmap": {"nGenes": 5, "selectedCellSet": root},
        "GetTrajectoryAnalysisStartingNodes": trajectory,
        "GetTrajectoryAnalysisPseudoTime": {**trajectory, "rootNodes": [0]},
        "GetExpressionCellSets": {
            "genesConfig": [{"geneName": genes[0], "comparisonType": "greaterThan", "thresholdValue": 0.5}]
            if genes
            else []
        },
        "GetNormalizedExpression": {"subsetBy": {"sample": sample_keys[:1], root: cluster_keys[:1]}},
        "ScTypeAnnotate": {"species": "human", "tissue": "Immune system"},
        "CASSIAAnnotate": {"species": "Human", "tissue": "Peripheral blood"},
        "CellCycleScoring": {},
        "DownloadAnnotSeuratObject": {"embeddingMethod": "umap", "isObj2s": True},
    }
    return {name: {"name": name, **body} for name, body in bodies.items()}


def _or_any(found: CellClass | None, cell_sets: CellSets) -> CellClass | None:
    """Return the class, else the first that has sets at all."""
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
