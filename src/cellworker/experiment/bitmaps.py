"""Sets of cells that nobody has named, written as keys: a bitmap, or ranges of ids.

Wherever a request names a cell set, such a key stands for the cells themselves.

* ``cells:`` and a bitmap in base64url. Bit ``i % 8`` (from the least significant) of byte ``i // 8`` says whether the
  cell with id ``i`` is in it. A million cells are 167 kB, whatever the selection.
* ``ranges:`` and ids with commas between them, ascending, ``4-9`` for all from 4 to 9: shorter for few cells, and for
  cells that lie together.

`write_cells` takes the shorter one, so the same selection always has the same key.
"""

import base64
import binascii
import re

import numpy as np
from numpy.typing import NDArray

from cellworker.errors import ErrorCode, WorkerError

__all__ = ["PREFIX", "RANGES", "cells_of_bitmap", "is_bitmap", "write_bitmap", "write_cells"]

PREFIX, RANGES = "cells:", "ranges:"
_MAX_CHARACTERS = 4 * (2**31 // 8) // 3
"""As long as the largest cell id allows."""
_BASE64URL = re.compile(r"[A-Za-z0-9_-]*={0,2}")
_RANGE_LIST = re.compile(r"(\d{1,10}(-\d{1,10})?(,\d{1,10}(-\d{1,10})?)*)?")
_MAX_IN_RANGES = 1 << 26
"""Cells that ranges may stand for: a few characters must not claim gigabytes."""


def is_bitmap(key: str) -> bool:
    """Whether a key is the cells themselves and not the name of a set."""
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
        ``INVALID_INPUT`` when it is no base64url, or no ascending ranges.
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
    bits = np.unpackbits(np.frombuffer(content, np.uint8), bitorder="little")
    return np.flatnonzero(bits).astype(np.int32)


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
    if lengths.sum() > _MAX_IN_RANGES:
        too_many = f"{what}: the ranges stand for more than {_MAX_IN_RANGES:,} cells."
        raise WorkerError(ErrorCode.INVALID_INPUT, too_many)
    begins = np.cumsum(lengths) - lengths
    return np.asarray(np.arange(lengths.sum()) + np.repeat(first - begins, lengths), np.int32)


def write_cells(cell_ids: NDArray[np.integer]) -> str:
    """Return the shorter key of a set of cells, in any order: ranges, or a bitmap where that is as short.

    Parameters
    ----------
    cell_ids
        Ids from 0.
    """
    ids = np.unique(np.asarray(cell_ids, np.int64))
    bitmap_length = 4 * ((int(ids[-1]) // 8 + 1) / 3) if len(ids) else 0
    breaks = np.flatnonzero(np.diff(ids) > 1)
    # Each range takes two characters or more: where that is as long as the bitmap, it is not written to be measured.
    if 2 * (len(breaks) + 1) < bitmap_length and len(ids) <= _MAX_IN_RANGES:
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
