"""Lists of entries in text, a cell, a gene and a number in each line: BD Rhapsody's data, UMI-tools' counts."""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from cellworker.formats.anndata.containers.growing import Growing
from cellworker.formats.common.ledger import Conversion
from cellworker.formats.common.matrices.exact_values import exact_dtype, single
from cellworker.formats.foreign.entries import by_cell
from cellworker.formats.foreign.features import EXPRESSION, TYPES, only_genes
from cellworker.formats.foreign.shown import Reading, SampleMatrix, refused
from cellworker.formats.foreign.text.lines import blocks_of_lines, first_lines

__all__ = ["EntriesLayout", "entries_layout_of", "read_entries"]

_AGAIN: Final = "copy the file here again, or export it again"
_CELL: Final = ("cell_index", "cell", "barcode", "cell_id", "cell_barcode")
_GENE: Final = ("bioproduct", "gene", "target", "gene_id", "feature")
_VALUE: Final = ("rsec_adjusted_molecules", "dbec_adjusted_molecules", "count", "counts", "umi", "umis", "n", "value")
"""The platform takes the molecules that RSEC corrected; DBEC is the older correction of targeted panels."""
_ANTIBODY: Final = "pAbO"


@dataclass(frozen=True, slots=True)
class EntriesLayout:
    """Where in a line cell, gene and number stand, and what else the file has."""

    separator: str
    names: list[str]
    cell: int
    gene: int
    value: int
    skipped: int
    comments: list[str]

    @property
    def is_rhapsody(self) -> bool:
        """Whether BD Rhapsody's pipeline wrote it."""
        return self.names[self.value].casefold().endswith("adjusted_molecules")


def entries_layout_of(path: Path) -> EntriesLayout | None:
    """Look at a file's beginning; None where it is no list of entries with named columns."""
    lines, _ = first_lines(path)
    start = next((at for at, line in enumerate(lines) if line.strip() and not line.startswith(b"#")), len(lines))
    if start + 1 >= len(lines) or b"\0" in lines[start]:
        return None
    header = lines[start].decode("utf-8", "replace").strip("\r")
    for separator in ("\t", ",", ";"):
        try:
            names = next(csv.reader([header], delimiter=separator), [])
        except csv.Error:
            return None
        lower = [name.casefold().strip() for name in names]
        found = [next((lower.index(word) for word in words if word in lower), -1) for words in (_CELL, _GENE, _VALUE)]
        if len(names) >= 3 and min(found) >= 0 and len(set(found)) == 3:
            comments = [line.decode("utf-8", "replace") for line in lines[:start] if line.strip()]
            return EntriesLayout(separator, names, found[0], found[1], found[2], start + 1, comments)
    return None


def read_entries(name: str, path: Path, reading: Reading) -> SampleMatrix:
    """Read a list of entries; cells and genes are in the order of their first appearance.

    Raises
    ------
    WorkerError
        ``EXPERIMENT_UNREADABLE``: a line with too few fields, or a number that is none.
    """
    layout = entries_layout_of(path)
    if layout is None:
        raise refused(path, "it has no columns of cells, genes and counts", _AGAIN)
    cells: dict[bytes, int] = {}
    genes: dict[bytes, int] = {}
    dtype = np.dtype(np.float32)
    kept = Growing(np.int32, reading.scratch), Growing(np.int32, reading.scratch), Growing(np.float64, reading.scratch)
    number = 0
    mark, last = layout.separator.encode(), max(layout.cell, layout.gene, layout.value)
    for block in blocks_of_lines(path, reading.max_bytes):
        lines = block[:-1].split(b"\n")
        begin = max(0, layout.skipped - number)
        number += len(lines)
        rows = [line.split(mark) for line in lines[begin:] if line.strip()]
        try:
            found_cells = [cells.setdefault(row[layout.cell], len(cells)) for row in rows]
            found_genes = [genes.setdefault(row[layout.gene], len(genes)) for row in rows]
            values = np.array([float(row[layout.value]) for row in rows], np.float64)
        except (IndexError, ValueError):
            bad = next(row for row in rows if len(row) <= last or not _is_number(row[layout.value]))
            text = mark.join(bad)[:80].decode("utf-8", "replace")
            raise refused(path, f"the line {text!r} is no cell, gene and number", _AGAIN) from None
        if dtype == np.float32:
            dtype = exact_dtype(values)
        kept[0].append(np.array(found_cells, np.int32))
        kept[1].append(np.array(found_genes, np.int32))
        kept[2].append(values)
    numbers = kept[2].finish()
    values32 = single(numbers) if dtype == np.float32 else numbers
    matrix = by_cell(kept[0].finish(), kept[1].finish(), values32, (len(cells), len(genes)), reading.scratch)
    symbols = [_plain(gene) for gene in genes]
    told = Conversion(
        renamed=[
            f"{layout.names[layout.value]} is X", f"{layout.names[layout.cell]} is the index of obs",
            f"{layout.names[layout.gene]} is the index of var",
        ]
    )  # fmt: skip
    used = {layout.cell, layout.gene, layout.value}
    told.lost += [f"the column {item}: X holds one number for each cell and gene"
                  for at, item in enumerate(layout.names) if at not in used]  # fmt: skip
    told.lost += [f"a comment: {line[:200]}" for line in layout.comments]
    antibodies = any(gene.endswith(_ANTIBODY) for gene in symbols)
    types = {TYPES: ["Antibody Capture" if gene.endswith(_ANTIBODY) else EXPRESSION for gene in symbols]}
    technology = "BD Rhapsody" if layout.is_rhapsody else ""
    writer = "BD Rhapsody (expression data)" if layout.is_rhapsody else "a list of entries in text"
    out = SampleMatrix(
        name, technology, writer, matrix, [_plain(cell) for cell in cells], symbols,
        genes=types if antibodies else {}, told=told,
    )  # fmt: skip
    return only_genes(out, reading)


def _is_number(text: bytes) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _plain(name: bytes) -> str:
    return name.decode("utf-8", "replace").strip('"\r')
