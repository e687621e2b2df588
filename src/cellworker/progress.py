"""The progress callback of long computations: one type for all packages."""

from typing import Protocol

__all__ = ["Progress", "part_of", "silent"]


class Progress(Protocol):
    """Receives the progress of a computation. An exception from it stops the computation, which cancels requests."""

    def __call__(self, stage: str, fraction: float | None = None, /) -> None:
        """Report a stage in words for the user and, where known, the fraction done (0 to 1)."""
        ...


def silent(stage: str, fraction: float | None = None, /) -> None:
    """Report nothing."""


def part_of(progress: Progress, begin: float, end: float) -> Progress:
    """Return the progress of a part that begins and ends at these fractions of the whole."""

    def tell(stage: str, fraction: float | None = None, /) -> None:
        progress(stage, None if fraction is None else begin + (end - begin) * fraction)

    return tell
