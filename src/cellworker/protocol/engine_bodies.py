"""The requests that the engine answers (contract sections 5 and 7): what `prepare` makes of a body.

They are the original's, so that either engine can be asked the same question. R cannot tell one value from a list of
one, so a bare value is taken where a list is wanted. Unknown fields are tolerated.
"""

from typing import Annotated, Any

from msgspec import Meta, Struct, field

from cellworker.protocol.bodies import CellId, Count, Direction, GeneThreshold

__all__ = [
    "AnyRequest",
    "EmbeddingRequest",
    "ExpressionCellSetsRequest",
    "GeneExpressionRequest",
    "ListGenesRequest",
    "MetadataRequest",
    "NormalizedExpressionRequest",
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


class AnyRequest(Struct):
    """A request of a task that this version cannot do yet."""
