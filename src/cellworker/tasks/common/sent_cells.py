"""Cell ids in a request to the engine: few as a list, many as a bitmap or ranges.

A list of Python's numbers takes 40 bytes per id: as lists, the sets of a million cells in twenty classes take a
gigabyte. As keys they take 80 MB, and as much again in the request's text: a request of all sets writes each key only
when its turn comes (`sent_later`, `written`).
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cellworker.experiment.bitmaps import cells_of_bitmap, write_cells
from cellworker.experiment.id_sets import union
from cellworker.protocol.validation import CellId

__all__ = ["SentCells", "ids_of", "sent_cells", "sent_later", "written"]

SentCells = list[CellId] | CellId | str
"""Ids in any order, one id, or a key as `cellworker.experiment.bitmaps` writes it."""
_MANY: Final = 10_000
"""Min number of ids that is sent as a key."""
_MAX_BITS_PER_ID: Final = 32
"""Max bits per id of a bitmap; with more, the bitmap is longer than the list."""


class _LateKey(str):
    """Stands for the key of many ids; msgspec gives what it does not know to `written`."""

    __slots__ = ("ids",)
    ids: NDArray[np.int32]


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


def sent_later(ids: NDArray[np.int32]) -> list[int] | str:
    """Return as `sent_cells`, but many ids as a placeholder, whose key is written by `written`."""
    if len(ids) < _MANY:
        return sent_cells(ids)
    late = _LateKey()
    late.ids = ids
    return late


def written(value: Any) -> list[int] | str:  # noqa: ANN401 - the hook's type
    """Write what `sent_later` put off: the hook with which requests are encoded (``enc_hook``)."""
    if isinstance(value, _LateKey):
        return sent_cells(value.ids)
    message = f"a request holds a {type(value).__name__}"
    raise TypeError(message)


def ids_of(sent: list[int] | int | str | None) -> NDArray[np.int64]:
    """Return the ids, int64; none for None.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` for a text that is no key of cells.
    """
    if isinstance(sent, _LateKey):
        return union([sent.ids]).astype(np.int64)
    if isinstance(sent, str):
        return cells_of_bitmap(sent, "cellIds").astype(np.int64)
    return np.array([] if sent is None else [sent] if isinstance(sent, int) else sent, np.int64)
