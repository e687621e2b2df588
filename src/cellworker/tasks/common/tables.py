"""Tables on the wire: text and number filters, R's order, and pages."""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Page",
    "Ranked",
    "TableColumn",
    "collation_key",
    "complete_rows",
    "number_filter",
    "ordered_rows",
    "select_page",
    "take",
    "text_filter",
]


@dataclass(frozen=True, slots=True)
class Ranked:
    """Numbers that are ordered by other numbers, like p-values by their statistics; NaN is missing."""

    values: NDArray[np.float64]
    key: NDArray[np.float64]


TableColumn = NDArray[np.float64] | Ranked | Sequence[str | None]
"""Numbers (NaN missing) or texts (None missing)."""


@dataclass(frozen=True, slots=True)
class Page:
    """Positions of the rows of one page, int64, and the number of matching rows on all pages."""

    rows: NDArray[np.int64]
    total: int


def select_page(
    columns: Mapping[str, TableColumn],
    n_rows: int,
    *,
    keep: NDArray[np.bool_] | None = None,
    order_by: str | None = None,
    descending: bool = False,
    offset: int = 0,
    limit: int | None = None,
) -> Page:
    """Filter, order and slice a table.

    Parameters
    ----------
    columns
        The table. Rows with a missing value in any column are removed before slicing, so that pages are full.
    n_rows
        Its number of rows.
    keep
        bool ``(n_rows,)``: rows that passed the filters; None for all.
    order_by
        A column; any other name keeps the table's order.
    descending
        Largest first. Equal rows keep the table's order in both directions.
    offset, limit
        The slice; `limit` None means no limit.
    """
    kept = complete_rows(columns, n_rows)
    if keep is not None:
        kept &= keep
    rows = np.flatnonzero(kept)
    if order_by is not None and order_by in columns:
        rows = rows[ordered_rows(take(columns[order_by], rows), descending=descending)]
    end = len(rows) if limit is None else offset + limit
    return Page(rows[offset:end], len(rows))


def complete_rows(columns: Mapping[str, TableColumn], n_rows: int) -> NDArray[np.bool_]:
    """Return which rows have a value in every column, bool ``(n_rows,)``."""
    complete = np.ones(n_rows, bool)
    for column in columns.values():
        if isinstance(column, Ranked):
            complete &= ~np.isnan(column.values)
        elif isinstance(column, np.ndarray):
            complete &= ~np.isnan(column)
        elif None in column:
            complete &= np.array([text is not None for text in column], bool)
    return complete


def ordered_rows(column: TableColumn, *, descending: bool = False) -> NDArray[np.int64]:
    """Return the positions that order a column as R's ``order`` does: stable both ways, missing values last."""
    if isinstance(column, Ranked):
        column = column.key
    if isinstance(column, np.ndarray):
        missing = np.isnan(column)
        present = np.flatnonzero(~missing)
        values = column[present]
        order = np.argsort(-values if descending else values, kind="stable")
        return np.concatenate([present[order], np.flatnonzero(missing)])
    keys = [(i, collation_key(text)) for i, text in enumerate(column) if text is not None]
    keys.sort(key=lambda item: item[1], reverse=descending)
    return np.array([i for i, _ in keys] + [i for i, text in enumerate(column) if text is None], np.int64)


def text_filter(column: Sequence[str | None], expression: str) -> NDArray[np.bool_]:
    """Return which texts match what a user typed, bool ``(n,)``.

    ``abc`` matches anywhere in the text, ``^abc`` at its start, ``abc$`` at its end, ignoring case. All other
    characters are literal: no regular expression of a user ever runs. A missing text never matches.
    """
    starts, ends = expression.startswith("^"), expression.endswith("$")
    wanted = expression[1 if starts else 0 : -1 if ends else None].casefold()

    def matches(text: str) -> bool:
        text = text.casefold()
        if starts and ends:
            return text == wanted
        if starts:
            return text.startswith(wanted)
        return text.endswith(wanted) if ends else wanted in text

    return np.array([text is not None and matches(text) for text in column], bool)


def number_filter(
    column: NDArray[np.float64], comparison: Literal["greaterThan", "lessThan"], value: float
) -> NDArray[np.bool_]:
    """Return which numbers are strictly beyond a value, bool ``(n,)``; a missing number is not."""
    return column > value if comparison == "greaterThan" else column < value


# Order of the ASCII characters before digits and letters in the root collation of the Unicode CLDR, which R's ICU
# uses for en_US.
_BEFORE_DIGITS = "\t\n\v\f\r _-,;:!?.'\"()[]{}@*/\\&#%`^+<=>|~$"
_RANKS = {
    ord(char): chr(rank)
    for rank, char in enumerate(_BEFORE_DIGITS + "0123456789" + "abcdefghijklmnopqrstuvwxyz", start=1)
}
_RANKS |= {ord(char.upper()): _RANKS[ord(char)] for char in "abcdefghijklmnopqrstuvwxyz"}


def collation_key(text: str) -> tuple[str, str, str]:
    """Return a key that sorts texts as R does in the en_US locale with ICU.

    Punctuation comes first, then digits, then letters without case and accents. Accents decide between equals, then
    case, lower case first. This approximates the Unicode Collation Algorithm (UTS 10): exact for ASCII, by code point
    for scripts other than Latin.
    """
    if text.isascii():
        return (text.translate(_RANKS), "", text.swapcase())
    decomposed = unicodedata.normalize("NFD", text)
    base = "".join(char for char in decomposed if not unicodedata.combining(char))
    marks = "".join(char if unicodedata.combining(char) else " " for char in decomposed)
    return (base.casefold().translate(_RANKS), marks.rstrip(), base.swapcase())


def take(column: TableColumn, rows: NDArray[np.int64]) -> TableColumn:
    """Return some rows of a column, in their order."""
    if isinstance(column, Ranked):
        return Ranked(column.values[rows], column.key[rows])
    return column[rows] if isinstance(column, np.ndarray) else [column[i] for i in rows.tolist()]
