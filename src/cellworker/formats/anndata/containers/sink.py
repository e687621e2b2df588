"""A file of groups and arrays to write, in HDF5 or Zarr: the interface of the AnnData writers."""

from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Protocol, Self

from numpy.typing import DTypeLike, NDArray

__all__ = ["EditableSink", "Rows", "Sink"]

Rows = Callable[[int, int], NDArray[Any]]
"""Returns the values from one row to another; of a scalar, the scalar."""


class Sink(Protocol):
    """Takes groups before what is in them, each under a path with slashes. Complete when its ``with`` block is left."""

    def __enter__(self) -> Self:
        """Begin."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Complete the store."""
        ...

    def group(self, path: str, attrs: Mapping[str, Any]) -> None:
        """Make a group; the root has the path ""."""
        ...

    def array(self, path: str, shape: tuple[int, ...], dtype: DTypeLike, rows: Rows, attrs: Mapping[str, Any]) -> None:
        """Write an array of numbers, asking for its rows piece by piece; a scalar has the shape ()."""
        ...

    def texts(
        self, path: str, texts: Sequence[str], attrs: Mapping[str, Any], shape: tuple[int, ...] | None = None
    ) -> None:
        """Write strings: a list, or an array of that shape given row after row."""
        ...

    def scalar(self, path: str, value: str, attrs: Mapping[str, Any]) -> None:
        """Write one string."""
        ...

    def records(self, path: str, values: NDArray[Any], attrs: Mapping[str, Any]) -> None:
        """Write an array of records; fields of objects hold str."""
        ...

    def null(self, path: str, attrs: Mapping[str, Any]) -> None:
        """Write the encoding of None."""
        ...

    def reference(self, path: str, name: str, place: str) -> None:
        """Let an attribute refer to another array of the same group (how anndata 0.7 finds its categories)."""
        ...


class EditableSink(Sink, Protocol):
    """An existing store, parts of which are replaced."""

    def has(self, path: str) -> bool:
        """Return whether there is something under a path."""
        ...

    def remove(self, path: str) -> None:
        """Remove a group or array; nothing happens where there is none."""
        ...

    def attribute(self, path: str, name: str, value: Any) -> None:  # noqa: ANN401
        """Set one attribute of a group or array."""
        ...
