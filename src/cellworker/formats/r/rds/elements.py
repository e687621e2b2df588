"""Every element of an R object: slots, list elements, columns, and attributes that are no part of a vector's form."""

from collections.abc import Iterator
from typing import Final

from cellworker.formats.common.ledger import Element, Path
from cellworker.formats.r.rds.model import RS4, RList, RNull, RStrings, RSymbol, RValue, RVector, Skipped

__all__ = [
    "CODE",
    "MAX_DEPTH",
    "attribute_name",
    "attributes_beyond",
    "children_of",
    "elements_of",
    "is_sparse",
    "leaf_kind",
]

MAX_DEPTH: Final = 40
"""Levels of nesting; what is deeper counts as one element."""
CODE: Final = frozenset(
    {
        "closure", "environment", "promise", "language", "string", "expression", "byte code", "external pointer",
        "weak reference", "namespace", "package", "missing argument", "unbound value", "builtin", "pairlist", "dots",
    }
)  # fmt: skip
"""Kinds of elements that are code or end with an R session, of which readers keep nothing."""
_FORM: Final = frozenset({"names", "dim", "dimnames", "levels", "class", "row.names"})
_MATRIX: Final = frozenset({"i", "j", "p", "x", "Dim", "Dimnames", "factors"})


def attribute_name(name: str) -> str:
    """Return how a path tells an attribute from an element."""
    return f"@{name}"


def is_sparse(value: RValue) -> bool:
    """Tell a dgCMatrix or dgRMatrix (or a class that extends one, as Seurat's Graph does) by its slots."""
    if not isinstance(value, RS4) or not {"p", "x", "Dim"} <= value.slots.keys():
        return False
    return value.class_name in {"dgCMatrix", "dgRMatrix", "Graph"} and ("i" in value.slots) != ("j" in value.slots)


def children_of(value: RValue) -> list[tuple[str, RValue]] | None:
    """Return what is in a value, each under a name of its own; None for a single element.

    Elements of a list without a name, or with one that came before, are named by their position.
    """
    if isinstance(value, RS4) and not is_sparse(value):
        return list(value.slots.items()) or None
    if isinstance(value, RList):
        taken: set[str] = set()
        out: list[tuple[str, RValue]] = []
        for number, (name, item) in enumerate(value.pairs(), 1):
            free = name
            while not free or free in taken:
                free = f"{free}[[{number}]]"
            taken.add(free)
            out.append((free, item))
        return out or None
    return None


def attributes_beyond(value: RValue) -> list[tuple[str, RValue]]:
    """Return attributes that are no part of a value's form; of a sparse matrix, slots beyond a matrix's own."""
    if isinstance(value, RS4):
        return [(n, item) for n, item in value.slots.items() if n not in _MATRIX] if is_sparse(value) else []
    if isinstance(value, RVector | RStrings | RList):
        return [(name, item) for name, item in value.attributes.items() if name not in _FORM]
    return []


def elements_of(root: RValue) -> Iterator[Element]:
    """Walk over the whole tree of an object."""
    waiting: list[tuple[Path, RValue]] = [((), root)]
    while waiting:
        path, value = waiting.pop()
        children = children_of(value) if len(path) < MAX_DEPTH else None
        if children is None:
            yield Element(path, leaf_kind(value))
        inner = [*(children or []), *((attribute_name(name), item) for name, item in attributes_beyond(value))]
        waiting += [((*path, name), item) for name, item in (inner if len(path) < MAX_DEPTH else [])]


def leaf_kind(value: RValue) -> str:  # noqa: PLR0911 - one for each type
    """Say what an element is, in R's words."""
    if isinstance(value, RNull):
        return "NULL"
    if isinstance(value, Skipped):
        return value.kind if value.kind in CODE else "builtin"
    if isinstance(value, RSymbol):
        return "a symbol"
    if isinstance(value, RS4):
        return f"an object of class {value.class_name}"
    if isinstance(value, RList):
        return f"a list of {len(value)}"
    if isinstance(value, RStrings):
        return f"{len(value)} strings"
    return f"{len(value)} {'factor' if 'levels' in value.attributes else value.kind}"
