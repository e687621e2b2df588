"""Reports values of a file that an experiment's matrices do not hold exactly."""

from typing import Any

import numpy as np

from cellworker.formats.anndata.containers.tree import Node, row_pieces
from cellworker.formats.anndata.elements import is_array, is_group
from cellworker.formats.common.matrices.exact_values import kept_as, loses_digits

__all__ = ["rounding"]


def rounding(node: Node | None, held: np.dtype[Any]) -> str:
    """Say so where a matrix's values are not held exactly by the type in which the experiment keeps them."""
    if node is None:
        return ""
    data = node.get("data") if is_group(node) else node
    if not is_array(data) or data.dtype is None or (data.dtype.kind == "f" and data.dtype.itemsize <= 4):
        return ""
    pieces = (piece for _, piece in row_pieces(data))
    return f"{data.dtype.name} rounded to {kept_as(held)}" if loses_digits(pieces, held) else ""
