"""A request body whose first byte is sent in time, or not at all."""

import time
from typing import Any

from aiohttp.payload import BytesPayload

__all__ = ["FencedBody", "awake_s"]


def awake_s() -> float:
    """Return seconds on a clock that goes on while this process is stopped, and while the machine sleeps."""
    # Linux's monotonic clock stands still in a machine that is suspended.
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class FencedBody(BytesPayload):
    """Bytes that are withheld after a pause so long that they must no longer be sent.

    The clock is read when a connection stands and the head of the request is ready, right before the body is
    handed to the system. Without its body a request is incomplete and has no effect.

    Parameters
    ----------
    content
        The body.
    until_s
        When the right to send it ends, on the clock of `awake_s`.

    Attributes
    ----------
    withheld
        Whether it was too late.
    """

    def __init__(self, content: bytes, until_s: float) -> None:
        super().__init__(content)
        self._until_s = until_s
        self.withheld = False

    async def write(self, writer: Any) -> None:  # noqa: ANN401 aiohttp's own
        """Write it, if there is time."""
        self._look_at_the_clock()
        await super().write(writer)

    async def write_with_length(self, writer: Any, content_length: int | None) -> None:  # noqa: ANN401
        """Write it, if there is time."""
        self._look_at_the_clock()
        await super().write_with_length(writer, content_length)

    def _look_at_the_clock(self) -> None:
        if awake_s() > self._until_s:
            self.withheld = True
            raise TimeoutError
