"""The cells of an AnnData file: the columns of ``obs``, and the colours of their labels."""

import re

import numpy as np
from numpy.typing import NDArray

from cellworker.experiment.model import Categorical, Column
from cellworker.formats.anndata.containers.tree import Array, TreeGroup, row_pieces
from cellworker.formats.anndata.elements import Table, is_group, text_of
from cellworker.formats.common.findings import Findings
from cellworker.formats.common.scratch import Scratch

__all__ = ["IDENTITIES", "colors_of", "doubles_of", "read_obs"]

IDENTITIES = "seurat_identity"
"""The column of Seurat's active identities in our own files."""

_COLOR = re.compile(r"#[0-9A-Fa-f]{6}([0-9A-Fa-f]{2})?")


def read_obs(table: Table, findings: Findings) -> dict[str, Column]:
    """Read every usable column."""
    columns: dict[str, Column] = {}
    skipped = []
    for name in table.columns:
        found = table.get(name)
        if found is None:
            skipped.append(name)
        else:
            columns[name] = found
    if skipped:
        names = ", ".join(skipped[:8]) + (", ..." if len(skipped) > 8 else "")
        findings.fallback("obs", found=f"columns that are no plain values: {names}", advice="they are left out")
    return columns


def colors_of(root: TreeGroup, columns: dict[str, Column]) -> dict[str, list[str]]:
    """Return the colours of ``uns["<column>_colors"]``, one for each category, where they are hex colours."""
    uns = root.get("uns")
    there = frozenset(uns.names()) if is_group(uns) else frozenset()
    out: dict[str, list[str]] = {}
    for name, column in columns.items():
        if not is_group(uns) or not isinstance(column, Categorical) or f"{name}_colors" not in there:
            continue
        colors = text_of(uns.get(f"{name}_colors"))
        if colors and len(colors) >= len(column.categories) and all(map(_COLOR.fullmatch, colors)):
            out[name] = [color[:7].lower() for color in colors[: len(column.categories)]]
    return out


def doubles_of(node: Array, scratch: Scratch) -> NDArray[np.float64]:
    """Read a table of numbers as float64, piece by piece; a large one goes to a spool file."""
    values: NDArray[np.float64] = scratch.empty((node.shape[0], node.shape[1]), np.float64)
    for start, piece in row_pieces(node):
        values[start : start + len(piece)] = piece
    return values
