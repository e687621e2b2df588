"""Cell sets in a request to the engine: their names and cells."""

from msgspec import Struct, field

from cellworker.tasks.common.sent_cells import SentCells

__all__ = ["RequestedClass", "RequestedSet"]


class RequestedSet(Struct):
    """A cell set: its name and cells."""

    name: str
    cell_ids: SentCells | None = field(name="cellIds", default=None)


class RequestedClass(Struct):
    """A class of cell sets."""

    children: list[RequestedSet] = []
