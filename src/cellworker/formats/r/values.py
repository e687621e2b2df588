"""Accessors of parsed R values: type, names, strings, columns."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from cellworker.formats.r.rds.model import RS4, RList, RNull, RStrings, RSymbol, RValue, RVector, Skipped

__all__ = [
    "NA_INTEGER",
    "Frame",
    "attributes",
    "class_names",
    "describe",
    "dim",
    "dimnames",
    "frame",
    "is_absent",
    "named",
    "number",
    "row_names",
    "same_strings",
    "slot",
    "string_list",
    "text",
    "version",
]

NA_INTEGER = np.iinfo(np.int32).min


def attributes(value: RValue | None) -> dict[str, RValue]:
    """Return the attributes (of an S4 object: the slots)."""
    if isinstance(value, RS4):
        return value.slots
    if isinstance(value, (RVector, RStrings, RList)):
        return value.attributes
    return {}


def class_names(value: RValue | None) -> list[str]:
    """Return the class attribute, most specific first; empty where there is none."""
    if isinstance(value, RS4):
        return [value.class_name]
    return [name for name in string_list(attributes(value).get("class")) if name]


def describe(value: RValue | None) -> str:
    """Name what a value is, in R's words."""
    classes = class_names(value)
    if classes:
        return f"an object of class {classes[0]}"
    if value is None or isinstance(value, (RNull, RSymbol)):
        return "NULL"
    if isinstance(value, Skipped):
        return f"a {value.kind}"
    if isinstance(value, RList):
        return f"a list of {len(value)}"
    shape = dim(value)
    if shape:
        return "a matrix of {} x {}".format(*shape)
    kind = "character" if isinstance(value, RStrings) else value.kind if isinstance(value, RVector) else "S4"
    return f"a {kind} vector of {len(value) if isinstance(value, (RStrings, RVector)) else 1}"


def is_absent(value: RValue | None) -> bool:
    """Return whether a value is missing, NULL, or code that was skipped."""
    return value is None or isinstance(value, (RNull, RSymbol, Skipped))


def slot(value: RValue | None, name: str) -> RValue | None:
    """Return a slot or attribute; None when it is absent or NULL."""
    found = attributes(value).get(name)
    return None if is_absent(found) else found


def string_list(value: RValue | None) -> list[str | None]:
    """Return a character vector's strings, or a factor's labels; empty for anything else."""
    if isinstance(value, RStrings):
        return value.tolist()
    if isinstance(value, RVector) and value.kind == "integer":
        levels = value.attributes.get("levels")
        if isinstance(levels, RStrings):
            labels = levels.tolist()
            return [labels[code - 1] if 1 <= code <= len(labels) else None for code in value.values.tolist()]
    return []


def text(value: RValue | None) -> str:
    """Return the first string; "" where there is none."""
    strings = string_list(value)
    return (strings[0] or "") if strings else ""


def number(value: RValue | None) -> float | None:
    """Return the first number; None where there is none or it is NA."""
    if isinstance(value, RVector) and len(value) and value.kind in {"integer", "double", "logical"}:
        first = value.values[0]
        if value.kind != "double" and first == NA_INTEGER:
            return None
        return float(first) if np.isfinite(first) else None
    return None


def named(value: RValue | None) -> Iterator[tuple[str, RValue]]:
    """Iterate over the named, present elements of a list."""
    if isinstance(value, RList):
        for name, item in value.pairs():
            if name and not is_absent(item):
                yield name, item


def dim(value: RValue | None) -> tuple[int, int] | None:
    """Return rows and columns of a matrix (dense or of package Matrix); None for anything else."""
    values = attributes(value).get("Dim" if isinstance(value, RS4) else "dim")
    if isinstance(values, RVector) and values.kind in {"integer", "double"} and len(values) == 2:
        rows, columns = (float(n) for n in values.values)
        if min(rows, columns) >= 0 and rows.is_integer() and columns.is_integer():
            return int(rows), int(columns)
    return None


def dimnames(value: RValue | None) -> tuple[RStrings | None, RStrings | None]:
    """Return row and column names of a matrix, None where there are none."""
    names = attributes(value).get("Dimnames" if isinstance(value, RS4) else "dimnames")
    if isinstance(names, RList) and len(names) == 2:
        rows, columns = (item if isinstance(item, RStrings) else None for item in names.items)
        return rows, columns
    return None, None


def same_strings(a: RStrings | None, b: RStrings | None) -> bool:
    """Return whether two character vectors hold the same strings in the same order, without making Python strings."""
    if a is None or b is None:
        return a is b
    return len(a) == len(b) and a.text == b.text and np.array_equal(a.offsets, b.offsets)


@dataclass(frozen=True, slots=True)
class Frame:
    """A data.frame: its columns in order, its number of rows, its row names (None when they only count)."""

    columns: list[tuple[str | None, RValue]]
    n_rows: int
    rows: list[str] | None

    def get(self, name: str) -> RValue | None:
        """Return the first column of that name."""
        return next((value for key, value in self.columns if key == name), None)


def frame(value: RValue | None) -> Frame | None:
    """Return a data.frame's parts; None when it is not one."""
    if not isinstance(value, RList):
        return None
    names = value.attributes.get("names")
    labels = names.tolist() if isinstance(names, RStrings) else [None] * len(value)
    rows, n_rows = row_names(value.attributes.get("row.names"))
    if n_rows is None:
        sizes = [len(item) for item in value.items if isinstance(item, (RVector, RStrings, RList))]
        n_rows = sizes[0] if sizes else 0
    return Frame(list(zip(labels, value.items, strict=False)), n_rows, rows)


def row_names(value: RValue | None) -> tuple[list[str] | None, int | None]:
    """Return row names and their number; R's compact form and a plain 1..n have no names."""
    if isinstance(value, RStrings):
        return [name or "NA" for name in value.tolist()], len(value)
    if isinstance(value, RVector) and value.kind in {"integer", "double"}:
        numbers = value.values
        if len(numbers) == 2 and (numbers[0] == NA_INTEGER or np.isnan(numbers[0])):
            return (None, abs(int(numbers[1]))) if np.isfinite(numbers[1]) else (None, None)
        if not np.all(np.isfinite(numbers)):
            return None, len(numbers)
        if np.array_equal(numbers, np.arange(1, len(numbers) + 1)):
            return None, len(numbers)
        return [str(int(n)) for n in numbers], len(numbers)
    return None, None


def version(value: RValue | None) -> str:
    """Return a package_version as dotted text; "" when it is not one."""
    parts = value.items[0] if isinstance(value, RList) and value.items else None
    if isinstance(parts, RVector) and parts.kind == "integer":
        return ".".join(str(part) for part in parts.values[:8].tolist())
    return text(value)
