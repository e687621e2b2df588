"""How a computation tells how far it is."""

from typing import Protocol

__all__ = ["Progress"]


class Progress(Protocol):
    """Told how far a computation is. Calling it may raise when the request was cancelled."""

    def __call__(self, stage: str, fraction: float | None = None) -> None:
        """Report a stage in words for the user and, where known, the fraction done (0 to 1)."""
        ...
