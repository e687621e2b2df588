"""The method of each task and its source, for `cellworker tasks NAME`."""

from collections.abc import Mapping
from typing import Final, NamedTuple

__all__ = ["METHODS_OF_TASKS", "Method"]


class Method(NamedTuple):
    """A method in one sentence, and its source; empty where nothing is estimated."""

    words: str
    reference: str = ""


_UMAP: Final = "McInnes, Healy and Melville 2018, arXiv:1802.03426; van der Maaten and Hinton, JMLR 2008 (t-SNE)"
_LOUVAIN: Final = (
    "Blondel et al. 2008, doi:10.1088/1742-5468/2008/10/P10008; Traag et al. 2019, doi:10.1038/s41598-019-41695-z"
)
_WILCOXON: Final = "Wilcoxon 1945, doi:10.2307/3001968; Law et al. 2014, doi:10.1186/gb-2014-15-2-r29 (limma-voom)"
_MONOCLE: Final = "Cao et al. 2019, doi:10.1038/s41586-019-0969-x (Monocle 3)"
_MODULES: Final = "Tirosh et al. 2016, doi:10.1126/science.aad0501"
_COLUMN: Final = Method("A column of the cells' metadata as it lies in the file.")
_COMPARED: Final = Method(
    "Within samples Wilcoxon's rank-sum test of every gene with correction for ties; between samples limma-voom on "
    "counts summed per sample. p-values are adjusted by Benjamini and Hochberg's method.",
    _WILCOXON,
)
_MARKERS: Final = Method("The genes that tell each group from the others by Wilcoxon's rank-sum test.", _WILCOXON)

METHODS_OF_TASKS: Final[Mapping[str, Method]] = {
    "GetEmbedding": Method("A saved reduction, or UMAP, t-SNE or the components of the active reduction.", _UMAP),
    "ListGenes": Method("Dispersions standardised by a variance-stabilising fit, or as the file has them.",
                        "Stuart et al. 2019, doi:10.1016/j.cell.2019.05.031"),
    "DifferentialExpression": _COMPARED,
    "BatchDifferentialExpression": _COMPARED,
    "GeneExpression": Method("Log-normalised values as they are, and z-scores of values cut at a quantile."),
    "GetBackgroundExpressedGenes": Method("Genes with counts in the cells of either group."),
    "ClusterCells": Method("Louvain or Leiden on the graph of shared nearest neighbours.", _LOUVAIN),
    "DotPlot": Method("Means of expression, scaled across groups, and shares of cells above 0."),
    "GetDoubletScore": Method("A column of the cells' metadata; made from the counts where the file has none.",
                              "Wolock, Lopez and Klein 2019, doi:10.1016/j.cels.2018.11.005 (Scrublet)"),
    "GetMitochondrialContent": _COLUMN,
    "GetNGenes": _COLUMN,
    "GetNUmis": _COLUMN,
    "MarkerHeatmap": _MARKERS,
    "GetTrajectoryAnalysisStartingNodes": Method("A principal graph learnt by reversed graph embedding.", _MONOCLE),
    "GetTrajectoryAnalysisPseudoTime": Method("Distances along the principal graph from the root nodes.", _MONOCLE),
    "GetExpressionCellSets": Method("Cells whose expression is above or below each gene's threshold."),
    "GetNormalizedExpression": Method("The log-normalised values as they are, genes by cells."),
    "ScTypeAnnotate": Method("Scores of positive and negative marker genes, weighted by their sensitivity.",
                             "Ianevski, Giri and Aittokallio 2022, doi:10.1038/s41467-022-28803-w"),
    "CASSIAAnnotate": Method("A language model names the type by the best markers of each cluster.",
                             "Xie et al. 2025, doi:10.1038/s41467-025-67084-x (CASSIA)"),
    "CellCycleScoring": Method("Scores of S and G2/M genes less those of control genes of like expression.", _MODULES),
    "DownloadAnnotSeuratObject": Method("The object as it is, with the cell sets and the embedding added."),
    "ListCellColumns": _COLUMN,
    "GetCellColumn": _COLUMN,
    "ScoreGenes": Method("The mean of a gene set less that of control genes of like expression.", _MODULES),
    "GetGroupSummaries": Method("Quantiles (R's type 7), a Gaussian kernel's density, histograms and counts by group.",
                                "Hyndman and Fan 1996, doi:10.2307/2684934"),
    "GetComposition": Method("Counts of cells of each pair of groups."),
    "ClusterSubset": Method("Louvain or Leiden on the neighbours among the chosen cells.", _LOUVAIN),
    "GetSubsetEmbedding": Method("UMAP, t-SNE or principal components of the chosen cells.", _UMAP),
    "ListStoredResults": Method("What the file holds in uns or misc."),
    "GetStoredResult": Method("What the file holds, as it is."),
}  # fmt: skip
