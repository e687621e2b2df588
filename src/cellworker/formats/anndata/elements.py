"""AnnData's on-disk elements, in every encoding from 0.7 to 0.12: columns and tables; its matrices are in `matrices`.

The encodings are described in AnnData's documentation, "On-disk format".
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from cellworker.experiment.model import Categorical, Column
from cellworker.experiment.packed_texts import PackedTexts
from cellworker.formats.anndata.containers.tree import Array, Node, TreeGroup, damaged
from cellworker.formats.common.cells.labels import categorical

__all__ = [
    "Table",
    "column",
    "is_array",
    "is_group",
    "members",
    "table_of",
    "text_of",
]

_MANY_ROWS = 1 << 16


def is_group(node: Node | None) -> TypeGuard[TreeGroup]:
    """Tell a group from an array."""
    return node is not None and not hasattr(node, "shape")


def is_array(node: Node | None) -> TypeGuard[Array]:
    """Tell an array from a group."""
    return node is not None and hasattr(node, "shape")


def members(node: Node | None) -> Iterator[tuple[str, Node]]:
    """Walk over what is in a group; nothing where there is no group."""
    if is_group(node):
        for name in node.names():
            child = node.get(name)
            if child is not None:
                yield name, child


def text_of(node: Node | None) -> list[str] | None:
    """Return an array's strings, or its numbers as text; None for anything else."""
    if not is_array(node):
        return None
    if node.dtype is None:
        return node.texts()
    return _as_text(node.read()) if node.dtype.kind in "biuf" else None


def _as_text(values: NDArray[Any]) -> list[str]:
    return [str(value) for value in np.atleast_1d(values).tolist()]


# --- columns and tables ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Table:
    """A data frame on disk: its index, and its columns by name, unread."""

    group: TreeGroup
    index: Sequence[str]
    columns: Collection[str]

    def get(self, name: str) -> Column | None:
        """Read a column; None when it is not there, is no plain column, or has another length."""
        return column(self.group, name, len(self.index)) if name in self.columns else None

    def texts(self, name: str) -> list[str] | None:
        """Read a column as strings, "" where it is missing."""
        found = self.get(name)
        if found is None:
            return None
        if isinstance(found, Categorical):
            labels = [*found.categories, ""]
            return [labels[code] for code in found.codes.tolist()]
        return _as_text(found)


def table_of(node: Node | None) -> Table | None:
    """Read a data frame's index and the names of its columns; None when it is none."""
    if not is_group(node):
        return None
    at = node.attrs.get("_index", "_index")
    names = node.names()
    if at not in names and "index" in names:
        at = "index"
    index = _index_of(node.get(at)) if isinstance(at, str) else None
    if index is None:
        held = column(node, at, None) if isinstance(at, str) and at in names else None
        if not isinstance(held, Categorical):
            return None
        index = [held.categories[code] if code >= 0 else "" for code in held.codes.tolist()]
    order = node.attrs.get("column-order", None)
    listed = [str(name) for name in order] if isinstance(order, list) else []
    known = set(names)
    # A mapping keeps the order and finds a name at once, of tens of thousands too.
    columns = {name: None for name in listed if name in known}
    columns |= {name: None for name in names if name not in {at, "__categories"}}
    return Table(node, index, columns)


def _index_of(node: Node | None) -> Sequence[str] | None:
    """Return the names of a table's rows; those of a large one, of many cells, are packed."""
    if is_array(node) and node.dtype is None and len(node.shape) == 1 and node.shape[0] > _MANY_ROWS:
        return PackedTexts(node.text_pieces())
    return text_of(node)


def column(parent: TreeGroup, name: str, length: int | None) -> Column | None:
    """Read one column of a data frame; None when it is no plain column of `length` values."""
    node = parent.get(name)
    found = _from_group(node) if is_group(node) else _from_array(parent, name, node) if is_array(node) else None
    size = len(found.codes) if isinstance(found, Categorical) else len(found) if found is not None else -1
    return found if length is None or size == length else None


def _from_group(node: TreeGroup) -> Column | None:
    codes, labels = node.get("codes"), node.get("categories")
    if is_array(codes):
        texts = text_of(labels)
        if texts is None and is_group(labels):
            # anndata writes categories that may be missing as an array of text with a mask.
            texts = text_of(labels.get("values"))
        return _labels(codes, texts)
    values, mask = node.get("values"), node.get("mask")
    if not is_array(values) or not is_array(mask) or values.shape != mask.shape or len(values.shape) != 1:
        return None
    missing = mask.read().astype(np.bool_)
    if values.dtype is None:
        texts = values.texts()
        return categorical([None if gone else text for text, gone in zip(texts, missing.tolist(), strict=True)])
    numbers = values.read()
    if numbers.dtype == np.bool_:
        if not missing.any():
            return numbers
        return Categorical(np.where(missing, -1, numbers).astype(np.int32), ["FALSE", "TRUE"])
    return np.where(missing, np.nan, numbers.astype(np.float64)) if missing.any() else _numbers(numbers)


def _from_array(parent: TreeGroup, name: str, node: Array) -> Column | None:
    if len(node.shape) != 1:
        return None
    if node.attrs.get("categories", None) is not None:
        # Before 0.8 a categorical was its codes, with a reference to labels kept beside the columns.
        return _labels(node, text_of(parent.get(f"__categories/{name}")))
    if node.dtype is None:
        return categorical(node.texts())
    return _numbers(node.read()) if node.dtype.kind in "biuf" else None


def _numbers(values: NDArray[Any]) -> NDArray[Any] | None:
    if values.dtype == np.bool_:
        return values
    if values.dtype.kind == "f":
        return values.astype(np.float64)
    return values.astype(np.float64) if values.dtype == np.uint64 else values.astype(np.int64)


def _labels(codes: Array, categories: list[str] | None) -> Categorical | None:
    if categories is None or codes.dtype is None or codes.dtype.kind not in "iu" or len(codes.shape) != 1:
        return None
    places = codes.read().astype(np.int64)
    if len(places) and (places.min() < -1 or places.max() >= len(categories)):
        raise damaged(codes.path, f"a code outside the {len(categories)} categories")
    return Categorical(places.astype(np.int32), categories)


# --- matrices -------------------------------------------------------------------------------------------------------
