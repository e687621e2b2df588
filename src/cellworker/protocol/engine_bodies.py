"""The requests that the engine answers (contract sections 5 and 7): what `prepare` makes of a body.

They are the original's, so that either engine can be asked the same question. R cannot tell one value from a list of
one, so a bare value is taken where a list is wanted. Unknown fields are tolerated.
"""

from typing import Annotated, Any, Literal

from msgspec import Meta, Raw, Struct, field

from cellworker.protocol.bodies import CellId, ClusterConfig, Clustering, Count, Direction, GeneThreshold, Pagination

__all__ = [
    "AnnotatedClass",
    "AnnotatedObjectRequest",
    "BackgroundGenesRequest",
    "BatchDifferentialExpressionRequest",
    "CassiaRequest",
    "CellCycleRequest",
    "ClusterCellsRequest",
    "ComparedCells",
    "DifferentialExpressionRequest",
    "DotPlotRequest",
    "EmbeddingRequest",
    "ExpressionCellSetsRequest",
    "GeneExpressionRequest",
    "ListGenesRequest",
    "MarkerHeatmapRequest",
    "MetadataRequest",
    "NormalizedExpressionRequest",
    "PseudoTimeRequest",
    "RequestedClass",
    "RequestedSet",
    "ScTypeRequest",
    "StartingNodesRequest",
    "TrajectoryEmbedding",
    "TypedClass",
]


class GeneExpressionRequest(Struct):
    """``runExpression``. `cell_ids` None: every cell of the experiment."""

    genes: list[str] | str
    cell_ids: list[CellId] | CellId | None = field(name="cellIds", default=None)


class ListGenesRequest(Struct):
    """``listGenes``."""

    order_by: str | None = field(name="orderBy", default=None)
    order_direction: Direction = field(name="orderDirection", default="ASC")
    offset: Count = 0
    limit: Count | None = None
    gene_names_filter: str | None = field(name="geneNamesFilter", default=None)


class MetadataRequest(Struct):
    """``getDoubletScore`` and its three siblings: no fields."""


class EmbeddingRequest(Struct):
    """``getEmbedding``."""

    type: Annotated[str, Meta(min_length=1)]
    use_saved: bool = False
    config: dict[str, Any] | list[Any] | None = None


class ExpressionCellSetsRequest(Struct):
    """``getExpressionCellSet``. `used_colors`: colours that the new set should not take."""

    genes_config: list[GeneThreshold] | GeneThreshold = field(name="genesConfig")
    used_colors: list[str] = field(name="usedColors", default_factory=list)


class NormalizedExpressionRequest(Struct):
    """``GetNormalizedExpression``. `subset_by` None, or `apply_subset` false: the whole matrix."""

    subset_by: list[CellId] | CellId | None = field(name="subsetBy", default=None)
    apply_subset: bool = field(name="applySubset", default=False)


class ComparedCells(Struct):
    """The cells of one comparison, by id; ids that quality control removed may be among them."""

    base_cells: list[CellId] | CellId = field(name="baseCells")
    background_cells: list[CellId] | CellId = field(name="backgroundCells")


class DifferentialExpressionRequest(ComparedCells):
    """``DifferentialExpression``."""

    genes_only: bool = field(name="genesOnly", default=False)
    comparison_type: Literal["within", "between"] = field(name="comparisonType", default="within")
    pagination: Pagination | None = None


class BatchDifferentialExpressionRequest(Struct):
    """``BatchDifferentialExpression``, a path that the original lacks: None stands for a comparison without cells."""

    comparisons: list[ComparedCells | None]
    comparison_type: Literal["within", "between"] = field(name="comparisonType", default="within")


class BackgroundGenesRequest(ComparedCells):
    """``getBackgroundExpressedGenes``."""


class ClusterCellsRequest(Struct):
    """``getClusters``."""

    type: Literal["louvain", "leiden"]
    config: ClusterConfig = field(default_factory=ClusterConfig)


class RequestedSet(Struct):
    """A cell set: its name and cells."""

    name: str
    cell_ids: list[CellId] | CellId | None = field(name="cellIds", default=None)


class RequestedClass(Struct):
    """A class of cell sets."""

    children: list[RequestedSet] = []


class MarkerHeatmapRequest(Struct):
    """``runMarkerHeatmap``."""

    n_genes: Annotated[int, Meta(ge=1)] = field(name="nGenes")
    cell_sets: RequestedClass = field(name="cellSets")


class DotPlotRequest(Struct):
    """``runDotPlot``. `filter_by` counts only with `apply_filter`."""

    group_by: RequestedClass = field(name="groupBy")
    use_marker_genes: bool = field(name="useMarkerGenes", default=False)
    number_of_markers: Count = field(name="numberOfMarkers", default=3)
    custom_genes_list: list[str] | str | None = field(name="customGenesList", default=None)
    filter_by: RequestedSet | None = field(name="filterBy", default=None)
    apply_filter: bool = field(name="applyFilter", default=False)


class CellCycleRequest(Struct):
    """``CellCycleScoring``: no fields."""


class AnnotatedClass(RequestedClass):
    """A class of cell sets with its name."""

    name: str = ""


class ScTypeRequest(Struct):
    """``ScTypeAnnotate``. `cell_sets`: the classes by key; only the clusters need their cells."""

    species: str
    tissue: str
    cell_sets: dict[str, AnnotatedClass] = field(name="cellSets")


class CassiaRequest(ScTypeRequest):
    """``CASSIAAnnotate``."""

    additional_info: str | None = field(name="additionalInfo", default=None)


class TypedClass(AnnotatedClass):
    """A class of cell sets with its name and type."""

    type: str | None = None


class AnnotatedObjectRequest(Struct):
    """``DownloadAnnotSeuratObject``.

    `cell_sets`: all classes by key. `embedding`: the JSON text of a GetEmbedding result, null for none; R's engine is
    sent pairs of "NA" where a cell has none.
    """

    cell_sets: dict[str, TypedClass] = field(name="cellSets")
    embedding_method: str = field(name="embeddingMethod")
    is_obj2s: bool = field(name="isObj2s", default=False)
    embedding: Raw = Raw(b"null")
    format: str = "rds"


class TrajectoryEmbedding(Struct):
    """How the embedding of a trajectory was made."""

    method: str = "umap"
    method_settings: dict[str, Any] = field(name="methodSettings", default_factory=dict)


class StartingNodesRequest(Struct):
    """``runTrajectoryAnalysisStartingNodesTask``.

    `embedding` is the result of GetEmbedding, by cell id; a cell without a place is null, [], or ["NA", "NA"].
    """

    embedding: Raw
    cell_ids: list[CellId] | CellId
    embedding_settings: TrajectoryEmbedding = field(default_factory=TrajectoryEmbedding)
    clustering_settings: Clustering = field(default_factory=Clustering)


class PseudoTimeRequest(StartingNodesRequest):
    """``runTrajectoryAnalysisPseudoTimeTask``. `root_nodes`: positions in the answer to the starting nodes."""

    root_nodes: list[Count] | Count = field(default_factory=list)
