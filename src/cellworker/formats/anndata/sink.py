"""A file of groups and arrays in the making, whatever it is stored in: what the AnnData writer sees."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from numpy.typing import DTypeLike, NDArray

__all__ = ["Rows", "Sink"]

Rows = Callable[[int, int], NDArray[Any]]
"""Gives the values from one row to another."""


class Sink(Protocol):
    """Takes groups before what is in them, each under a path with slashes."""

    def group(self, path: str, attrs: Mapping[str, Any]) -> None:
        """Make a group; the root has the path ""."""
        ...

    def array(self, path: str, shape: tuple[int, ...], dtype: DTypeLike, rows: Rows, attrs: Mapping[str, Any]) -> None:
        """Write an array of numbers, asking for its rows piece by piece."""
        ...

    def texts(self, path: str, texts: Sequence[str], attrs: Mapping[str, Any]) -> None:
        """Write a list of strings."""
        ...

    def scalar(self, path: str, value: str, attrs: Mapping[str, Any]) -> None:
        """Write one string."""
        ...
