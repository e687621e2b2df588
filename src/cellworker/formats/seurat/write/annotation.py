"""Additions to a Seurat object before it is delivered, as R values (contract 5.21, algorithms 12.6)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.model import Categorical
from cellworker.formats.common.cells.names import DIMENSION_PREFIXES, match_rows
from cellworker.formats.r.rds import build
from cellworker.formats.r.rds.model import RS4, RList, RStrings, RValue, RVector

__all__ = ["Annotation", "AnnotationValues", "Embedding", "values_for"]

_NA_REAL = np.array([0x7FF00000000007A2], np.uint64).view(np.float64)
"""R's NA: a NaN whose low word is 1954."""


@dataclass(frozen=True, slots=True)
class Embedding:
    """A two-dimensional map of the cells: "umap" or "tsne", and float64 ``(n_cells, 2)``, NaN where a cell has none."""

    name: str
    values: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Annotation:
    """The additions, for the cells of an open experiment in their order.

    Attributes
    ----------
    columns
        Columns of ``meta.data`` by name, in order: labels (a character column) or bool ``(n_cells,)`` (a logical one).
        They take the place of columns of the same names, behind all others.
    identities
        The column of labels that becomes the active identity; None leaves the identities as they are.
    embedding
        Becomes a reduction, instead of one of the same name.
    """

    columns: Mapping[str, Categorical | NDArray[np.bool_]]
    identities: str | None = None
    embedding: Embedding | None = None


@dataclass(frozen=True, slots=True)
class AnnotationValues:
    """The same as R values, for the cells of the object in their order.

    Attributes
    ----------
    columns
        New columns of ``meta.data``.
    identities
        The new ``active.ident``; None leaves it.
    reductions
        New reductions: none, or one.
    """

    columns: Mapping[str, RValue]
    identities: RValue | None
    reductions: Mapping[str, RValue] = field(default_factory=dict)


def values_for(
    annotation: Annotation,
    barcodes: list[str],
    rows: Sequence[str] | None,
    n_rows: int,
    *,
    assay: str,
    package: str,
) -> AnnotationValues:
    """Turn an annotation into R values.

    Parameters
    ----------
    annotation
        For the experiment's cells.
    barcodes
        The experiment's cells.
    rows, n_rows
        Row names of the object's ``meta.data``, None when they are numbers, and their count. Cells of the object that
        the experiment has not (those of other assays) get NA, or FALSE.
    assay
        The object's active assay.
    package
        The R package of the object's classes: SeuratObject, or Seurat in objects of its version 3.

    Raises
    ------
    WorkerError
        ``EXPERIMENT_UNSUPPORTED`` when the rows cannot be matched to the cells.
    """
    names = list(rows) if rows is not None else barcodes
    places = _places(barcodes, names, n_rows)
    columns = {name: _column(column, places) for name, column in annotation.columns.items()}
    identities = None
    if annotation.identities is not None:
        labels = annotation.columns[annotation.identities]
        assert isinstance(labels, Categorical)
        identities = _identities(labels, places, names)
    reductions = {}
    if annotation.embedding is not None:
        reductions[annotation.embedding.name] = _reduction(annotation.embedding, places, names, assay, package)
    return AnnotationValues(columns, identities, reductions)


def _places(barcodes: list[str], names: list[str], n_rows: int) -> NDArray[np.int64]:
    """Return where each row's cell is in the experiment, -1 for nowhere."""
    places = match_rows(barcodes, len(barcodes), names)
    if len(names) != n_rows or places is None or not (places >= 0).any():
        raise WorkerError(
            ErrorCode.EXPERIMENT_UNSUPPORTED,
            f"The object's meta.data has {n_rows:,} rows that are not named like its {len(barcodes):,} cells, so "
            "nothing can be added to it. In R, set rownames(object@meta.data) to colnames(object) and save it again.",
        )
    return places


def _column(column: Categorical | NDArray[np.bool_], places: NDArray[np.int64]) -> RStrings | RVector:
    if not isinstance(column, Categorical):
        return build.logicals((places >= 0) & column[np.maximum(places, 0)])
    codes = _codes(column, places)
    encoded = [name.encode() for name in column.categories]
    lengths = np.array([*map(len, encoded), 0], np.int64)  # the last one stands for none
    texts = [*encoded, b""]
    offsets = np.zeros(len(codes) + 1, np.int64)
    np.cumsum(lengths[codes], out=offsets[1:])
    missing = codes < 0
    return RStrings(b"".join([texts[code] for code in codes.tolist()]), offsets, missing if missing.any() else None)


def _codes(column: Categorical, places: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.where(places >= 0, column.codes[np.maximum(places, 0)], -1).astype(np.int64)


def _identities(column: Categorical, places: NDArray[np.int64], names: list[str]) -> RVector:
    """Make a factor, its levels in the order in which they first appear."""
    codes = _codes(column, places)
    present, first = np.unique(codes[codes >= 0], return_index=True)
    order = present[np.argsort(first)]
    level = np.full(len(column.categories) + 1, -1, np.int64)
    level[order] = np.arange(len(order))
    return build.factor(level[codes], [column.categories[code] for code in order.tolist()], names)


def _reduction(embedding: Embedding, places: NDArray[np.int64], names: list[str], assay: str, package: str) -> RS4:
    values = np.where((places >= 0)[:, None], embedding.values[np.maximum(places, 0)], np.nan)
    values[np.isnan(values)] = _NA_REAL
    key = DIMENSION_PREFIXES[embedding.name]
    empty = build.matrix(np.empty((0, 0)))
    jackstraw = dict.fromkeys(
        ("empirical.p.values", "fake.reduction.scores", "empirical.p.values.full", "overall.p.values"), empty
    )
    return RS4(
        "DimReduc",
        package,
        {
            "cell.embeddings": build.matrix(values, names, [f"{key}1", f"{key}2"]),
            "feature.loadings": empty,
            "feature.loadings.projected": empty,
            "assay.used": build.strings(assay),
            "global": build.logicals([False]),
            "stdev": RVector(np.empty(0), "double"),
            "key": build.strings(key),
            "jackstraw": RS4("JackStrawData", package, dict(jackstraw)),
            "misc": RList([]),
        },
    )
