"""A container that remembers what of it was read: what is left at the end is what a reader passed over.

For readers that build an object of another kind out of a file, so that no ledger of the object can know of the rest.
"""

from collections.abc import Iterator, Mapping
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from cellworker.formats.anndata.containers.tree import Array, Node, TreeGroup

__all__ = ["Watched"]

_Seen = dict[str, set[str]]
"""By the path of a node whose values were read or that is a group: the attributes that were asked for."""


class _Attributes(Mapping[str, Any]):
    def __init__(self, attrs: Mapping[str, Any], asked: set[str]) -> None:
        self._attrs, self._asked = attrs, asked

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401 - as the attributes themselves
        self._asked.add(name)
        return self._attrs[name]

    def get(self, name: str, default: Any = None) -> Any:  # noqa: ANN401
        self._asked.add(name)
        return self._attrs.get(name, default)

    def __iter__(self) -> Iterator[str]:
        return iter(self._attrs)

    def __len__(self) -> int:
        return len(self._attrs)


class Watched:
    """A group; see `cellworker.formats.anndata.containers.tree.TreeGroup`."""

    def __init__(self, group: TreeGroup, asked: _Seen | None = None, read: set[str] | None = None) -> None:
        self.path = group.path
        self._group = group
        self._asked: _Seen = {} if asked is None else asked
        self._read: set[str] = set() if read is None else read
        self.attrs: Mapping[str, Any] = _Attributes(group.attrs, self._asked.setdefault(group.path, set()))

    def names(self) -> list[str]:
        """Return the names in it, sorted."""
        return self._group.names()

    def get(self, name: str) -> Node | None:
        """Return a member by name or path."""
        node = self._group.get(name)
        if node is None:
            return None
        if hasattr(node, "texts"):
            return _WatchedArray(cast("Array", node), self._asked, self._read)
        return Watched(node, self._asked, self._read)

    def passed_over(self) -> Iterator[str]:
        """Say what was not read: arrays, empty groups that nobody looked at, and attributes of all that was read."""
        waiting: list[Node] = [self._group]
        while waiting:
            node = waiting.pop()
            where = node.path or "the root"
            if hasattr(node, "texts"):
                if node.path not in self._read:
                    yield where
                    continue
            else:
                inner = [member for name in node.names() if (member := node.get(name)) is not None]
                waiting += reversed(inner)
                if not inner and node.path not in self._asked:
                    yield f"{where} (an empty group)"
            for name in node.attrs:
                if name not in self._asked.get(node.path, ()):
                    yield f"{where}, attribute {name}"


class _WatchedArray:
    def __init__(self, array: Array, asked: _Seen, read: set[str]) -> None:
        self.path, self.shape, self.dtype = array.path, array.shape, array.dtype
        self.attrs: Mapping[str, Any] = _Attributes(array.attrs, asked.setdefault(array.path, set()))
        self._array, self._seen = array, read

    def read(self, start: int = 0, stop: int | None = None) -> NDArray[Any]:
        self._seen.add(self.path)
        return self._array.read(start, stop)

    def blocks(self) -> Iterator[tuple[int, NDArray[Any]]]:
        self._seen.add(self.path)
        return self._array.blocks()

    def rows_at_once(self) -> int:
        return self._array.rows_at_once()

    def texts(self) -> list[str]:
        self._seen.add(self.path)
        return self._array.texts()

    def text_pieces(self) -> Iterator[list[str]]:
        self._seen.add(self.path)
        return self._array.text_pieces()

    def records(self) -> NDArray[np.void]:
        self._seen.add(self.path)
        return self._array.records()

    def is_null(self) -> bool:
        if self._array.is_null() or 0 in self.shape:  # whoever asks has read all that is in it
            self._seen.add(self.path)
        return self._array.is_null()
