"""Pages of a table, from a request's ``requestProps.pagination``."""

from typing import Literal

from msgspec import Struct, field

from cellworker.protocol.validation import Count, Direction, Number, Text, Whole

__all__ = ["Filter", "Pagination"]


class Filter(Struct):
    """One filter of a paged table."""

    column_name: Text = field(name="columnName")
    type: Literal["numeric", "text"] | None = None
    comparison: Literal["greaterThan", "lessThan"] | None = None
    value: Number | None = None
    expression: str | None = None


class Pagination(Struct):
    """``requestProps.pagination``."""

    order_by: str | None = field(name="orderBy", default=None)
    order_direction: Direction = field(name="orderDirection", default="ASC")
    offset: Count = 0
    limit: Count | None = None
    response_key: Whole | None = field(name="responseKey", default=None)
    filters: list[Filter] = []
