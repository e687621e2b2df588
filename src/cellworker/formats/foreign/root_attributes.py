"""What a foreign file says of itself in the attributes of its root, kept in ``uns``."""

from typing import Any

import numpy as np

from cellworker.formats.anndata.containers.memory import MemoryArray, MemoryGroup, MemoryTexts
from cellworker.formats.anndata.containers.tree import Array, TreeGroup
from cellworker.formats.anndata.inventory import attributes_of
from cellworker.formats.common.ledger import Ledger

__all__ = ["keep_root_attributes"]


def keep_root_attributes(
    root: TreeGroup, target: MemoryGroup, ledger: Ledger, left_out: tuple[str, ...] = ()
) -> list[str]:
    """Put the attributes of a file's root into a group, and return their names: text, numbers, and arrays of them.

    Others, and those whose name is taken there or is a path, stay open in the ledger, which lists them as lost.

    Parameters
    ----------
    target
        Where they go: ``uns``, or a group in it.
    left_out
        Names that are no information of the user's.
    """
    taken, kept = set(target.names()), []
    # What stands for the container alone is not listed either.
    for name in [name for path, name in attributes_of(root) if not path and name not in left_out]:
        node = None if name in taken or "/" in name else _node(target.place(name), root.attrs.get(name))
        if node is not None:
            target.put(name, node)
            kept.append(name)
    ledger.keep_attributes((), kept)
    return kept


def _node(place: str, value: Any) -> Array | None:  # noqa: ANN401 whatever a file holds
    items, shape = _flat(value)
    if items and all(isinstance(item, str) for item in items):
        return MemoryTexts(place, items, shape)
    if items and all(isinstance(item, bool | int | float | np.number | np.bool_) for item in items):
        values = np.asarray(items).reshape(shape)
        return MemoryArray(place, values) if values.dtype.kind in "biuf" else None
    return None


def _flat(value: Any) -> tuple[list[Any], tuple[int, ...]]:  # noqa: ANN401 whatever a file holds
    """Return the items of lists within lists, and the shape; no items where the lists differ in length."""
    if not isinstance(value, list):
        return [value], ()
    rows = [_flat(row) for row in value]
    shapes = {shape for _, shape in rows}
    if len(shapes) != 1:
        return [], (0,)
    return [item for items, _ in rows for item in items], (len(rows), *shapes.pop())
