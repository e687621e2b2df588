"""Sizes of the intersections of sets."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["overlaps"]


def overlaps(rows: Sequence[NDArray[np.int32]], columns: Sequence[NDArray[np.int32]], n: int) -> NDArray[np.int64]:
    """Count the common members of sets; sets of one side may overlap each other.

    Parameters
    ----------
    rows, columns
        The sets: int32, each member once, from 0 to `n` - 1.
    n
        Max number of members.

    Returns
    -------
    numpy.ndarray
        int64 ``(len(rows), len(columns))``.
    """
    out = np.zeros((len(rows), len(columns)), np.int64)
    waiting = list(range(len(columns)))
    while waiting:
        # Process as many disjoint columns at once as possible; those of a clustering are all disjoint.
        code = np.full(n, -1, np.int32)
        later = []
        for number in waiting:
            if np.any(code[columns[number]] >= 0):
                later.append(number)
            else:
                code[columns[number]] = number
        for i, members in enumerate(rows):
            found = code[members]
            out[i] += np.bincount(found[found >= 0], minlength=len(columns))
        waiting = later
    return out
