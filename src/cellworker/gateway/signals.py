"""SIGTERM and SIGINT: the first asks for an orderly end, the second for an immediate one."""

import asyncio
import signal
from types import TracebackType
from typing import Self

__all__ = ["Signals"]

_NUMBERS = (signal.SIGTERM, signal.SIGINT)


class Signals:
    """Notes signals for as long as the block lasts.

    Attributes
    ----------
    first, second
        Set by the first and by the second signal.
    """

    def __init__(self) -> None:
        self.first = asyncio.Event()
        self.second = asyncio.Event()

    def __enter__(self) -> Self:
        loop = asyncio.get_running_loop()
        for number in _NUMBERS:
            loop.add_signal_handler(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        loop = asyncio.get_running_loop()
        for number in _NUMBERS:
            loop.remove_signal_handler(number)

    def _note(self) -> None:
        (self.second if self.first.is_set() else self.first).set()
