"""Tables of marker genes by tissue and cell type: ScType's workbook, or JSON.

The workbook is the one that ScType publishes (ScTypeDB_full.xlsx), or one of the same columns. JSON is
``{tissue: {"positive": {cell type: [symbol]}, "negative": {cell type: [symbol]}}}``.
"""

import io
import re
import zipfile
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any
from xml.etree import ElementTree as ET

import orjson

from cellworker.errors import ErrorCode, WorkerError

__all__ = ["CellType", "MarkerTable", "approved_symbols", "read_marker_table"]

_MAIN = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
_HEADER = ("tissueType", "cellName", "geneSymbolmore1", "geneSymbolmore2")
_MAX_PART_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class CellType:
    """A cell type with the symbols, in the nomenclature's spelling, that speak for it and against it."""

    name: str
    positive: tuple[str, ...]
    negative: tuple[str, ...]


MarkerTable = dict[str, list[CellType]]
"""The cell types of each tissue, in the table's order; names may repeat."""


def read_marker_table(content: bytes) -> MarkerTable:
    """Read a table of markers.

    Symbols of a workbook are corrected as ScType corrects them: old names become approved ones, names that belong to
    no human gene are left out. JSON is taken as it is.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` saying what is wrong with it.
    """
    try:
        table = _workbook(content) if content[:2] == b"PK" else _json(content)
    except (KeyError, ValueError, TypeError, AttributeError, IndexError, zipfile.BadZipFile, ET.ParseError) as error:
        why = f"it is damaged, or of another layout ({error})"
        raise _unreadable(why) from None
    if not any(table.values()):
        raise _unreadable("it holds no cell types")
    return table


def _unreadable(why: str) -> WorkerError:
    wanted = f"an .xlsx workbook with the columns {', '.join(_HEADER)}, or JSON"
    return WorkerError(
        ErrorCode.INVALID_INPUT, f"The table of marker genes (SCTYPE_TABLE) cannot be read: {why}. It must be {wanted}."
    )


def _json(content: bytes) -> MarkerTable:
    table: MarkerTable = {}
    for tissue, sides in orjson.loads(content).items():
        against = sides.get("negative", {})
        table[tissue] = [
            CellType(name, _symbols(genes), _symbols(against.get(name, [])))
            for name, genes in sides["positive"].items()
        ]
    return table


def _symbols(value: Any) -> tuple[str, ...]:  # noqa: ANN401 any JSON value
    if not isinstance(value, list) or not all(isinstance(gene, str) for gene in value):
        message = "markers must be lists of symbols"
        raise TypeError(message)
    return tuple(value)


def _workbook(content: bytes) -> MarkerTable:
    rows = _sheet_rows(content)
    header = {text: column for column, text in rows[0].items()}
    tissue_at, name_at, for_at, against_at = (header[name] for name in _HEADER)
    table: MarkerTable = {}
    for row in rows[1:]:
        tissue, name = row.get(tissue_at, ""), row.get(name_at, "")
        if tissue and name:
            sides = (approved_symbols(row.get(column, "")) for column in (for_at, against_at))
            table.setdefault(tissue, []).append(CellType(name, *sides))
    return table


def _sheet_rows(content: bytes) -> list[dict[str, str]]:
    """Return the cells of the first sheet that are not empty, by their column's letters."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        texts = ["".join(part.text or "" for part in item.iter(f"{_MAIN}t"))
                 for item in _part(archive, "xl/sharedStrings.xml").iter(f"{_MAIN}si")]  # fmt: skip
        sheet = _part(archive, "xl/worksheets/sheet1.xml")
    rows = []
    for row in sheet.iter(f"{_MAIN}row"):
        cells: dict[str, str] = {}
        for cell in row.iter(f"{_MAIN}c"):
            text = "".join(part.text or "" for part in cell.iter() if part.tag in (f"{_MAIN}v", f"{_MAIN}t"))
            if text:
                column = re.sub(r"\d", "", cell.get("r", ""))
                cells[column] = texts[int(text)] if cell.get("t") == "s" else text
        rows.append(cells)
    return rows


def _part(archive: zipfile.ZipFile, name: str) -> ET.Element:
    if archive.getinfo(name).file_size > _MAX_PART_BYTES:
        message = f"{name} is too large"
        raise ValueError(message)
    text = archive.read(name)
    if b"<!DOCTYPE" in text:  # spreadsheets have none, and entities can be made to grow without bounds
        message = f"{name} declares a document type"
        raise ValueError(message)
    return ET.fromstring(text)  # noqa: S314 without a document type there are no entities


def approved_symbols(text: str) -> tuple[str, ...]:
    """Return the approved symbols of a list of names, separated by commas, as ScType makes them.

    Names are freed of blanks, turned into capitals and sorted, then each replaced by the approved symbols; names that
    were replaced by the same ones count once, but a symbol can still be there twice where an old name stands for
    several genes.
    """
    names = sorted(name.upper() for name in text.replace(" ", "").split(",") if name not in ("", "NA"))
    known = _corrections()
    return tuple(symbol for group in dict.fromkeys(known.get(name, (name,)) for name in names) for symbol in group)


@cache
def _corrections() -> dict[str, tuple[str, ...]]:
    lines = files("cellworker.formats.common").joinpath("marker_symbols.txt").read_text(encoding="utf-8").splitlines()
    pairs = (line.split("=") for line in lines if line and not line.startswith("#"))
    return {old: tuple(new.split(",")) if new else () for old, new in pairs}
