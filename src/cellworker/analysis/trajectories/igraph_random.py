"""Random orders of R's igraph, for comparisons."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from cellworker.analysis.statistics.r_random import RRandom

__all__ = ["igraph_shuffle"]


def igraph_shuffle(seed: int) -> Callable[[int], NDArray[np.int32]]:
    """Return a function that shuffles 0 to n - 1 as R's igraph 2.0 does after ``set.seed(seed)``, call after call.

    A Fisher-Yates shuffle from the end. Integers below n are the upper half of n times 32 random bits, redrawn where
    the result would be biased (Lemire 2019, doi:10.1145/3230636). R gives 30 bits at a time.
    """
    random = RRandom(seed)

    def word() -> int:
        return (int(random.uniform() * 2**30) << 2) + (int(random.uniform() * 2**30) >> 28)

    def below(n: int) -> int:
        uneven = 2**32 % n
        while True:
            product = word() * n
            if product & 0xFFFFFFFF >= uneven:
                return product >> 32

    def shuffle(n: int) -> NDArray[np.int32]:
        order = list(range(n))
        for i in range(n - 1, 0, -1):
            j = below(i + 1)
            order[i], order[j] = order[j], order[i]
        return np.array(order, np.int32)

    return shuffle
