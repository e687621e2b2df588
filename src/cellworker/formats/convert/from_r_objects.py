"""Parts of an R object beyond an experiment, as R values: richer columns, and everything without another place.

Used wherever an object of one class becomes one of another: of Bioconductor to Seurat or AnnData, of Seurat to
Bioconductor. Every element of the object is settled: in a place of its own, or in a list that mirrors the object.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from cellworker.experiment.store.store import StoredExperiment
from cellworker.formats.bioconductor import parts
from cellworker.formats.bioconductor.parts import Part
from cellworker.formats.bioconductor.reader import short_name
from cellworker.formats.common.ledger import Ledger, Path
from cellworker.formats.common.matrices.exact_values import kept_as, loses_digits
from cellworker.formats.common.matrices.sparse import blocks
from cellworker.formats.r.code import without_code
from cellworker.formats.r.rds.build import named_list
from cellworker.formats.r.rds.elements import CODE, MAX_DEPTH, attributes_beyond, children_of, elements_of
from cellworker.formats.r.rds.model import RS4, RList, RStrings, RValue, RVector
from cellworker.formats.r.values import class_names, dim, frame, named, slot

__all__ = [
    "ANNDATA",
    "BIOCONDUCTOR",
    "FLOAT32",
    "JOINED",
    "NO_CODE",
    "SEURAT",
    "Collected",
    "TargetNames",
    "collect",
    "is_plain",
    "rounding",
]

NO_CODE: Final = "R code and its environments are not read: NULL stands there"
FLOAT32: Final = np.dtype(np.float32)
"""How experiments keep log-normalised values."""
JOINED: Final = "joined with the other layers of its kind"
"""What becomes of layers that Seurat 5 keeps apart by sample, ``counts.1`` and so on."""
_RESERVED: Final = frozenset({"gene_ids", "gene_symbols", "dispersion", "original_name", "name", "_index"})
"""Columns by which cellworker tells genes apart in what it writes: those of another meaning stay in the list."""


@dataclass(frozen=True, slots=True)
class TargetNames:
    """The target's names of its parts: `reduction` has a ``{}`` for the name."""

    counts: str
    data: str
    cells: str
    features: str
    reduction: str
    held: str


SEURAT: Final = TargetNames(
    "counts of the assay RNA", "data of the assay RNA", "meta.data", "meta.features of the assay RNA",
    "reductions${}", "misc$source",
)  # fmt: skip
ANNDATA: Final = TargetNames("layers/counts", "X", "obs", "var", "obsm/X_{}", "uns/bioconductor")
BIOCONDUCTOR: Final = TargetNames(
    "assay counts", "assay logcounts", "colData", "rowData", "reducedDim {}", "metadata(x)$source"
)


@dataclass(slots=True)
class Collected:
    """The parts found, and the ledger of the object.

    Attributes
    ----------
    columns, features
        Vectors of one value for each cell and for each gene, as the object has them.
    """

    root: RS4
    ledger: Ledger
    columns: dict[str, RValue] = field(default_factory=dict)
    features: dict[str, RValue] = field(default_factory=dict)

    def held(self, place: str) -> RList | None:
        """Return the list with all that is still open, which is settled by that; None where nothing is.

        A part that is complete is there as it is; of another its elements are, under their names.
        """
        found = self._held(self.root, (), place)
        return found if found is None or isinstance(found, RList) else named_list({"object": found})

    def _held(self, value: RValue, path: Path, place: str) -> RValue | None:
        if not self.ledger.is_open(path):
            return None
        if path and self.ledger.is_whole(path):
            for element in elements_of(value):
                if element.kind in CODE and self.ledger.is_open((*path, *element.path)):
                    self.ledger.lose((*path, *element.path), NO_CODE)
            if self.ledger.is_open(path):
                self.ledger.rename(path, place)
            return without_code(value)
        inner = [*(children_of(value) or []), *((f"@{name}", item) for name, item in attributes_beyond(value))]
        out: dict[str, RValue] = {}
        for name, item in inner if len(path) < MAX_DEPTH else []:
            found = self._held(item, (*path, name), f"{place}${name}")
            if found is not None:
                out[name] = found
        if self.ledger.is_open(path):  # the value itself is an element, and what is below it was settled
            self.ledger.rename_one(path, place)
            out["value"] = without_code(value)
        return named_list(out)


def collect(
    root: RS4,
    experiment: StoredExperiment,
    replaced: Mapping[str, object],
    embedding: str,
    places: TargetNames,
    *,
    takes: Callable[[RValue], bool] | None = None,
) -> Collected:
    """Settle the parts that have a place of their own in the target.

    Parameters
    ----------
    root
        The object, read with exact values.
    experiment
        The experiment opened from it.
    replaced
        Columns of the cells that the cell sets have anew.
    embedding
        The name of a reduction that is replaced; "" where none is.
    places
        The target's names of its parts.
    takes
        Tells vectors that the target's tables hold exactly; by default `is_plain`.
    """
    work = _Work(root, experiment, places, takes or is_plain)
    if experiment.origin.family == "SummarizedExperiment":
        work.bioconductor(replaced, embedding)
    else:
        work.seurat(replaced, embedding)
    return work.out


class _Work:
    def __init__(
        self, root: RS4, experiment: StoredExperiment, places: TargetNames, takes: Callable[[RValue], bool]
    ) -> None:
        self._takes = takes
        self.out = Collected(root, Ledger(elements_of(root)))
        self._root, self._experiment, self._places = root, experiment, places

    def _settle(self, path: Path, to: str, note: str = "") -> None:
        if self.out.ledger.is_whole(path) and self.out.ledger.is_open(path):
            self.out.ledger.rename(path, to, note)

    def _matrix(self, path: Path, value: RValue | None, to: str, values: np.ndarray) -> None:
        """Settle a matrix whose values are those that are written; any other stays in the list."""
        stored = slot(value, "x") if isinstance(value, RS4) else value
        if not isinstance(stored, RVector):
            return
        found = stored.values[stored.values != 0] if not isinstance(value, RS4) else stored.values
        with np.errstate(over="ignore", invalid="ignore"):
            same = len(found) == len(values) and np.array_equal(
                found.astype(values.dtype), values, equal_nan=values.dtype.kind == "f"
            )
        if same:
            self._settle(path, to, rounding(value))

    def bioconductor(self, replaced: Mapping[str, object], embedding: str) -> None:
        experiment, whole = self._experiment, Part(self._root, ())
        used: dict[str, list[str]] = experiment.extra.get("used", {})
        matrices = {part.path: part for _, experiment_part in [("", whole), *parts.alternatives(whole)]
                    for part in parts.assays(experiment_part).values()}  # fmt: skip
        for what, to, matrix in (
            ("counts", self._places.counts, experiment.counts), ("data", self._places.data, experiment.data_by_cell)
        ):  # fmt: skip
            path = tuple(used.get(what, ()))
            if path in matrices and matrix is not None:
                self._matrix(path, matrices[path].value, to, matrix.values)
        cells = parts.cell_table(whole)
        if cells is not None:
            self._columns(cells, replaced)
            names = slot(cells.value, "rownames")
            self._names((*cells.path, "rownames"), names, experiment.barcodes, "names of the cells")
        features = parts.feature_table(whole)
        if features is not None:
            self._feature_columns(features)
        for path in (("NAMES",), ("rowRanges", "ranges", "NAMES"), ("rowRanges", "partitioning", "NAMES")):
            value: RValue | None = self._root
            for name in path:
                value = slot(value, name)
            self._names(path, value, experiment.genes.ids, "names of the genes")
        found = parts.reduced(whole)
        for name, part in found.items():
            short = short_name(name, found)
            if short in experiment.reductions and short != embedding and isinstance(part.value, RVector):
                self._reduction(part.path, part.value, short)

    def _columns(self, table: Part, replaced: Mapping[str, object]) -> None:
        held = parts.list_of(table.value)
        where = table.path if held is table.value else (*table.path, "listData")
        experiment = self._experiment
        for name, item in children_of(held) or [] if held is not None else []:
            path: Path = (*where, name)
            if name == "cells_id" and isinstance(item, RVector) and np.array_equal(item.values, experiment.cell_ids):
                self.out.ledger.move(path, self._places.cells)
            elif self._fits(item, experiment.n_cells) and name not in {*replaced, "cells_id"}:
                self.out.columns[name] = item
                self.out.ledger.move(path, self._places.cells)

    def _fits(self, value: RValue, length: int) -> bool:
        return isinstance(value, RVector | RStrings) and len(value) == length and self._takes(value)

    def _feature_columns(self, table: Part) -> None:
        held = parts.list_of(table.value)
        where = table.path if held is table.value else (*table.path, "listData")
        for name, item in children_of(held) or [] if held is not None else []:
            if self._fits(item, len(self._experiment.genes)) and name not in _RESERVED:
                self.out.features[name] = item
                self.out.ledger.move((*where, name), self._places.features)

    def _names(self, path: Path, value: RValue | None, expected: list[str], what: str) -> None:
        if isinstance(value, RStrings) and value.tolist() == expected and not value.attributes:
            self.out.ledger.move(path, what)

    def _reduction(self, path: Path, value: RVector, short: str) -> None:
        """Settle a matrix of coordinates; its further attributes are elements of their own."""
        values = self._experiment.reductions[short].values
        shape = dim(value)
        if shape == values.shape and np.array_equal(
            value.values.reshape(shape[1], shape[0]).T, values, equal_nan=value.kind == "double"
        ):
            self.out.ledger.rename_one(path, self._places.reduction.format(short))

    # ---- Seurat ----

    def seurat(self, replaced: Mapping[str, object], embedding: str) -> None:
        experiment = self._experiment
        name = experiment.origin.assay
        assay = dict(named(slot(self._root, "assays"))).get(name)
        layers = slot(assay, "layers")
        where: Path = ("assays", name, "layers") if layers is not None else ("assays", name)
        for what, to, matrix in (
            ("counts", self._places.counts, experiment.counts), ("data", self._places.data, experiment.data_by_cell)
        ):  # fmt: skip
            value = dict(named(layers)).get(what) if layers is not None else slot(assay, what)
            if value is not None and matrix is not None:
                self._matrix((*where, what), value, to, matrix.values)
        table = slot(self._root, "meta.data")
        rows = frame(table)
        if table is not None and rows is not None and (rows.rows is None or rows.rows == experiment.barcodes):
            self._columns(Part(table, ("meta.data",)), replaced)
        for key, reduction in named(slot(self._root, "reductions")):
            value = slot(reduction, "cell.embeddings")
            if key in experiment.reductions and key != embedding and isinstance(value, RVector):
                self._reduction(("reductions", key, "cell.embeddings"), value, key)


def is_plain(value: RValue) -> bool:
    """Tell a vector of its type's own meaning: no dates, no units, no matrix."""
    classes = set(class_names(value))
    return isinstance(value, RVector | RStrings) and classes <= {"factor", "ordered", "integer64"} \
        and not attributes_beyond(value) and "dim" not in value.attributes  # fmt: skip


def rounding(matrix: RValue | None, held: np.dtype[Any] = FLOAT32) -> str:
    """Say so where a matrix's doubles are not held exactly by the type in which the experiment keeps its values."""
    values = slot(matrix, "x") if isinstance(matrix, RS4) else matrix
    kept = kept_as(held)
    if not isinstance(values, RVector) or values.kind != "double":
        return "" if isinstance(values, RVector) else f"values as {kept}"
    pieces = (values.values[start:end] for start, end in blocks(len(values)))
    return f"doubles rounded to {kept}" if loses_digits(pieces, held) else ""
