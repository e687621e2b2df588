"""Cell ids in a request to the engine: few as a list, many as a bitmap or ranges.

A list of Python's numbers takes 40 bytes per id: as lists, the sets of a million cells in twenty classes take a
gigabyte.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from cellworker.experiment.bitmaps import cells_of_bitmap, write_cells
from cellworker.protocol.validation import CellId

__all__ = ["SentCells", "ids_of", "sent_cells"]

SentCells = list[CellId] | CellId | str
"""Ids in any order, one id, or a key as `cellworker.experiment.bitmaps` writes it."""
_MANY: Final = 10_000
"""Min number of ids that is sent as a key."""
_MAX_BITS_PER_ID: Final = 32
"""Max bits per id of a bitmap; with more, the bitmap is longer than the list."""


def sent_cells(ids: NDArray[np.int32]) -> list[int] | str:
    """Return ids in the form in which they are sent; only a list keeps their order.

    Parameters
    ----------
    ids
        None is below 0; any order.
    """
    if len(ids) < _MANY or int(ids.max()) >= _MAX_BITS_PER_ID * len(ids):
        listed: list[int] = ids.tolist()
        return listed
    return write_cells(ids)


def ids_of(sent: list[int] | int | str | None) -> NDArray[np.int64]:
    """Return the ids, int64; none for None.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` for a text that is no key of cells.
    """
    if isinstance(sent, str):
        return cells_of_bitmap(sent, "cellIds").astype(np.int64)
    return np.array([] if sent is None else [sent] if isinstance(sent, int) else sent, np.int64)
