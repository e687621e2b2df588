"""Guards CSV against formulas, so that a spreadsheet shows text instead of running it.

Names in a file are untrusted. A spreadsheet takes a cell that begins with one of a few characters for a formula, and a
formula can send cells to another machine (CWE-1236). A ``'`` before it makes it text. Numbers stay numbers.
"""

import re
from collections.abc import Iterable, Iterator
from io import BufferedIOBase
from typing import Final

__all__ = ["has_formulas", "without_formula", "without_formulas"]

_FIRST: Final = "=+-@\t\r\n＝＋－＠"  # noqa: RUF001 - some spreadsheets take the wide ones for the same
_NUMBER: Final = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|[+-]?Inf"
_WHOLE_NUMBER: Final = re.compile(_NUMBER, re.ASCII)
_BEGINS: Final = "|".join(re.escape(first) for first in _FIRST if first != "\n").encode()
_CELL: Final = re.compile(rb'((?:^|[,\n])"?)(?=' + _BEGINS + rb")(?!(?:" + _NUMBER.encode() + rb')"?(?:[,\r\n]|$))')
_QUICK: Final = tuple(
    before + quote + first.encode() for before in (b",", b"\n") for quote in (b"", b'"') for first in _FIRST
)
_STEP: Final = 1 << 20


def without_formula(cell: object) -> object:
    """Return a cell of a table, with a ``'`` before text that is a formula to a spreadsheet."""
    if isinstance(cell, str) and cell[:1] in _FIRST and cell and not _WHOLE_NUMBER.fullmatch(cell):
        return f"'{cell}"
    return cell


def has_formulas(source: BufferedIOBase) -> bool:
    """Whether any cell of a CSV file is a formula to a spreadsheet."""
    return any(_CELL.search(block) for block in _blocks(source) if _may_hold(block))


def without_formulas(source: BufferedIOBase) -> Iterator[bytes]:
    """Return the text of a CSV file piece by piece, with a ``'`` before each formula."""
    return (_CELL.sub(rb"\1'", block) if _may_hold(block) else block for block in _blocks(source))


def _may_hold(block: bytes) -> bool:
    """Look quickly: most blocks of a matrix hold nothing but numbers that are not negative."""
    return block[:2].strip(b'"')[:1] not in b"0123456789 " or any(mark in block for mark in _QUICK)


def _blocks(source: BufferedIOBase) -> Iterable[bytes]:
    """Return whole lines, about a megabyte at a time."""
    while block := source.read(_STEP):
        yield block + source.readline()
