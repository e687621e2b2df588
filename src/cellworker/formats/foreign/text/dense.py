"""Tables of numbers in text (csv, tsv, blanks): names in the first row and the first column, read line by line."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cellworker.errors import ErrorCode
from cellworker.experiment.draft import SparseDraft
from cellworker.formats.anndata.containers.growing import Growing
from cellworker.formats.anndata.turning import turned
from cellworker.formats.common.ledger import Conversion
from cellworker.formats.common.matrices.exact_values import exact_dtype, single
from cellworker.formats.foreign.features import TYPES, only_genes
from cellworker.formats.foreign.orientation import CELLS_BY_GENES, GENES_BY_CELLS, ORIENTATIONS, evidence
from cellworker.formats.foreign.shown import Reading, SampleMatrix, refused
from cellworker.formats.foreign.text.lines import blocks_of_lines, first_lines
from cellworker.native import address, kernel

__all__ = ["TableLayout", "layout_of", "read_dense"]

_AGAIN: Final = "copy the file here again, or write it as a table with names in the first row and the first column"
_SEPARATORS: Final = ("\t", ",", ";", " ")
_MAX_INT32: Final = 2**31 - 1
_ANTIBODY: Final = "pAbO"
"""BD Rhapsody names antibodies ``CD3:UCHT1|CD3E|AHS0231|pAbO``."""


@dataclass(frozen=True, slots=True)
class TableLayout:
    """The layout of a table.

    Attributes
    ----------
    separator
        Between fields.
    columns
        Names of the columns of numbers.
    corner
        The name above the rows' names, "" where there is none.
    skipped
        Lines before the first row of numbers: comments and the header.
    comments
        The comments among these.
    """

    separator: str
    columns: list[str]
    corner: str
    skipped: int
    comments: list[str]


def layout_of(path: Path) -> TableLayout | None:
    """Look at a file's beginning; None where it is no table of numbers with names."""
    lines, _ = first_lines(path)
    start = next((at for at, line in enumerate(lines) if line.strip() and not line.startswith(b"#")), len(lines))
    rows = [line for line in lines[start : start + 3] if line.strip()]
    if len(rows) < 2 or b"\0" in b"".join(rows):
        return None
    try:
        header, first = rows[0].decode("utf-8").rstrip("\r"), rows[1].decode("utf-8").rstrip("\r")
    except UnicodeDecodeError:
        return None
    for separator in _SEPARATORS:
        fields, values = _fields(header, separator), _fields(first, separator)
        if len(values) < 2 or len(fields) not in {len(values), len(values) - 1}:
            continue
        if not all(_is_number(value) for value in values[1:]):
            return None
        named = len(fields) == len(values)
        columns = fields[1:] if named else fields
        if all(map(_is_number, columns)) and not (named and (not fields[0] or not _is_number(fields[0]))):
            return None  # numbers without names
        comments = [line.decode("utf-8", "replace") for line in lines[:start] if line.strip()]
        return TableLayout(separator, columns, fields[0] if named else "", start + 1, comments)
    return None


def _fields(line: str, separator: str) -> list[str]:
    if separator == " ":
        return line.replace('"', "").split()
    try:
        return next(csv.reader([line], delimiter=separator))
    except (csv.Error, StopIteration):
        return []


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return text.strip() in {"", "NA", "N/A", "NULL"}
    return True


def read_dense(name: str, path: Path, reading: Reading) -> SampleMatrix | None:
    """Read a table; None, with a finding, where its orientation cannot be told and is not said.

    Raises
    ------
    WorkerError
        ``EXPERIMENT_UNREADABLE``: rows of different lengths, fields that are no numbers.
    """
    layout = layout_of(path)
    if layout is None:
        raise refused(path, "it is no table of numbers with names of rows and columns", _AGAIN)
    if reading.orientation and reading.orientation not in ORIENTATIONS:
        reading.findings.error(
            "--orientation", found=repr(reading.orientation), expected=" or ".join(ORIENTATIONS),
            advice="say one of these", code=ErrorCode.INVALID_INPUT,
        )  # fmt: skip
        return None
    rows, found = _read(path, layout, reading)
    orientation, why = reading.orientation, "said by whoever opens it"
    if not orientation:
        orientation, why = evidence(rows, layout.columns, layout.corner)
    if not orientation:
        reading.findings.error(
            path.name, found="names of rows and columns that do not tell cells from genes",
            expected="names such as ACTB or ENSG00000075624 of genes, AAACCTGAGAAACCAT-1 of cells",
            advice=f"say which are which: --orientation {CELLS_BY_GENES} or --orientation {GENES_BY_CELLS}",
            code=ErrorCode.INVALID_INPUT,
        )  # fmt: skip
        return None
    cells, genes = (rows, layout.columns) if orientation == CELLS_BY_GENES else (layout.columns, rows)
    reading.findings.fallback(
        path.name, found=f"a table of {len(rows):,} x {len(layout.columns):,}",
        advice=f"it is read as {orientation.replace('-', ' ')}: {why}",
    )  # fmt: skip
    values = found if orientation == CELLS_BY_GENES else turned(found, reading.scratch)
    rhapsody = any("rhapsody" in line.casefold() or "bd biosciences" in line.casefold() for line in layout.comments)
    rhapsody = rhapsody or layout.corner.casefold() == "cell_index"
    told = Conversion(
        renamed=[f"{path.name} is X ({orientation.replace('-', ' ')})", "its names are the indices of obs and var"]
    )
    told.lost += [f"a comment: {line[:200]}" for line in layout.comments]
    types = (
        {TYPES: ["Antibody Capture" if gene.endswith(_ANTIBODY) else "Gene Expression" for gene in genes]}
        if any(gene.endswith(_ANTIBODY) for gene in genes)
        else {}
    )
    technology = "BD Rhapsody" if rhapsody else ""
    writer = "BD Rhapsody (table of molecules per cell)" if rhapsody else "a table in text"
    return only_genes(
        SampleMatrix(name, technology, writer, values, list(cells), list(genes), genes=types, told=told), reading
    )


def _read(path: Path, layout: TableLayout, reading: Reading) -> tuple[list[str], SparseDraft]:
    dtype = np.dtype(np.float32)
    while True:
        rows, found = _rows(path, layout, reading, dtype)
        if not isinstance(found, np.dtype):
            return rows, found
        dtype = found  # numbers that float32 would round: once more, wider


def _rows(
    path: Path, layout: TableLayout, reading: Reading, dtype: np.dtype[Any]
) -> tuple[list[str], SparseDraft | np.dtype[Any]]:
    width = len(layout.columns)
    if width > _MAX_INT32:
        raise refused(path, "too many columns", _AGAIN)
    names: list[str] = []
    lengths: list[int] = [0]
    columns, kept = Growing(np.int32, reading.scratch), Growing(dtype, reading.scratch)
    numbers = np.empty(width, np.float64)
    for number, line in _lines(path, layout, reading):
        name, rest = _named(line, layout.separator)
        _numbers(rest, layout.separator, numbers, f"{path.name}: line {number:,}")
        if dtype == np.float32 and (wanted := exact_dtype(numbers)) != np.float32:
            return names, wanted
        places = np.flatnonzero(numbers)
        columns.append(places)
        kept.append(single(numbers[places]) if dtype == np.float32 else numbers[places])
        names.append(name)
        lengths.append(len(places))
    return names, SparseDraft(np.cumsum(lengths, dtype=np.int64), columns.finish(), kept.finish(), width)


def _lines(path: Path, layout: TableLayout, reading: Reading) -> Iterator[tuple[int, bytes]]:
    number = 0
    for block in blocks_of_lines(path, reading.max_bytes):
        for line in block[:-1].split(b"\n"):
            number += 1
            if number > layout.skipped and line.strip() and not (line.startswith(b"#") and number <= layout.skipped):
                yield number, line


def _named(line: bytes, separator: str) -> tuple[str, bytes]:
    mark = separator.encode()
    if line.startswith(b'"'):
        end = line.find(b'"', 1)
        name, rest = line[1:end], line[end + 1 :].removeprefix(mark)
        return name.decode("utf-8", "replace"), rest
    if separator == " ":
        parts = line.split(None, 1)
        return parts[0].decode("utf-8", "replace"), parts[1] if len(parts) > 1 else b""
    name, _, rest = line.partition(mark)
    return name.decode("utf-8", "replace"), rest


def _numbers(line: bytes, separator: str, out: NDArray[np.float64], where: str) -> None:
    text, at = np.frombuffer(line or b"\r", np.uint8), np.zeros(1, np.int64)
    found = kernel("cw_delimited_numbers")(
        address(text, np.uint8), len(text), ord(separator), len(out), address(out, np.float64, writable=True),
        address(at, np.int64, writable=True),
    )  # fmt: skip
    if found == len(out):
        return
    if found < 0:
        piece = line[int(at[0]) : int(at[0]) + 40].partition(separator.encode())[0].decode("utf-8", "replace")
        raise refused(where, f"{piece!r} is no number", _AGAIN)
    more = "more" if found > len(out) else f"only {found:,}"
    raise refused(where, f"{more} numbers for {len(out):,} columns", _AGAIN)
