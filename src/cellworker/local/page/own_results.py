"""Types of the results of our own tasks that the explorer reads. See `local.page.results`."""

from typing import Any, Literal

from msgspec import Struct

__all__ = ["OWN_RESULTS"]

OptionalNumbers = list[float | None]


class WireColumn(Struct, forbid_unknown_fields=True):
    """A typed column as JSON (`protocol.columns`): of categories, positions in `labels`."""

    name: str
    kind: Literal["number", "integer", "logical", "category", "text", "sparse"]
    values: list[Any]
    labels: list[str] | None = None
    length: int | None = None
    rows: list[int] | None = None


class DescribedCellColumn(Struct, forbid_unknown_fields=True, rename="camel"):
    """One metadata column: `min` and `max` are text for dates and times."""

    name: str
    kind: Literal["category", "number", "logical", "date", "time", "text"]
    integer: bool
    levels: int | None
    min: float | str | None
    max: float | str | None
    missing: int
    has_colors: bool
    role: str | None


class CellColumns(Struct, forbid_unknown_fields=True):
    """ListCellColumns."""

    columns: list[DescribedCellColumn]


class CellColumnValues(Struct, forbid_unknown_fields=True, rename="camel"):
    """GetCellColumn: `colors` are the file's own, one for each label."""

    by_cell: bool
    column: str
    kind: Literal["category", "number", "logical", "date", "time", "text"]
    missing: int
    colors: list[str] | None
    columns: list[WireColumn]


class GeneScores(Struct, forbid_unknown_fields=True, rename="camel"):
    """ScoreGenes: the column ``score``."""

    by_cell: bool
    method: Literal["seurat", "scanpy"]
    n_controls: int
    n_bins: int
    seed: int
    genes: list[str]
    not_found: list[str]
    controls: list[str]
    columns: list[WireColumn]


class GroupSummary(Struct, forbid_unknown_fields=True):
    """One group of GetGroupSummaries; `density` is empty where there is none."""

    key: str
    name: str
    color: str | None
    cells: int
    missing: int
    positive: int
    mean: float | None
    deviation: float | None
    quantiles: OptionalNumbers
    counts: list[int]
    density: list[float]


class GroupSummaries(Struct, forbid_unknown_fields=True):
    """GetGroupSummaries."""

    of: str
    min: float | None
    max: float | None
    probabilities: list[float]
    edges: list[float]
    points: list[float]
    groups: list[GroupSummary]


class CountedGroup(Struct, forbid_unknown_fields=True):
    """One group of GetComposition."""

    key: str
    name: str
    color: str | None
    cells: int


class Composition(Struct, forbid_unknown_fields=True):
    """GetComposition: a row of `counts` for each group, a number in it for each part."""

    groups: list[CountedGroup]
    parts: list[CountedGroup]
    counts: list[list[int]]
    cells: int


class SubsetPlaces(Struct, forbid_unknown_fields=True, rename="camel"):
    """GetSubsetEmbedding: the columns ``x`` and ``y``."""

    by_cell: bool
    type: Literal["umap", "tsne", "pca"]
    components: Literal["saved", "own"]
    columns: list[WireColumn]


class DescribedResult(Struct, forbid_unknown_fields=True):
    """One result stored in the file."""

    name: str
    source: str
    kind: Literal["tests", "table", "list", "values"]
    rows: int
    columns: list[str]
    groups: list[str]
    parameters: dict[str, str]


class StoredResults(Struct, forbid_unknown_fields=True):
    """ListStoredResults."""

    results: list[DescribedResult]


class StoredResultTable(Struct, forbid_unknown_fields=True, rename="camel"):
    """GetStoredResult: a page of `total` rows."""

    by_cell: bool
    result: str
    source: str
    kind: Literal["tests", "table", "list", "values"]
    total: int
    parameters: dict[str, str]
    columns: list[WireColumn]


OWN_RESULTS: dict[str, Any] = {
    "ListCellColumns": CellColumns,
    "GetCellColumn": CellColumnValues,
    "ScoreGenes": GeneScores,
    "GetGroupSummaries": GroupSummaries,
    "GetComposition": Composition,
    "GetSubsetEmbedding": SubsetPlaces,
    "ListStoredResults": StoredResults,
    "GetStoredResult": StoredResultTable,
}
"""By task. ClusterSubset changes cell sets."""
