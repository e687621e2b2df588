"""Names of cells and genes: distinguished where they repeat, matched between tables."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cellworker.experiment.packed_texts import PackedTexts, all_differ, text_pieces
from cellworker.formats.common.findings import Findings

__all__ = ["DIMENSION_PREFIXES", "match_rows", "unique_barcodes", "unique_names"]

DIMENSION_PREFIXES = {"pca": "PC_", "umap": "UMAP_", "tsne": "tSNE_"}
"""Seurat's prefixes of the names of a reduction's dimensions."""


def unique_names(names: list[str], field: str, what: str, findings: Findings) -> list[str]:
    """Return the names, each repetition with ``.1``, ``.2``, ... behind it as R's make.unique writes them."""
    taken = set(names)
    if len(taken) == len(names):
        return names
    seen: set[str] = set()
    repeats: dict[str, int] = {}
    out: list[str] = []
    for name in names:
        unique = name
        while unique in seen or (unique != name and unique in taken):
            repeats[name] = repeats.get(name, 0) + 1
            unique = f"{name}.{repeats[name]}"
        seen.add(unique)
        out.append(unique)
    findings.fallback(
        field, found=f"{len(names) - len(taken)} repeated {what}", advice="they are told apart by .1, .2, ..."
    )
    return out


def unique_barcodes(names: Sequence[str], field: str, what: str, findings: Findings) -> Sequence[str]:
    """Return what `unique_names` does, packed: names of cells nearly always differ, and are there to the end."""
    if not all_differ(names):
        names = unique_names(list(names), field, what, findings)
    return names if isinstance(names, PackedTexts) else PackedTexts(text_pieces(names))


def match_rows(rows: Sequence[str] | None, n_rows: int, cells: list[str]) -> NDArray[np.int64] | None:
    """Return each cell's row in a table, -1 where it has none; None when the table's rows cannot be matched.

    Rows without names count as being in the cells' order when there are as many.
    """
    n = len(cells)
    if rows is None or list(rows) == cells:
        return np.arange(n) if n_rows == n else None
    if len(rows) != n_rows:
        return None
    places = {name: row for row, name in reversed(list(enumerate(rows)))}
    return np.array([places.get(cell, -1) for cell in cells], np.int64)
