"""Matrices in Matrix Market's text: read in blocks, laid out cell after cell.

The format is NIST's "Matrix Market exchange formats": a header that names the kind of numbers, comments, the size, then
one line for each entry.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cellworker.experiment.draft import SparseDraft
from cellworker.formats.anndata.containers.growing import Growing
from cellworker.formats.common.matrices.exact_values import exact_dtype, single
from cellworker.formats.foreign.entries import by_cell
from cellworker.formats.foreign.shown import Reading, refused
from cellworker.formats.foreign.text.lines import blocks_of_lines
from cellworker.native import address, kernel

__all__ = ["MarketHeader", "header_of", "read_market"]

_ADVICE: Final = "write it as 'matrix coordinate integer general', as scipy.io.mmwrite does of a sparse matrix"
_AGAIN: Final = "copy the file here again, or write it again"
_MAX_INT32: Final = 2**31 - 1
_CAPACITY: Final = 1 << 20
_MIN_LINE: Final = 4
"""Bytes of the shortest entry, ``1 1\\n``."""


@dataclass(frozen=True, slots=True)
class MarketHeader:
    """What a file says before its entries; `n_entries` is what it claims, `comments` are without their marks."""

    has_value: bool
    n_rows: int
    n_columns: int
    n_entries: int
    comments: tuple[str, ...] = ()


def header_of(lines: Iterator[bytes], path: Path) -> MarketHeader:
    """Read the header and the size from the first lines.

    Raises
    ------
    WorkerError
        ``EXPERIMENT_UNREADABLE``: another kind of matrix, or no size.
    """
    words = next(lines, b"").decode("ascii", "replace").lower().split()
    if words[:3] != ["%%matrixmarket", "matrix", "coordinate"] or len(words) != 5:
        raise refused(path, f"its header is {' '.join(words)[:80]!r}", _ADVICE)
    if words[3] not in {"integer", "real", "double", "pattern"} or words[4] != "general":
        raise refused(path, f"it holds a matrix that is {words[3]} {words[4]}", _ADVICE)
    comments: list[str] = []
    for line in lines:
        fields = line.split()
        if not fields or line.startswith(b"%"):
            comments += [text] if (text := line.strip(b"% \t\r\n").decode("utf-8", "replace")) else []
            continue
        if len(fields) == 3 and all(field.isdigit() and len(field) < 19 for field in fields):
            n_rows, n_columns, n_entries = map(int, fields)
            if max(n_rows, n_columns) <= _MAX_INT32:
                return MarketHeader(words[3] != "pattern", n_rows, n_columns, n_entries, tuple(comments))
        raise refused(path, f"its size is {line[:60].decode('ascii', 'replace')!r}", "expected rows, columns, entries")
    raise refused(path, "it ends before its size is told", _AGAIN)


def read_market(path: Path, reading: Reading, *, cells_are_rows: bool) -> tuple[MarketHeader, SparseDraft]:
    """Read a matrix as cells x genes.

    Parameters
    ----------
    cells_are_rows
        Whether the file's rows are cells; otherwise its columns are.

    Raises
    ------
    WorkerError
        ``EXPERIMENT_UNREADABLE``: no such matrix, a line that is no entry, more or fewer entries than it says.
    """
    dtype = np.dtype(np.float32)
    while True:
        header, cells, genes, values = _entries(path, reading, dtype, cells_are_rows=cells_are_rows)
        if not isinstance(values, np.dtype):
            break
        dtype = values  # numbers that float32 would round: once more, wider
    n_cells, n_genes = header.n_rows, header.n_columns
    if not cells_are_rows:
        n_cells, n_genes = n_genes, n_cells
    return header, by_cell(cells, genes, values, (n_cells, n_genes), reading.scratch)


def _entries(
    path: Path, reading: Reading, dtype: np.dtype[Any], *, cells_are_rows: bool
) -> tuple[MarketHeader, NDArray[np.int32], NDArray[np.int32], NDArray[Any] | np.dtype[Any]]:
    text = blocks_of_lines(path, reading.max_bytes)
    first = next(text, b"")
    header = header_of(iter(first.splitlines(keepends=True)), path)
    first = _after_size(first)
    kept = Growing(np.int32, reading.scratch), Growing(np.int32, reading.scratch), Growing(dtype, reading.scratch)
    count = 0
    for block in _with_first(first, text):
        for rows, columns, values in _parsed(block, header, path):
            if dtype == np.float32 and (wanted := exact_dtype(values)) != np.float32:
                text.close()  # type: ignore[attr-defined]
                return header, rows, columns, wanted
            cells, genes = (rows, columns) if cells_are_rows else (columns, rows)
            kept[0].append(cells)
            kept[1].append(genes)
            kept[2].append(single(values) if dtype == np.float32 else values)
            count += len(rows)
    if count != header.n_entries:
        raise refused(path, f"{count:,} entries where its size says {header.n_entries:,}", f"it is cut short; {_AGAIN}")
    return header, kept[0].finish(), kept[1].finish(), kept[2].finish()


def _after_size(block: bytes) -> bytes:
    at = 0
    while at < len(block):
        end = block.index(b"\n", at) + 1
        line = block[at:end]
        at = end
        if line.strip() and not line.startswith(b"%"):
            break
    return block[at:]


def _with_first(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    if first:
        yield first
    yield from rest


def _parsed(
    block: bytes, header: MarketHeader, path: Path
) -> Iterator[tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float64]]]:
    size = min(_CAPACITY, len(block) // _MIN_LINE + 1)
    text = np.frombuffer(block, np.uint8)
    used = np.zeros(1, np.int64)
    at = 0
    while at < len(block):
        rows, columns, values = np.empty(size, np.int32), np.empty(size, np.int32), np.empty(size, np.float64)
        found = kernel("cw_market_entries")(
            address(text[at:], np.uint8), len(block) - at, int(header.has_value), header.n_rows, header.n_columns, size,
            address(rows, np.int32, writable=True), address(columns, np.int32, writable=True),
            address(values, np.float64, writable=True), address(used, np.int64, writable=True),
        )  # fmt: skip
        at += int(used[0])
        if found < 0:
            line = block[at : at + 60].partition(b"\n")[0].decode("ascii", "replace")
            expected = f"a row from 1 to {header.n_rows}, a column from 1 to {header.n_columns}, and a number"
            raise refused(path, f"the line {line!r} is no entry (expected {expected})", _AGAIN)
        if not found and not used[0]:
            return
        yield rows[:found], columns[:found], values[:found]
