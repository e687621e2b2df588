"""The parts of a SummarizedExperiment or one of its kin, in the layouts that Bioconductor has had.

=====================  ===============================================================================================
part                   where it is
=====================  ===============================================================================================
assays                 slot ``assays``: SimpleAssays with a SimpleList in ``data`` (`in_new_layout` makes it of what
                       was there before Bioconductor 3.10); a SimpleList; a plain list
names of features      ``NAMES``; of ``rowRanges`` (GRanges: of its ``ranges``; GRangesList: of its ``partitioning``)
table of features      ``elementMetadata``; of ``rowRanges``; before Bioconductor 3.3 ``rowData``
table of cells         ``colData``
reduced dimensions     ``int_colData$reducedDims``; before Bioconductor 3.10 the slot ``reducedDims``
other experiments      ``int_colData$altExps``, each with its experiment in the slot ``se``
=====================  ===============================================================================================
"""

from collections.abc import Iterator
from dataclasses import dataclass

from cellworker.formats.common.ledger import Path
from cellworker.formats.r.choosing import is_summarized
from cellworker.formats.r.rds.model import RS4, RList, RStrings, RValue, RVector
from cellworker.formats.r.values import Frame, frame, named, slot

__all__ = ["Part", "alternatives", "assays", "cell_table", "feature_names", "feature_table", "list_of", "reduced"]


@dataclass(frozen=True, slots=True)
class Part:
    """A value within an object, and the path of its element."""

    value: RValue
    path: Path


def list_of(value: RValue | None) -> RList | None:
    """Return the elements of a list, of a SimpleList or of a DataFrame; None for anything else."""
    if isinstance(value, RList):
        return value
    inner = slot(value, "listData")
    return inner if isinstance(inner, RList) else None


def _members(part: Part | None) -> dict[str, Part]:
    """Return the named elements of a list or a DataFrame."""
    if part is None:
        return {}
    inner = list_of(part.value)
    where = part.path if inner is part.value else (*part.path, "listData")
    return {name: Part(value, (*where, name)) for name, value in reversed(list(named(inner)))} if inner else {}


def _slot(part: Part | None, *names: str) -> Part | None:
    for name in names:
        if part is None:
            return None
        found = slot(part.value, name)
        part = Part(found, (*part.path, name)) if found is not None else None
    return part


def assays(root: Part) -> dict[str, Part]:
    """Return the matrices by name; an assay without a name is named by its position."""
    held = _slot(root, "assays")
    inner = _slot(held, "data") or held
    values = list_of(inner.value) if inner is not None else None
    if inner is None or values is None:
        return {}
    where = inner.path if values is inner.value else (*inner.path, "listData")
    out: dict[str, Part] = {}
    for number, (name, value) in enumerate(values.pairs(), 1):
        # The path of an element without a name is as `children_of` has it.
        out.setdefault(name or f"[[{number}]]", Part(value, (*where, name or f"[[{number}]]")))
    return out


def table(value: RValue | None) -> Frame | None:
    """Return the columns of a DataFrame or a data.frame."""
    if isinstance(value, RList):
        return frame(value)
    columns = list_of(value)
    if not isinstance(value, RS4) or columns is None:
        return None
    rows, n = slot(value, "rownames"), slot(value, "nrows")
    names = [name or "NA" for name in rows.tolist()] if isinstance(rows, RStrings) else None
    size = int(n.values[0]) if isinstance(n, RVector) and n.kind == "integer" and len(n) else 0
    return Frame(list(columns.pairs()), size, names)


def cell_table(root: Part) -> Part | None:
    """Return the table of cells."""
    return _slot(root, "colData")


def _ranges(root: Part) -> Part | None:
    return _slot(root, "rowRanges")


def feature_table(root: Part) -> Part | None:
    """Return the table of features with the most columns: of an object with ranges it is with these."""
    places = (_slot(root, "elementMetadata"), _slot(_ranges(root), "elementMetadata"), _slot(root, "rowData"))
    found = [part for part in places if part is not None and table(part.value) is not None]
    return max(found, key=lambda part: len(list_of(part.value) or ()), default=None)


def feature_names(root: Part) -> list[str] | None:
    """Return the names of the features; None where the object has none."""
    ranges = _ranges(root)
    places = (
        _slot(root, "NAMES"),
        _slot(ranges, "ranges", "NAMES"),
        _slot(ranges, "partitioning", "NAMES"),
        _slot(_slot(root, "rowData"), "rownames"),
    )
    for place in places:
        if place is not None and isinstance(place.value, RStrings) and len(place.value):
            return [name or "NA" for name in place.value.tolist()]
    return None


def reduced(root: Part) -> dict[str, Part]:
    """Return the reduced dimensions by name."""
    inside = _members(_slot(root, "int_colData")).get("reducedDims")
    return _members(inside) or _members(_slot(root, "reducedDims"))


def alternatives(root: Part) -> Iterator[tuple[str, Part]]:
    """Iterate over the alternative experiments."""
    for name, part in _members(_members(_slot(root, "int_colData")).get("altExps")).items():
        inner = _slot(part, "se")
        if inner is not None and is_summarized(inner.value):
            yield name, inner
