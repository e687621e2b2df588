"""The bodies of the 21 tasks as they come over the wire (contract section 5), checked field by field.

Unknown fields are tolerated. What cannot be understood is an ``INVALID_INPUT`` that names the field.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct, field

from cellworker.errors import ErrorCode, WorkerError

__all__ = [
    "BODIES",
    "AnnotationBody",
    "BackgroundGenesBody",
    "BatchDifferentialExpressionBody",
    "CellCycleBody",
    "CellId",
    "ClusterCellsBody",
    "ClusterConfig",
    "Clustering",
    "DifferentialExpressionBody",
    "DotPlotBody",
    "DownloadBody",
    "DownsampleSettings",
    "EmbeddingBody",
    "ExpressionCellSetsBody",
    "Filter",
    "GeneExpressionBody",
    "GeneThreshold",
    "ListGenesBody",
    "MarkerHeatmapBody",
    "MetadataBody",
    "NormalizedExpressionBody",
    "Pagination",
    "PseudoTimeBody",
    "StartingNodesBody",
    "convert",
    "decode_body",
]

CellId = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Count = Annotated[int, Meta(ge=0)]
Text = Annotated[str, Meta(min_length=1)]
Direction = Literal["ASC", "DESC", "asc", "desc"]

T = TypeVar("T", bound=Struct)


class EmbeddingBody(Struct):
    """GetEmbedding."""

    type: Text
    use_saved: bool = field(name="useSaved", default=False)
    config: dict[str, Any] | None = None


class ListGenesBody(Struct):
    """ListGenes. `order_by` of another name keeps the table's order; `select_fields` is accepted and ignored."""

    order_by: str | None = field(name="orderBy", default=None)
    order_direction: Direction = field(name="orderDirection", default="ASC")
    offset: Count = 0
    limit: Count | None = None
    gene_names_filter: str | None = field(name="geneNamesFilter", default=None)
    select_fields: Any = field(name="selectFields", default=None)


class DifferentialExpressionBody(Struct):
    """DifferentialExpression: two sets, compared within all samples or between samples."""

    cell_set: Text = field(name="cellSet")
    compare_with: Text = field(name="compareWith")
    basis: str | None = None
    comparison_type: Literal["within", "between"] = field(name="comparisonType", default="within")
    genes_only: bool = field(name="genesOnly", default=False)


class BatchDifferentialExpressionBody(Struct):
    """BatchDifferentialExpression: several sets or several bases."""

    cell_set: Annotated[list[Text], Meta(min_length=1)] = field(name="cellSet")
    compare_with: Text = field(name="compareWith")
    basis: Annotated[list[str], Meta(min_length=1)]
    comparison_type: Literal["within", "between"] = field(name="comparisonType", default="within")


class DownsampleSettings(Struct):
    """Which cells GeneExpression answers for: given ones, or a sample of a class spread over the grouped classes."""

    selected_cell_set: str | None = field(name="selectedCellSet", default=None)
    grouped_tracks: list[str] = field(name="groupedTracks", default_factory=list)
    cell_ids: list[CellId] | None = field(name="cellIds", default=None)


class GeneExpressionBody(Struct):
    """GeneExpression."""

    genes: list[str]
    downsample_settings: DownsampleSettings | None = field(name="downsampleSettings", default=None)


class BackgroundGenesBody(Struct):
    """GetBackgroundExpressedGenes."""

    cell_set: Text = field(name="cellSet")
    compare_with: Text = field(name="compareWith")
    basis: str | None = None
    comparison_type: str = field(name="comparisonType", default="within")


class ClusterConfig(Struct):
    """How finely to cluster."""

    resolution: Annotated[float, Meta(ge=0)] = 0.5


class ClusterCellsBody(Struct):
    """ClusterCells."""

    type: Literal["louvain", "leiden"]
    cell_set_key: str | None = field(name="cellSetKey", default=None)
    cell_set_name: str | None = field(name="cellSetName", default=None)
    config: ClusterConfig = field(default_factory=ClusterConfig)


class GroupFilter(Struct):
    """One group of a class, or "All"."""

    group: str = "All"
    key: str = "All"


class DotPlotBody(Struct):
    """DotPlot."""

    group_by: Text = field(name="groupBy")
    use_marker_genes: bool = field(name="useMarkerGenes", default=False)
    number_of_markers: Count = field(name="numberOfMarkers", default=3)
    custom_genes_list: list[str] | None = field(name="customGenesList", default=None)
    filter_by: GroupFilter = field(name="filterBy", default_factory=GroupFilter)


class MetadataBody(Struct):
    """GetDoubletScore, GetMitochondrialContent, GetNGenes, GetNUmis: no fields."""


class MarkerHeatmapBody(Struct):
    """MarkerHeatmap."""

    n_genes: Annotated[int, Meta(ge=1)] = field(name="nGenes")
    selected_cell_set: Text = field(name="selectedCellSet")


class StoredEmbedding(Struct):
    """Where the embedding of a trajectory lies. The platform names it; without a name it is computed."""

    method: Text
    etag: str = field(name="ETag", default="")
    method_settings: dict[str, Any] = field(name="methodSettings", default_factory=dict)


class Clustering(Struct):
    """The clustering of a trajectory."""

    method: str = "louvain"
    resolution: float | None = None


class StartingNodesBody(Struct):
    """GetTrajectoryAnalysisStartingNodes."""

    embedding: StoredEmbedding
    cell_sets: list[Text] = field(name="cellSets")
    clustering: Clustering = field(default_factory=Clustering)


class PseudoTimeBody(Struct):
    """GetTrajectoryAnalysisPseudoTime."""

    embedding: StoredEmbedding
    cell_sets: list[Text] = field(name="cellSets")
    root_nodes: list[Count] = field(name="rootNodes")
    clustering: Clustering = field(default_factory=Clustering)


class GeneThreshold(Struct):
    """One condition on one gene. Whole thresholds stay whole: they are shown in the new set's name."""

    gene_name: Text = field(name="geneName")
    comparison_type: Literal["greaterThan", "lessThan"] = field(name="comparisonType")
    threshold_value: int | float = field(name="thresholdValue")


class ExpressionCellSetsBody(Struct):
    """GetExpressionCellSets."""

    genes_config: Annotated[list[GeneThreshold], Meta(min_length=1)] = field(name="genesConfig")


class NormalizedExpressionBody(Struct):
    """GetNormalizedExpression: keys of cell sets by category, of any category names."""

    subset_by: dict[str, list[str] | None] | None = field(name="subsetBy", default=None)


class AnnotationBody(Struct):
    """ScTypeAnnotate and CASSIAAnnotate."""

    species: Text
    tissue: Text
    additional_info: str | None = field(name="additionalInfo", default=None)


class CellCycleBody(Struct):
    """CellCycleScoring: no fields."""


class DownloadBody(Struct):
    """DownloadAnnotSeuratObject. `format` is ours: what kind of file."""

    embedding_method: Text = field(name="embeddingMethod")
    is_obj2s: bool = field(name="isObj2s", default=False)
    embedding_etag: str | None = field(name="embeddingETag", default=None)
    format: str = "rds"


class Filter(Struct):
    """One filter of a paged table."""

    column_name: Text = field(name="columnName")
    type: Literal["numeric", "text"] | None = None
    comparison: Literal["greaterThan", "lessThan"] | None = None
    value: float | None = None
    expression: str | None = None


class Pagination(Struct):
    """``requestProps.pagination``."""

    order_by: str | None = field(name="orderBy", default=None)
    order_direction: Direction = field(name="orderDirection", default="ASC")
    offset: Count = 0
    limit: Count | None = None
    response_key: int | None = field(name="responseKey", default=None)
    filters: list[Filter] = []


BODIES: Mapping[str, type[Struct]] = {
    "GetEmbedding": EmbeddingBody,
    "ListGenes": ListGenesBody,
    "DifferentialExpression": DifferentialExpressionBody,
    "BatchDifferentialExpression": BatchDifferentialExpressionBody,
    "GeneExpression": GeneExpressionBody,
    "GetBackgroundExpressedGenes": BackgroundGenesBody,
    "ClusterCells": ClusterCellsBody,
    "DotPlot": DotPlotBody,
    "GetDoubletScore": MetadataBody,
    "GetMitochondrialContent": MetadataBody,
    "GetNGenes": MetadataBody,
    "GetNUmis": MetadataBody,
    "MarkerHeatmap": MarkerHeatmapBody,
    "GetTrajectoryAnalysisStartingNodes": StartingNodesBody,
    "GetTrajectoryAnalysisPseudoTime": PseudoTimeBody,
    "GetExpressionCellSets": ExpressionCellSetsBody,
    "GetNormalizedExpression": NormalizedExpressionBody,
    "ScTypeAnnotate": AnnotationBody,
    "CASSIAAnnotate": AnnotationBody,
    "CellCycleScoring": CellCycleBody,
    "DownloadAnnotSeuratObject": DownloadBody,
}
"""Type of the body of every task, by its name on the wire."""


def decode_body(name: object, body: bytes | Mapping[str, Any]) -> Struct:
    """Check a task's body.

    Parameters
    ----------
    name
        The task's name on the wire (``body.name``).
    body
        JSON text, or the object parsed from it.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` listing the known tasks for an unknown name, naming the field for anything else.
    """
    if not isinstance(name, str) or name not in BODIES:
        message = f"body.name: {name!r} is not a task; known tasks are {', '.join(BODIES)}."
        raise WorkerError(ErrorCode.INVALID_INPUT, message)
    return convert(body, BODIES[name], "body")


def convert(value: bytes | Mapping[str, Any], kind: type[T], what: str) -> T:
    """Check JSON text, or what was parsed from it, against a type.

    Parameters
    ----------
    value
        UTF-8 JSON text or a parsed object.
    kind
        The `msgspec.Struct` wanted.
    what
        How messages call the object, for example "body".

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` naming the field, what was expected and what was found.
    """
    try:
        if isinstance(value, bytes | bytearray | memoryview):
            return msgspec.json.decode(value, type=kind)
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise WorkerError(ErrorCode.INVALID_INPUT, _sentence(str(error), what, kind)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise WorkerError(ErrorCode.INVALID_INPUT, f"{what}: not JSON ({error}).") from None


_AT = re.compile(r" - at `\$(?P<path>[^`]*)`$")
_MISSING = re.compile(r"Object missing required field `(?P<name>[^`]*)`")
_WORDS = {
    "int": "a whole number", "float": "a number", "int | float": "a number", "str": "text", "bool": "true or false",
    "array": "an array", "object": "an object",
}  # fmt: skip


def _plain(match: re.Match[str]) -> str:
    names = [name for name in match[1].split(" | ") if name != "null"]
    whole = " | ".join(names)
    return _WORDS.get(whole) or " or ".join(_WORDS.get(name, name) for name in names) or "null"


def _sentence(message: str, what: str, kind: type[Struct]) -> str:
    """Turn the validator's message into one that starts with the field's name and says what would do."""
    at = _AT.search(message)
    path = at["path"] if at else ""
    text = message[: at.start()] if at else message
    missing = _MISSING.match(text)
    if missing:
        return f"{what}{path}.{missing['name']}: is required and was not given."
    if text.startswith("Invalid enum value"):
        return f"{what}{path}: found {text.removeprefix('Invalid enum value ')}, expected {_allowed(kind, path)}."
    text = re.sub(r"`([^`]*)`", _plain, text).replace(", got ", ", found ")
    return f"{what}{path}: {text[:1].lower()}{text[1:]}."


def _allowed(kind: type[Struct], path: str) -> str:
    """List the values that the field at a path such as ``.filters[0].comparison`` can have."""
    node: Any = msgspec.inspect.type_info(kind)
    for name in re.findall(r"[^.\[\]]+", re.sub(r"\[[^\]]*\]", ".[]", path).replace("[]", "*")):
        options = getattr(node, "types", [node])
        if name == "*":
            node = next(option.item_type for option in options if hasattr(option, "item_type"))
        else:
            fields = next(option.fields for option in options if hasattr(option, "fields"))
            node = next(item.type for item in fields if item.encode_name == name)
    literals = [value for option in getattr(node, "types", [node]) for value in getattr(option, "values", [])]
    return " or ".join(repr(value) for value in literals)
