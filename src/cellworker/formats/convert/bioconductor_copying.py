"""Copies a SingleCellExperiment or SummarizedExperiment to another file, with further columns of ``colData``."""

from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from cellworker.experiment.model import Categorical, Reduction
from cellworker.experiment.store.store import StoredExperiment
from cellworker.formats.bioconductor import parts
from cellworker.formats.bioconductor.parts import Part
from cellworker.formats.bioconductor.write import NAMES
from cellworker.formats.common.ledger import Conversion, Ledger
from cellworker.formats.convert.from_r_objects import NO_CODE
from cellworker.formats.r.code import without_code
from cellworker.formats.r.rds import build
from cellworker.formats.r.rds.elements import CODE, elements_of
from cellworker.formats.r.rds.model import RS4, RList, RValue
from cellworker.formats.r.rds.writer import write_rds
from cellworker.formats.r.values import slot
from cellworker.formats.seurat.h5.files import read_exactly
from cellworker.formats.seurat.write.fresh import r_column

__all__ = ["copy_bioconductor"]


def copy_bioconductor(
    source: Path,
    target: Path,
    experiment: StoredExperiment,
    columns: Mapping[str, Categorical | NDArray[np.bool_]],
    *,
    embedding: tuple[str, Reduction] | None,
    check: Callable[[str], None],
    on_bytes: Callable[[int, int], None],
) -> Conversion:
    """Copy an object. Code and environments are left out: NULL stands there.

    Parameters
    ----------
    columns
        Added to ``colData``, instead of those of the same names.
    embedding
        A reduced dimension that is added, or takes the place of one of that name.
    check
        Is given the hash of the file that was read, and raises where the source has changed.

    Returns
    -------
    What became of every element.
    """
    with TemporaryDirectory(dir=target.parent, prefix=".spool-") as folder:
        found = read_exactly(source, Path(folder), on_bytes, experiment.object_name)
        check(found.sha256)
        root = found.root
        assert isinstance(root, RS4)  # it was opened as an experiment
        ledger = Ledger(elements_of(root))
        for line in found.passed_over:
            ledger.note_loss(line)
        for element in ledger.elements():
            if element.kind in CODE:
                ledger.lose(element.path, NO_CODE)
        whole = Part(root, ())
        cells = parts.cell_table(whole)
        added = {name: r_column(column) for name, column in columns.items()}
        if cells is not None and added:
            _note_replaced(ledger, cells, added)
            root = _with_slot(root, cells.path, _with(cells.value, added))
        if embedding is not None:
            root = _with_embedding(root, embedding, experiment.barcodes, ledger)
        write_rds(without_code(root), target)
    ledger.keep_rest()
    return ledger.close()


def _note_replaced(ledger: Ledger, cells: Part, added: Mapping[str, RValue]) -> None:
    held = parts.list_of(cells.value)
    for name in added:
        if held is not None and name in held.names:
            ledger.note_loss(f"colData/{name}: replaced by the column that the cell sets have under this name")


def _with_embedding(root: RS4, embedding: tuple[str, Reduction], cells: list[str], ledger: Ledger) -> RS4:
    name, reduction = embedding
    found = parts.reduced(Part(root, ()))
    shown = next((each for each in (name, NAMES.get(name, name)) if each in found), NAMES.get(name, name))
    titles = [f"{reduction.key}{number + 1}" for number in range(reduction.values.shape[1])]
    value = build.matrix(reduction.values, cells, titles)
    if shown in found:
        ledger.note_loss(f"reducedDims/{shown}: replaced by the stored embedding")
        return _with_slot(root, found[shown].path, value)
    inside = slot(slot(root, "int_colData"), "listData")
    held = inside.get("reducedDims") if isinstance(inside, RList) else None
    if held is None:
        ledger.note_loss(f"the embedding {shown}: the class {root.class_name} has no place for it")
        return root
    return _with_slot(root, ("int_colData", "listData", "reducedDims"), _with(held, {shown: value}))


def _with(table: RValue, added: Mapping[str, RValue]) -> RValue:
    """Return a DataFrame, or a list, with further elements, or others in the place of those of the same names."""
    if isinstance(table, RS4):
        held = table.slots.get("listData")
        inner = held if isinstance(held, RList) else RList([])
        return RS4(table.class_name, table.package, {**table.slots, "listData": _with(inner, added)})
    if not isinstance(table, RList):
        return table
    items = {**dict(table.pairs()), **added}
    return RList(list(items.values()), {**table.attributes, "names": build.strings(items)})


def _with_slot(value: RValue, path: tuple[str, ...], new: RValue) -> RS4:
    """Return an object with another value at a path of slots and elements; nothing of the object is changed."""
    changed = _changed(value, path, new)
    assert isinstance(changed, RS4)
    return changed


def _changed(value: RValue, path: tuple[str, ...], new: RValue) -> RValue:
    if not path:
        return new
    name, *rest = path
    if isinstance(value, RS4):
        return RS4(
            value.class_name, value.package, {**value.slots, name: _changed(value.slots[name], tuple(rest), new)}
        )
    assert isinstance(value, RList)
    items = [_changed(item, tuple(rest), new) if key == name else item for key, item in value.pairs()]
    return RList(items, value.attributes)
