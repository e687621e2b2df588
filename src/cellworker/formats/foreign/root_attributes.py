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
    """Put the attributes of a file's root into a group, and return their names: text, numbers, and lists of them.

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
    items = value if isinstance(value, list) else [value]
    shape = (len(items),) if isinstance(value, list) else ()
    if items and all(isinstance(item, str) for item in items):
        return MemoryTexts(place, items, shape)
    if items and all(isinstance(item, bool | int | float | np.number | np.bool_) for item in items):
        values = np.asarray(items).reshape(shape)
        return MemoryArray(place, values) if values.dtype.kind in "biuf" else None
    return None
