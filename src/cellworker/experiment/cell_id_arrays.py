"""Sets of cell ids as ascending arrays, put together and compared by bitmaps: a million cells take milliseconds.

numpy's own set operations hash or sort, and keep the interpreter to themselves for a second meanwhile.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["difference", "intersection", "union"]

Ids = NDArray[np.int32]
"""int32, not negative; what comes out is ascending and without repetitions."""

_ALWAYS_BITS, _BITS_PER_ID = 1 << 20, 32


def union(parts: Sequence[Ids]) -> Ids:
    """Return the ids that are in any of the arrays, which need not be ascending."""
    parts = [part for part in parts if len(part)]
    if not parts:
        return np.empty(0, np.int32)
    size = max(int(part.max()) for part in parts) + 1
    if size > max(_ALWAYS_BITS, _BITS_PER_ID * sum(map(len, parts))):  # few ids far apart
        ids: Ids = np.sort(np.concatenate(parts))
        first: Ids = ids[np.concatenate([[True], ids[1:] != ids[:-1]])]
        return first
    found = np.zeros(size, np.bool_)
    for part in parts:
        found[part] = True
    return np.flatnonzero(found).astype(np.int32)


def difference(ids: Ids, others: Ids) -> Ids:
    """Return the ids that are not among the others; `ids` are ascending, without repetitions."""
    return ids[~_among(ids, others)]


def intersection(ids: Ids, others: Ids) -> Ids:
    """Return the ids that are among the others too; `ids` are ascending, without repetitions."""
    return ids[_among(ids, others)]


def _among(ids: Ids, others: Ids) -> NDArray[np.bool_]:
    if not len(ids) or not len(others):
        return np.zeros(len(ids), np.bool_)
    # Both are ascending: each id is looked for where it would stand.
    place = np.minimum(np.searchsorted(others, ids), len(others) - 1)
    found: NDArray[np.bool_] = others[place] == ids
    return found
