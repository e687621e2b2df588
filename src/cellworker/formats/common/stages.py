"""Progress of the passes over a whole matrix, told to whoever reads the file.

The passes are made by every reader, deep inside of it; of a million cells each takes minutes.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

__all__ = ["MEASURING_CELLS", "MEASURING_GENES", "NORMALISING", "OPENING", "heard", "told"]

OPENING: Final = "opening the file"
"""What is told while nothing has been told yet."""
NORMALISING: Final = "normalising"
MEASURING_CELLS: Final = "measuring the cells"
MEASURING_GENES: Final = "measuring the genes"

Tell = Callable[[str, float], None]


def _unheard(stage: str, fraction: float) -> None:
    """Tell nobody."""


_listener: ContextVar[Tell] = ContextVar("listener", default=_unheard)


@contextmanager
def heard(tell: Tell) -> Iterator[None]:
    """Have the passes inside reported: the stage, and the fraction of it that is done."""
    before = _listener.set(tell)
    try:
        yield
    finally:
        _listener.reset(before)


def told(stage: str, pieces: Iterable[tuple[int, int]], total: int) -> Iterator[tuple[int, int]]:
    """Yield the pieces of a pass over `total` rows or values, and report each before it begins."""
    tell = _listener.get()
    for start, end in pieces:
        tell(stage, start / max(1, total))
        yield start, end
