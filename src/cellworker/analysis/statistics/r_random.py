"""R's random numbers: the streams behind ``set.seed``, ``runif``, ``rnorm`` and ``sample`` (R 3.6 and later).

Mersenne Twister (Matsumoto and Nishimura 1998) with R's seeding, inversion for normals, rejection sampling for integers
(algorithms.md, section 0.3).
"""

import math

import numpy as np
from numpy.typing import NDArray

__all__ = ["RRandom"]

_WORD = 2.3283064365386963e-10
_TINY = 2.328306437080797e-10 / 2
_MASK = 0xFFFFFFFF


class RRandom:
    """One stream, as after ``set.seed(seed)``.

    Parameters
    ----------
    seed
        Any 32-bit integer.
    """

    def __init__(self, seed: int) -> None:
        x = seed & _MASK
        for _ in range(50):
            x = (69069 * x + 1) & _MASK
        words = []
        for _ in range(625):
            x = (69069 * x + 1) & _MASK
            words.append(x)
        self._bits = np.random.MT19937()
        self._bits.state = {"bit_generator": "MT19937", "state": {"key": np.array(words[1:], np.uint32), "pos": 624}}
        self._words: list[int] = []

    def uniform(self) -> float:
        """Return the next uniform number in (0, 1)."""
        if not self._words:
            self._words = self._bits.random_raw(512).tolist()[::-1]
        u = self._words.pop() * _WORD
        if u <= 0.0:
            return _TINY
        return 1.0 - _TINY if 1.0 - u <= 0.0 else u

    def index(self, n: int) -> int:
        """Return a uniform integer from 0 to n - 1, drawn by rejection; even n = 1 takes a number from the stream."""
        bits = math.ceil(math.log2(n))
        while True:
            value = 0
            for _ in range(0, bits + 1, 16):
                value = 65536 * value + math.floor(self.uniform() * 65536)
            value &= (1 << bits) - 1
            if value < n:
                return value

    def sample(self, n: int, size: int) -> NDArray[np.int64]:
        """Draw `size` of the numbers 0 to n - 1 without replacement (R's ``sample.int``, zero-based).

        Raises
        ------
        ValueError
            If `size` exceeds `n`.
        """
        if size > n:
            message = f"cannot draw {size} of {n} without replacement"
            raise ValueError(message)
        if size < 2:
            return np.array([self.index(n) for _ in range(size)], np.int64)
        pool = list(range(n))
        out = np.empty(size, np.int64)
        for k in range(size):
            j = self.index(n)
            out[k] = pool[j]
            n -= 1
            pool[j] = pool[n]
        return out

    def normal(self) -> float:
        """Return the next standard normal number, by inversion."""
        from scipy.special import ndtri  # noqa: PLC0415  (heavy, and few callers draw normals)

        high = math.floor(134217728 * self.uniform())
        return float(ndtri((high + self.uniform()) / 134217728))
