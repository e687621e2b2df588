"""Types of the task results that the explorer reads; `scripts/make_web_types.py` makes TypeScript from them.

A test decodes real results with them and refuses unknown fields, so that neither side can drift.
"""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from cellworker.local.page.own_results import OWN_RESULTS

__all__ = ["RESULTS"]

ByCell = list[float | None]
Points = list[list[float] | None]


class ListedGenes(Struct, forbid_unknown_fields=True):
    """ListGenes: parallel columns of one page."""

    total: int
    gene_names: list[str]
    dispersions: list[float | None]


class GeneStatistics(Struct, forbid_unknown_fields=True, rename="camel"):
    """Statistics over all cells, by gene."""

    raw_mean: list[float | None]
    raw_stdev: list[float | None]
    truncated_min: list[float | None]
    truncated_max: list[float | None]


class SparseColumns(Struct, forbid_unknown_fields=True):
    """Compressed columns: column ``g`` holds ``values[ptr[g]:ptr[g + 1]]`` in the rows ``index[...]``."""

    values: list[float | None]
    index: list[int]
    ptr: list[int]
    size: list[int]


class ExpressionOfGenes(Struct, forbid_unknown_fields=True, rename="camel"):
    """GeneExpression."""

    ordered_gene_names: list[str]
    stats: GeneStatistics
    raw_expression: SparseColumns
    cell_ids: list[int]


class TestedGenes(Struct, forbid_unknown_fields=True):
    """The table of a comparison: parallel columns. Which there are depends on the kind of comparison."""

    gene_names: list[str]
    Gene: list[str]
    logFC: list[float | None]  # noqa: N815 - the wire's
    p_val: list[float | None] | None = None
    p_val_adj: list[float | None] | None = None
    pct_1: list[float | None] | None = None
    pct_2: list[float | None] | None = None
    auc: list[float | None] | None = None
    AveExpr: list[float | None] | None = None


class ComparedCells(Struct, forbid_unknown_fields=True):
    """DifferentialExpression."""

    total: int
    data: TestedGenes


class ComparedInBatch(Struct, forbid_unknown_fields=True):
    """One comparison of BatchDifferentialExpression; a sentence where it had too few cells."""

    total: int
    data: TestedGenes | str


class Dots(Struct, forbid_unknown_fields=True, rename="camel"):
    """DotPlot: parallel vectors, positions in the names."""

    cell_sets_idx: list[float]
    gene_name_idx: list[float]
    avg_expression: list[float | None]
    cells_percentage: list[float | None]
    cell_sets_names: list[str]
    gene_names: list[str]


class OrderedGenes(Struct, forbid_unknown_fields=True, rename="camel"):
    """MarkerHeatmap."""

    ordered_gene_names: list[str]


class BackgroundGenes(Struct, forbid_unknown_fields=True):
    """GetBackgroundExpressedGenes."""

    genes: list[str]


class TrajectoryGraph(Struct, forbid_unknown_fields=True, rename="camel"):
    """GetTrajectoryAnalysisStartingNodes: node ``i`` is at ``x[i], y[i]``, linked to later nodes."""

    connected_nodes: list[list[float]]
    x: list[float]
    y: list[float]


class PseudoTimes(Struct, forbid_unknown_fields=True):
    """GetTrajectoryAnalysisPseudoTime: by cell id."""

    pseudotime: ByCell


RESULTS: Mapping[str, Any] = {
    "GetEmbedding": Points,
    "ListGenes": ListedGenes,
    "DifferentialExpression": ComparedCells,
    "BatchDifferentialExpression": list[ComparedInBatch],
    "GeneExpression": ExpressionOfGenes,
    "GetBackgroundExpressedGenes": BackgroundGenes,
    "DotPlot": Dots,
    "GetDoubletScore": ByCell,
    "GetMitochondrialContent": ByCell,
    "GetNGenes": ByCell,
    "GetNUmis": ByCell,
    "MarkerHeatmap": OrderedGenes,
    "GetTrajectoryAnalysisStartingNodes": TrajectoryGraph,
    "GetTrajectoryAnalysisPseudoTime": PseudoTimes,
    **OWN_RESULTS,
}
"""By task. Tasks that are not listed change cell sets or answer with a file."""
