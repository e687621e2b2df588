"""The original's random subsets of cells, for comparisons with it (``like_original``).

All other requests use every cell.
"""

import numpy as np
from numpy.typing import NDArray

from cellworker.analysis.statistics.r_random import RRandom

__all__ = ["like_the_original"]


def like_the_original(groups: list[NDArray[np.int32]], cap: int, *, seed: int = 0) -> list[NDArray[np.int32]]:
    """Draw at most `cap` cells of each group, as ``slice_sample`` does after ``set.seed``.

    Parameters
    ----------
    groups
        Row numbers of each group, in the order in which the original draws: ascending by label.
    cap
        Max cells per group. A smaller group is drawn too, since the draw consumes numbers of the stream.
    seed
        0 for tests and markers, 42 for CASSIA.
    """
    stream = RRandom(seed)
    return [np.sort(np.sort(rows)[stream.sample(len(rows), min(cap, len(rows)))]) for rows in groups]
