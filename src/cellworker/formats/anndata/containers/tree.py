"""A file of groups and arrays, in HDF5 or Zarr: the interface that the AnnData readers use."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from cellworker.errors import ErrorCode, WorkerError
from cellworker.formats.common.matrices.sparse import blocks

__all__ = ["Array", "Budget", "Node", "TreeGroup", "damaged", "refused", "row_pieces"]

_GIB = 1 << 30
_MAX_RATIO = 250
"""As for `.rds`: no real matrix is stored in a 250th of its size; checked from 1 GiB on."""


class Array(Protocol):
    """An array of numbers or of text.

    Attributes
    ----------
    path
        Where it is, as anndata names it: ``obs/leiden/codes``.
    attrs
        Its attributes, decoded: strings, numbers, lists of these.
    dtype
        Of its elements in native byte order; None for text.
    """

    path: str
    attrs: Mapping[str, Any]
    shape: tuple[int, ...]
    dtype: np.dtype[Any] | None

    def read(self, start: int = 0, stop: int | None = None) -> NDArray[Any]:
        """Return the numbers of some rows (indices along the first axis), or of all; of a scalar, the scalar."""
        ...

    def blocks(self) -> Iterator[tuple[int, NDArray[Any]]]:
        """Iterate over a one-dimensional array of numbers in order: the start of each piece, and the piece."""
        ...

    def rows_at_once(self) -> int:
        """Return how many rows are cheapest to read together."""
        ...

    def texts(self) -> list[str]:
        """Return all strings of an array of text, row after row; of a scalar, a list of one."""
        ...

    def text_pieces(self) -> Iterator[list[str]]:
        """Walk over the strings of a list of text in order, some at a time where its container can."""
        ...

    def records(self) -> NDArray[Any]:
        """Return all records of an array whose `dtype` has fields; fields of text hold str."""
        ...

    def is_null(self) -> bool:
        """Return whether it holds nothing, not even a shape (how anndata writes None)."""
        ...


@runtime_checkable
class Mapped(Protocol):
    """An array that may lie in its file as it is used."""

    def mapped(self) -> NDArray[Any] | None:
        """Return the numbers in a read-only map of the file, None where they must be read.

        The file's owner can change them at any time: no memory may depend on them.
        """
        ...


class TreeGroup(Protocol):
    """A mapping of names to groups and arrays."""

    path: str
    attrs: Mapping[str, Any]

    def names(self) -> list[str]:
        """Return the names in it, sorted."""
        ...

    def get(self, name: str) -> "Node | None":
        """Return a member by its name or by a path of names; None where there is none."""
        ...


Node = TreeGroup | Array


def row_pieces(node: Array, first: int = 0, last: int | None = None) -> Iterator[tuple[int, NDArray[Any]]]:
    """Read the rows of an array of numbers in order, some at a time: where a piece begins, and the piece.

    Of a list that is read whole, threads decompress the pieces where its container can.
    """
    if len(node.shape) == 1 and not first and last is None and node.dtype is not None and node.dtype.kind in "biuf":
        yield from node.blocks()
        return
    last = node.shape[0] if last is None else last
    for start, end in blocks(last - first, node.rows_at_once()):
        yield first + start, node.read(first + start, first + end)


@dataclass(slots=True)
class Budget:
    """A limit on the bytes that a file may claim to hold.

    `max_bytes` is the limit for all arrays together; `claimed` is the sum so far.
    """

    max_bytes: int
    claimed: int = 0

    def claim(self, path: str, size: int, stored: int) -> None:
        """Count an array of `size` bytes that takes `stored` bytes in the file.

        Raises
        ------
        WorkerError
            ``EXPERIMENT_UNREADABLE`` when it claims far more than it stores, or all arrays together too much.
        """
        self.claimed += size
        if size > _GIB and size > _MAX_RATIO * stored:
            raise refused(
                what=f"{path} claims to hold {size / _GIB:,.1f} GiB but stores only {stored:,} bytes",
                advice="if that is meant, store it as a sparse matrix",
            )
        if self.claimed > self.max_bytes:
            raise refused(
                what=f"its arrays claim to hold more than {self.max_bytes / _GIB:,.0f} GiB",
                advice="raise LOAD_MAX_GB if that is meant",
            )


def refused(what: str, advice: str) -> WorkerError:
    """Return the error for a file that is not read, and why."""
    return WorkerError(ErrorCode.EXPERIMENT_UNREADABLE, f"The AnnData file is not read: {what}; {advice}.")


def damaged(path: str, what: object) -> WorkerError:
    """Return the error for content that no AnnData writer makes."""
    return WorkerError(
        ErrorCode.EXPERIMENT_UNREADABLE,
        f"The AnnData file is damaged or incomplete: {path}: {what}. Copy it here again, or write it again.",
    )
