"""The progress callback of long computations: one type for all packages."""

from typing import Protocol

__all__ = ["Progress", "silent"]


class Progress(Protocol):
    """Receives how far a computation is. It may raise, which stops the computation: so are requests cancelled."""

    def __call__(self, stage: str, fraction: float | None = None, /) -> None:
        """Report a stage in words for the user and, where known, the fraction done (0 to 1)."""
        ...


def silent(stage: str, fraction: float | None = None, /) -> None:
    """Report nothing."""
