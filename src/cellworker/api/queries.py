"""Queries of pandas over cells' columns, of which only the harmless part is evaluated.

pandas evaluates whatever the text says: a query may call any method of a column, and ``to_csv`` writes a file. A query
also comes from a record that lies in somebody's file (`cellworker replay`). So it is read first, and holds nothing but
columns, values, comparisons, arithmetic, and the methods that are named here.
"""

import ast
import io
import re
import tokenize
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from cellworker.api.anndata.arguments import hint_of

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["QueryError", "queried", "values_shown"]

_METHODS: Final = ("isin", "between", "isna", "notna", "isnull", "notnull", "abs")
_OF_TEXT: Final = ("startswith", "endswith", "contains", "match", "fullmatch", "lower", "upper", "strip", "len")
_FUNCTIONS: Final = ("abs", "sqrt", "exp", "log", "log10", "log1p")
_INDEX: Final = "index"
_STAND_IN: Final = "_quoted_"
_QUOTED: Final = re.compile(r"`([^`]*)`")
_PARTS: Final = (
    ast.Expression, ast.BoolOp, ast.boolop, ast.BinOp, ast.operator, ast.UnaryOp, ast.unaryop, ast.Compare, ast.cmpop,
    ast.Constant, ast.List, ast.Tuple, ast.Name, ast.Load, ast.keyword,
)  # fmt: skip
_MAX_LENGTH: Final = 10_000  # characters; a deeper text than Python's parser takes is no query
_SHOWN: Final = 6


class QueryError(ValueError):
    """A text is no query; the message says why, and is empty where it only names nothing."""


def queried(frame: "DataFrame", text: str) -> NDArray[np.bool_]:
    """Return whether each row meets a query, bool ``(n_rows,)``.

    Parameters
    ----------
    frame
        The columns; their labels are ``index`` in a query.
    text
        As for `pandas.DataFrame.query`, with names in backticks where they hold more than letters.

    Raises
    ------
    QueryError
        What is not known, not allowed, or not true or false of each row.
    """
    tree, quoted = _checked(frame, text)
    # What was checked is evaluated, not the text: no way to write it is read in one way here and in another there.
    named = frame.rename(columns={said: name for name, said in quoted.items()}) if quoted else frame
    try:
        mask = named.eval(ast.unparse(tree), engine="python", local_dict={}, global_dict={})
    except Exception as error:  # noqa: BLE001 whatever pandas raises about a user's text
        message = str(error).partition("\n")[0]
        raise QueryError(message) from None
    if getattr(mask, "shape", None) != (len(frame),) or mask.dtype not in (np.bool_, "boolean"):
        message = "it is not true or false of each cell"
        raise QueryError(message)
    return np.asarray(mask.fillna(value=False) if mask.dtype == "boolean" else mask, np.bool_)


def values_shown(frame: "DataFrame", text: str) -> str:
    """Return a few words about the labels in the columns that a query names; empty where there are none."""
    told = []
    for name in dict.fromkeys(_columns_of(text)):
        if name in frame and frame[name].dtype.kind not in "iufb":
            values = [repr(value) for value in frame[name].dropna().unique()[: _SHOWN + 1].tolist()]
            told.append(f"{name} holds {', '.join(values[:_SHOWN])}{', ...' if len(values) > _SHOWN else ''}")
    return "; ".join(told)


def _read(text: str) -> tuple[ast.Expression, dict[str, str]]:
    """Return the text's tree, and what the names stand for that were in backticks."""
    quoted: dict[str, str] = {}

    def stand_in(found: re.Match[str]) -> str:
        return quoted.setdefault(found[1], f"{_STAND_IN}{len(quoted)}")

    plain = _QUOTED.sub(stand_in, text).strip()
    # As in pandas, "&" and "|" bind like "and" and "or".
    tokens = list(tokenize.generate_tokens(io.StringIO(plain).readline))
    if any(token.string == "@" for token in tokens):
        message = 'a variable after @ is not seen from here: write its value, as f"n_genes > {least}"'
        raise QueryError(message)
    words = {"&": "and", "|": "or"}
    pieces = [(tokenize.NAME if word in words else kind, words.get(word, word)) for kind, word, *_ in tokens]
    return ast.parse(tokenize.untokenize(pieces).strip(), mode="eval"), {name: said for said, name in quoted.items()}


def _columns_of(text: str) -> list[str]:
    tree, quoted = _read(text)
    return [quoted.get(node.id, node.id) for node in ast.walk(tree) if isinstance(node, ast.Name)]


def _checked(frame: "DataFrame", text: str) -> tuple[ast.Expression, dict[str, str]]:
    try:
        if len(text) > _MAX_LENGTH:
            message = f"more than {_MAX_LENGTH:,} characters"
            raise QueryError(message)
        tree, quoted = _read(text)
    except (SyntaxError, tokenize.TokenError, RecursionError, MemoryError):
        message = "" if text.replace("-", "").replace(" ", "").isalnum() else "it cannot be read as one"
        raise QueryError(message) from None
    known = [str(name) for name in frame.columns if isinstance(name, str)]
    called: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called |= _called(node)
    for node in ast.walk(tree):
        if node in called or isinstance(node, ast.Call):
            continue
        if isinstance(node, ast.Name):
            _check_name(quoted.get(node.id, node.id), known, alone=isinstance(tree.body, ast.Name))
        elif not isinstance(node, _PARTS) or _hides_a_name(node):
            message = f"{ast.unparse(node)!r} is not of the kind that a query may hold"
            raise QueryError(message)
    return tree, quoted


def _hides_a_name(node: ast.AST) -> bool:
    """Whether a text holds a backtick, or what was between two."""
    return isinstance(node, ast.Constant) and any(mark in str(node.value) for mark in ("`", _STAND_IN))


def _check_name(name: str, known: list[str], *, alone: bool) -> None:
    if name in (_INDEX, *known):
        return
    hint = hint_of(name, known)
    raise QueryError("" if alone and not hint else f"there is no column {name!r}{hint}")


def _called(call: ast.Call) -> set[ast.AST]:
    """Return the nodes that say what is called, which must be one of those that do no harm."""
    match call.func:
        case ast.Name(id=name) if name in _FUNCTIONS:
            return {call.func}
        case ast.Attribute(value=ast.Attribute(attr="str") as text, attr=name) if name in _OF_TEXT:
            return {call.func, text}
        case ast.Attribute(attr=name) if name in _METHODS:
            return {call.func}
    known = ", ".join((*_METHODS, *(f"str.{name}" for name in _OF_TEXT), *_FUNCTIONS))
    message = f"{ast.unparse(call.func)!r} is not called in a query; what may be: {known}"
    raise QueryError(message)
