"""Waiting for what is away: pauses that grow, up to where patience ends."""

import asyncio
import random

__all__ = ["Waiting"]

_FIRST_PAUSE_S = 0.05


class Waiting:
    """Pauses between tries: longer each time, until patience is over.

    Parameters
    ----------
    patience_s
        How long to go on in all, in seconds.
    last_pause_s
        The longest pause.
    first_pause_s
        The first one.
    """

    def __init__(self, patience_s: float, last_pause_s: float = 2.0, first_pause_s: float = _FIRST_PAUSE_S) -> None:
        self._patience_s = patience_s
        self._last_pause_s = last_pause_s
        self._first_pause_s = first_pause_s
        self.restart()

    def restart(self) -> None:
        """Begin anew, since something went well in between."""
        self._end = asyncio.get_running_loop().time() + self._patience_s
        self._pause_s = self._first_pause_s

    async def pause(self, at_least_s: float = 0.0) -> bool:
        """Pause; False, at once, when patience is over. No two pauses are alike, so that not all come back together."""
        left = self._end - asyncio.get_running_loop().time()
        if left <= 0:
            return False
        pause_s = max(at_least_s, self._pause_s * random.uniform(0.7, 1.3))  # noqa: S311 - no secret
        self._pause_s = min(2 * self._pause_s, self._last_pause_s)
        await asyncio.sleep(min(pause_s, left))
        return True
