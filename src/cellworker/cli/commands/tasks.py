"""`cellworker tasks`."""

import argparse
import json
from typing import TypedDict

from cellworker.plain_text import say

__all__ = ["TaskRow", "command", "task_rows"]

_ABOUT = {
    "GetEmbedding": "coordinates of the cells: UMAP, t-SNE, principal components, saved ones, images of tissues",
    "ListGenes": "the genes with their dispersions: sorted, filtered, in pages",
    "DifferentialExpression": "genes that differ between two groups of cells",
    "BatchDifferentialExpression": "the same for many pairs of groups at once",
    "GeneExpression": "expression of chosen genes in every cell, with their statistics",
    "GetBackgroundExpressedGenes": "the genes that are expressed in two groups at all",
    "ClusterCells": "Louvain or Leiden clusters",
    "DotPlot": "mean expression and share of expressing cells, by gene and group",
    "GetDoubletScore": "the doublet score of every cell",
    "GetMitochondrialContent": "the mitochondrial share of every cell",
    "GetNGenes": "how many genes were found in every cell (log10)",
    "GetNUmis": "how many molecules were counted in every cell (log10)",
    "MarkerHeatmap": "the marker genes of every cluster",
    "GetTrajectoryAnalysisStartingNodes": "the graph along which the cells develop",
    "GetTrajectoryAnalysisPseudoTime": "how far every cell has come along it",
    "GetExpressionCellSets": "the cells in which chosen genes are above or below thresholds, as a new cell set",
    "GetNormalizedExpression": "the normalised matrix, or a part of it, as a CSV file",
    "ScTypeAnnotate": "cell types from marker tables",
    "CASSIAAnnotate": "cell types from a language model",
    "CellCycleScoring": "the phase of the cell cycle of every cell",
    "DownloadAnnotSeuratObject": "the object with its cell sets and embedding, as an .rds or .h5ad file",
}


class TaskRow(TypedDict):
    """What is told about one task."""

    task: str
    about: str


def task_rows() -> list[TaskRow]:
    """Return every task of the platform, in the contract's order."""
    return [{"task": name, "about": about} for name, about in _ABOUT.items()]


def command(options: argparse.Namespace) -> int:
    """Print the tasks, as text or JSON."""
    rows = task_rows()
    if options.json:
        say(*json.dumps(rows, indent=2).split("\n"))
        return 0
    for row in rows:
        say(f"{row['task']:<36} {row['about']}")
    return 0
