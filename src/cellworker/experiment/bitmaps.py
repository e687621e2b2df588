"""Sets of cells without a name, written as keys: a bitmap, or ranges of ids.

A request may use such a key, which holds the cells themselves, instead of the key of a cell set.

* ``cells:`` and a bitmap in base64url. Bit ``i % 8`` (from the least significant) of byte ``i // 8`` is 1 if the cell
  with id ``i`` is in the set. A million cells take 167 kB, whatever the selection.
* ``ranges:`` and ids with commas between them, ascending, where ``4-9`` is all ids from 4 to 9: shorter for few cells
  and for runs of ids.

`write_cells` chooses the shorter form, so the same selection always has the same key.
"""

import base64
import binascii
import re

import numpy as np
from numpy.typing import NDArray

from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.id_sets import union

__all__ = [
    "MAX_NAMED_CELLS",
    "PREFIX",
    "RANGES",
    "CellTotal",
    "cells_of_bitmap",
    "is_bitmap",
    "write_bitmap",
    "write_cells",
]

PREFIX, RANGES = "cells:", "ranges:"
_MAX_CHARACTERS = 4 * (2**31 // 8) // 3
"""The length for the largest possible cell id."""
_BASE64URL = re.compile(r"[A-Za-z0-9_-]*={0,2}")
_RANGE_LIST = re.compile(r"(\d{1,10}(-\d{1,10})?(,\d{1,10}(-\d{1,10})?)*)?")
_MAX_CELLS = 1 << 24
"""Max cells of a key: more than an experiment has, and 64 MiB of ids, so that a short key cannot claim gigabytes."""
MAX_NAMED_CELLS = 1 << 26
"""Max cells of all keys of one request together, where a repeated cell counts each time: 256 MiB of ids.

A class whose sets split a million cells counts a million, so 64 such classes fit in a request. Without this limit, a
body of 40 kB claims 128 GiB: 2,000 times ``ranges:0-16777215``.
"""
_PIECE = 1 << 17
"""Bytes of a bitmap unpacked at a time: a million bits."""


class CellTotal:
    """Counts the cells of the keys of one request, key by key.

    Parameters
    ----------
    what
        The request's field, for the message.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._total = 0

    def add(self, n_cells: int) -> None:
        """Count the cells of one more key, before the lookup of the next one.

        Raises
        ------
        WorkerError
            ``INVALID_INPUT`` when the total exceeds `MAX_NAMED_CELLS`.
        """
        self._total += n_cells
        if self._total > MAX_NAMED_CELLS:
            message = (
                f"{self._what}: names more than {MAX_NAMED_CELLS:,} cells, each counted as often as it is named; "
                "name fewer or smaller sets, or ask in several requests."
            )
            raise WorkerError(ErrorCode.INVALID_INPUT, message)


def is_bitmap(key: str) -> bool:
    """Whether a key holds the cells themselves instead of naming a set."""
    return key.startswith((PREFIX, RANGES))


def cells_of_bitmap(key: str, what: str) -> NDArray[np.int32]:
    """Return the ids of the cells: int32, ascending.

    Parameters
    ----------
    key
        As in the module's description; padding with ``=`` may be missing.
    what
        The request's field, for the message.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` when the key is neither base64url nor ascending ranges, or holds more than 16,777,216 cells.
    """
    if key.startswith(RANGES):
        return _cells_of_ranges(key.removeprefix(RANGES), what)
    text = key.removeprefix(PREFIX)
    message = f"{what}: expected a bitmap of cells in base64url after {PREFIX!r}."
    if len(text) > _MAX_CHARACTERS or not _BASE64URL.fullmatch(text):
        raise WorkerError(ErrorCode.INVALID_INPUT, message)
    try:
        content = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_")
    except (ValueError, binascii.Error):
        raise WorkerError(ErrorCode.INVALID_INPUT, message) from None
    return _cells_of_bits(np.frombuffer(content, np.uint8), what)


def _cells_of_bits(content: NDArray[np.uint8], what: str) -> NDArray[np.int32]:
    """Unpack piece by piece: at once, a bitmap of all possible cells would take 17 GB of positions."""
    parts, total = [np.empty(0, np.int32)], 0
    for begin in range(0, len(content), _PIECE):
        bits = np.unpackbits(content[begin : begin + _PIECE], bitorder="little")
        parts.append((np.flatnonzero(bits) + 8 * begin).astype(np.int32))
        total += len(parts[-1])
        _require_few(total, what)
    return np.concatenate(parts)


def _cells_of_ranges(text: str, what: str) -> NDArray[np.int32]:
    message = f"{what}: expected ascending ids or ranges of ids after {RANGES!r}, such as 3,7-12."
    if not _RANGE_LIST.fullmatch(text):
        raise WorkerError(ErrorCode.INVALID_INPUT, message)
    pairs = [part.partition("-") for part in text.split(",") if part]
    first = np.array([int(start) for start, _, _ in pairs], np.int64)
    last = np.array([int(end or start) for start, _, end in pairs], np.int64)
    if np.any(last < first) or np.any(first[1:] <= last[:-1]) or (len(last) and last[-1] >= 2**31):
        raise WorkerError(ErrorCode.INVALID_INPUT, message)
    lengths = last - first + 1
    total = int(lengths.sum())
    _require_few(total, what)
    # Each id is its predecessor plus 1, except the first of each range: a cumulative sum in place.
    steps = np.ones(total, np.int32)
    before = np.concatenate([[0], last[:-1]]) if len(last) else last
    steps[np.cumsum(lengths) - lengths] = first - before
    return np.cumsum(steps, out=steps)


def _require_few(n_cells: int, what: str) -> None:
    if n_cells > _MAX_CELLS:
        message = f"{what}: stands for more than {_MAX_CELLS:,} cells."
        raise WorkerError(ErrorCode.INVALID_INPUT, message)


def write_cells(cell_ids: NDArray[np.integer]) -> str:
    """Return the shorter key of a set of cells, in any order: ranges, or a bitmap where that is as short.

    Parameters
    ----------
    cell_ids
        Ids from 0.
    """
    ids = union([np.asarray(cell_ids, np.int32)])
    bitmap_length = 4 * ((int(ids[-1]) // 8 + 1) / 3) if len(ids) else 0
    breaks = np.flatnonzero(np.diff(ids) > 1)
    # Each range takes two characters or more: where that is at least the bitmap's length, ranges are not written at
    # all.
    if 2 * (len(breaks) + 1) < bitmap_length and len(ids) <= _MAX_CELLS:
        first, last = ids[np.concatenate([[0], breaks + 1])], ids[np.concatenate([breaks, [len(ids) - 1]])]
        parts = [f"{a}" if a == b else f"{a}-{b}" for a, b in zip(first.tolist(), last.tolist(), strict=True)]
        text = ",".join(parts)
        if len(text) < bitmap_length:
            return RANGES + text
    return write_bitmap(ids)


def write_bitmap(cell_ids: NDArray[np.integer]) -> str:
    """Return the key of a set of cells, in any order.

    Parameters
    ----------
    cell_ids
        Ids from 0.
    """
    bits = np.zeros(int(cell_ids.max()) + 1 if len(cell_ids) else 0, np.uint8)
    bits[cell_ids] = 1
    content = np.packbits(bits, bitorder="little").tobytes()
    return PREFIX + base64.urlsafe_b64encode(content).rstrip(b"=").decode("ascii")
