"""Ids, symbols and display names of genes, from a table's index and its columns."""

from collections import Counter

from cellworker.experiment.model import Genes

__all__ = ["told_apart"]


def told_apart(
    index: list[str], ids_column: list[str] | None, symbols: list[str] | None, display: list[str] | None, *,
    are_ids: bool,
) -> Genes:  # fmt: skip
    """Tell ids and symbols apart: one is the index, the other a column; without such a column they are the same.

    Parameters
    ----------
    index
        The genes' names, each once.
    ids_column, symbols, display
        Columns of ids, of symbols and of names to show, "" where one is missing; None where there is no such column.
    are_ids
        Whether the index holds ids already.
    """
    ids = index
    if ids_column is not None and not are_ids and all(ids_column) and len(set(ids_column)) == len(ids_column):
        ids = ids_column
    if symbols is None and ids is not index:
        symbols = index
    if symbols is None:
        return Genes(ids, list(index), list(index))
    display = display or (index if ids is not index else None)
    names = display if display is not None and len(set(display)) == len(display) and all(display) else None
    return Genes(ids, list(names) if names is not None else _unique(symbols, ids), symbols)


def _unique(symbols: list[str], ids: list[str]) -> list[str]:
    """Make display names as the platform does: the id where there is no symbol, behind it where it is repeated."""
    times = Counter(symbols)
    return [
        gene if not symbol else f"{symbol} - {gene}" if times[symbol] > 1 and symbol != gene else symbol
        for symbol, gene in zip(symbols, ids, strict=True)
    ]
