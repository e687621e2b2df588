"""Groups and arrays in memory, or from another container under another path: the view of other formats as AnnData.

A reader of another format lays such nodes out as AnnData would have them, and everything that reads AnnData (opening,
checking, conversion with its ledger) reads that format too.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from cellworker.experiment.draft import SparseDraft
from cellworker.experiment.model import Categorical, Column
from cellworker.formats.anndata.containers.tree import Array, Node, TreeGroup, damaged
from cellworker.formats.common.matrices.sparse import blocks

__all__ = [
    "MemoryArray",
    "MemoryGroup",
    "MemoryMatrix",
    "MemoryTexts",
    "Moved",
    "MovedArray",
    "moved",
    "put_column",
    "table_group",
]

_BLOCK: Final = 1 << 22
_ARRAY: Final = {"encoding-type": "array", "encoding-version": "0.2.0"}
_TEXTS: Final = {"encoding-type": "string-array", "encoding-version": "0.2.0"}
_DICT: Final = {"encoding-type": "dict", "encoding-version": "0.1.0"}

Make = Callable[[], Node]


class MemoryGroup:
    """A group; see `cellworker.formats.anndata.containers.tree.TreeGroup`."""

    def __init__(self, path: str, attrs: Mapping[str, Any] | None = None) -> None:
        self.path = path
        self.attrs: Mapping[str, Any] = dict(_DICT if attrs is None else attrs)
        self._nodes: dict[str, Node | Make] = {}

    def place(self, name: str) -> str:
        """Return the path of a member."""
        return f"{self.path}/{name}".lstrip("/")

    def put(self, name: str, node: Node | Make) -> None:
        """Add a member; a function makes it at its first use."""
        self._nodes[name] = node

    def group(self, name: str, attrs: Mapping[str, Any] | None = None) -> "MemoryGroup":
        """Add a group and return it; an existing one is returned unchanged."""
        found = self._nodes.get(name)
        if isinstance(found, MemoryGroup):
            return found
        made = MemoryGroup(self.place(name), attrs)
        self._nodes[name] = made
        return made

    def names(self) -> list[str]:
        """Return the names in it, sorted."""
        return sorted(self._nodes)

    def get(self, name: str) -> Node | None:
        """Return a member by name or path."""
        if name in self._nodes:
            node = self._nodes[name]
            if callable(node):
                node = self._nodes[name] = node()
            return node
        first, _, rest = name.partition("/")
        inner = self.get(first) if rest and first in self._nodes else None
        return inner.get(rest) if inner is not None and not hasattr(inner, "shape") else None


class MemoryArray:
    """An array of numbers in memory, or a map of a file; see `cellworker.formats.anndata.containers.tree.Array`."""

    def __init__(self, path: str, values: NDArray[Any], attrs: Mapping[str, Any] | None = None) -> None:
        self.path = path
        self.attrs: Mapping[str, Any] = dict(_ARRAY if attrs is None else attrs)
        self.shape: tuple[int, ...] = values.shape
        self.dtype: np.dtype[Any] | None = values.dtype
        self._values = values

    def read(self, start: int = 0, stop: int | None = None) -> NDArray[Any]:
        """Return the numbers of some rows, or of all."""
        return np.asarray(self._values[start:stop]) if self.shape else self._values

    def blocks(self) -> Iterator[tuple[int, NDArray[Any]]]:
        """Walk over it in order."""
        for start, end in blocks(self.shape[0], _BLOCK):
            yield start, np.asarray(self._values[start:end])

    def rows_at_once(self) -> int:
        """Return how many rows come to about four million values."""
        return max(1, _BLOCK // max(1, int(np.prod(self.shape[1:]))))

    def texts(self) -> list[str]:
        """Refuse: it holds numbers."""
        raise damaged(self.path, "expected text")

    def text_pieces(self) -> Iterator[list[str]]:
        """Refuse: it holds numbers."""
        raise damaged(self.path, "expected text")

    def records(self) -> NDArray[Any]:
        """Refuse: it holds plain numbers."""
        raise damaged(self.path, "expected records")

    def is_null(self) -> bool:
        """Return that it holds something."""
        return False


class MemoryTexts:
    """An array of text in memory; see `cellworker.formats.anndata.containers.tree.Array`."""

    dtype: np.dtype[Any] | None = None

    def __init__(self, path: str, values: Sequence[str], shape: tuple[int, ...] | None = None) -> None:
        self.path = path
        self.attrs: Mapping[str, Any] = dict(_TEXTS)
        self.shape: tuple[int, ...] = (len(values),) if shape is None else shape
        self._values = list(values)

    def read(self, start: int = 0, stop: int | None = None) -> NDArray[Any]:  # noqa: ARG002
        """Refuse: it holds text."""
        raise damaged(self.path, "expected numbers")

    def blocks(self) -> Iterator[tuple[int, NDArray[Any]]]:
        """Refuse: it holds text."""
        raise damaged(self.path, "expected a list of numbers")

    def rows_at_once(self) -> int:
        """Return the number of its rows."""
        return max(1, self.shape[0] if self.shape else 1)

    def texts(self) -> list[str]:
        """Return all strings."""
        return list(self._values)

    def text_pieces(self) -> Iterator[list[str]]:
        """Return all strings at once: they are in memory."""
        yield self._values

    def records(self) -> NDArray[Any]:
        """Refuse: it holds plain text."""
        raise damaged(self.path, "expected records")

    def is_null(self) -> bool:
        """Return that it holds something."""
        return False


class MemoryMatrix(MemoryGroup):
    """A sparse matrix whose rows and columns were checked: CSR, as AnnData lays it out.

    Attributes
    ----------
    draft
        The matrix itself, for readers that need no second copy of it.
    """

    def __init__(self, path: str, draft: SparseDraft) -> None:
        shape = [len(draft.indptr) - 1, draft.n_columns]
        super().__init__(path, {"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": shape})
        self.draft = draft
        for name, values in (("data", draft.values), ("indices", draft.columns), ("indptr", draft.indptr)):
            self.put(name, MemoryArray(self.place(name), values, {}))


class Moved:
    """A group of another container, under another path."""

    def __init__(self, group: TreeGroup, path: str, left_out: frozenset[str] = frozenset()) -> None:
        self.path, self.attrs = path, group.attrs
        self._group, self._left_out = group, left_out

    def names(self) -> list[str]:
        """Return the names in it, sorted."""
        return [name for name in self._group.names() if name not in self._left_out]

    def get(self, name: str) -> Node | None:
        """Return a member by name or path."""
        node = self._group.get(name) if name.partition("/")[0] not in self._left_out else None
        return None if node is None else moved(node, f"{self.path}/{name}".lstrip("/"))


class MovedArray:
    """An array of another container, under another path."""

    def __init__(self, array: Array, path: str) -> None:
        self.path, self.attrs, self.shape, self.dtype = path, array.attrs, array.shape, array.dtype
        self.read, self.blocks, self.rows_at_once = array.read, array.blocks, array.rows_at_once
        self.texts, self.text_pieces = array.texts, array.text_pieces
        self.records, self.is_null = array.records, array.is_null


def moved(node: Node, path: str) -> Node:
    """Return a node of another container as if it lay at `path`."""
    if hasattr(node, "shape"):
        return MovedArray(cast("Array", node), path)
    return Moved(node, path)


def table_group(root: MemoryGroup, name: str, index: Sequence[str], index_name: str = "_index") -> MemoryGroup:
    """Add a data frame that has an index and no columns yet; `put_column` adds them."""
    attrs = {"encoding-type": "dataframe", "encoding-version": "0.2.0", "_index": index_name, "column-order": []}
    table = root.group(name, attrs)
    table.put(index_name, MemoryTexts(table.place(index_name), index))
    return table


def put_column(table: MemoryGroup, name: str, values: Column | Sequence[str], *, ordered: bool = False) -> None:
    """Add a column to a data frame: labels as categories, text, or numbers."""
    place = table.place(name)
    order = table.attrs["column-order"]
    order.append(name)
    if isinstance(values, Categorical):
        group = table.group(name, {"encoding-type": "categorical", "encoding-version": "0.2.0", "ordered": ordered})
        group.put("codes", MemoryArray(f"{place}/codes", values.codes))
        group.put("categories", MemoryTexts(f"{place}/categories", values.categories))
    elif isinstance(values, np.ndarray):
        table.put(name, MemoryArray(place, values))
    else:
        table.put(name, MemoryTexts(place, values))
