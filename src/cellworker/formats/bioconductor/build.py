"""The S4 objects of Bioconductor that a SingleCellExperiment is made of, in the layout of its versions since 3.10.

Source: the class definitions of S4Vectors, IRanges, GenomicRanges, SummarizedExperiment and SingleCellExperiment, and
the objects that they make.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from cellworker.formats.r.rds.build import integers, named_list, package_version, strings
from cellworker.formats.r.rds.model import RS4, RList, RNull, RStrings, RValue, RVector

__all__ = ["data_frame", "single_cell_experiment"]

_VERSION = "1.20.0"
"""Of the layout: the SingleCellExperiment that reads it as it is; later ones do, too."""


def _annotated(name: str, package: str, slots: Mapping[str, RValue], element: str | None = "ANY") -> RS4:
    more: dict[str, RValue] = {"elementMetadata": RNull(), "metadata": RList([])}
    if element is not None:
        more["elementType"] = strings(element)
    return RS4(name, package, {**more, **slots})


def data_frame(columns: Mapping[str, RValue], n_rows: int, rows: Sequence[str] | RStrings | None = None) -> RS4:
    """Build a DataFrame (class DFrame)."""
    names = rows if isinstance(rows, RStrings) else strings(rows) if rows is not None else RNull()
    held = RList(list(columns.values()), {"names": strings(columns)})
    return _annotated("DFrame", "S4Vectors", {"rownames": names, "nrows": integers([n_rows]), "listData": held})


def _list(items: Mapping[str, RValue]) -> RS4:
    held = RList(list(items.values()), {"names": strings(items)})
    return _annotated("SimpleList", "S4Vectors", {"listData": held})


def _runs(levels: Sequence[str]) -> RS4:
    none = np.zeros(0, np.int32)
    values = RVector(none, "integer", {"levels": strings(levels), "class": strings("factor")})
    return _annotated("Rle", "S4Vectors", {"values": values, "lengths": RVector(none, "integer")}, None)


def _no_ranges(genes: Sequence[str], columns: RS4) -> RS4:
    """Build a GRangesList of one empty range for each gene, which carries names and table of the genes."""
    none = np.zeros(0, np.int32)
    seqinfo = RS4(
        "Seqinfo", "GenomeInfoDb",
        {"seqnames": strings([]), "seqlengths": RVector(none, "integer"), "is_circular": RVector(none, "logical"),
         "genome": strings([])},
    )  # fmt: skip
    ranges = _annotated(
        "IRanges", "IRanges",
        {"start": RVector(none, "integer"), "width": RVector(none, "integer"), "NAMES": RNull()},
    )  # fmt: skip
    inner = _annotated(
        "GRanges", "GenomicRanges",
        {"seqnames": _runs([]), "strand": _runs(["+", "-", "*"]), "ranges": ranges, "seqinfo": seqinfo,
         "elementMetadata": data_frame({}, 0)},
    )  # fmt: skip
    parts = _annotated(
        "PartitioningByEnd", "IRanges",
        {"end": RVector(np.zeros(len(genes), np.int32), "integer"), "NAMES": strings(genes)},
    )  # fmt: skip
    return _annotated(
        "CompressedGRangesList", "GenomicRanges",
        {"unlistData": inner, "elementMetadata": columns, "partitioning": parts}, "GRanges",
    )  # fmt: skip


def single_cell_experiment(
    assays: Mapping[str, RValue],
    cells: Sequence[str],
    genes: Sequence[str],
    *,
    columns: Mapping[str, RValue],
    features: Mapping[str, RValue],
    reduced: Mapping[str, RValue],
    metadata: Mapping[str, RValue],
) -> RS4:
    """Build the object.

    Parameters
    ----------
    assays
        Matrices of genes x cells.
    cells, genes
        Their names, each once.
    columns, features
        One value for each cell, for each gene.
    reduced
        Matrices of cells x dimensions.
    metadata
        The object's own list.
    """
    n_cells, n_genes = len(cells), len(genes)
    inside = {"reducedDims": data_frame(reduced, n_cells), "altExps": data_frame({}, n_cells),
              "colPairs": data_frame({}, n_cells)}  # fmt: skip
    return RS4(
        "SingleCellExperiment", "SingleCellExperiment",
        {
            "int_elementMetadata": data_frame({"rowPairs": data_frame({}, n_genes)}, n_genes),
            "int_colData": data_frame(inside, n_cells),
            "int_metadata": named_list({"version": package_version(_VERSION)}),
            "rowRanges": _no_ranges(genes, data_frame(features, n_genes)),
            "colData": data_frame(columns, n_cells, cells),
            "assays": RS4("SimpleAssays", "SummarizedExperiment", {"data": _list(assays)}),
            "NAMES": RNull(),
            "elementMetadata": data_frame({}, n_genes),
            "metadata": named_list(metadata),
        },
    )  # fmt: skip
