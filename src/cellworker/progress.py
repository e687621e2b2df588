"""The progress callback of long computations: one type for all packages."""

from typing import Protocol

__all__ = ["Progress", "silent"]


class Progress(Protocol):
    """Receives the progress of a computation. An exception from it stops the computation, which cancels requests."""

    def __call__(self, stage: str, fraction: float | None = None, /) -> None:
        """Report a stage in words for the user and, where known, the fraction done (0 to 1)."""
        ...


def silent(stage: str, fraction: float | None = None, /) -> None:
    """Report nothing."""
