"""Reports values of a file that an experiment's matrices do not hold exactly."""

from typing import Any

import numpy as np

from cellworker.formats.anndata.containers.tree import Node
from cellworker.formats.anndata.elements import is_array, is_group
from cellworker.formats.common.matrices.exact_values import kept_as

__all__ = ["rounding"]


def rounding(node: Node | None, held: np.dtype[Any]) -> str:
    """Say so where a matrix's values are not held exactly by the type in which the experiment keeps them."""
    kept = kept_as(held)
    if node is None:
        return ""
    data = node.get("data") if is_group(node) else node
    if not is_array(data) or data.dtype is None or (data.dtype.kind == "f" and data.dtype.itemsize <= 4):
        return ""
    step = data.rows_at_once()
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, data.shape[0], step):
            block = data.read(start, min(start + step, data.shape[0]))
            if not np.array_equal(block.astype(held).astype(block.dtype), block, equal_nan=block.dtype.kind == "f"):
                return f"{data.dtype.name} rounded to {kept}"
    return ""
