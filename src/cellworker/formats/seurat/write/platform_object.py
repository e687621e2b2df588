"""Building a Seurat object in the platform's form (contract 6.2) as a tree for the writer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellworker.experiment.model import Categorical, Genes
from cellworker.formats.r.rds.build import (
    data_frame,
    dgc_matrix,
    doubles,
    factor,
    logicals,
    matrix,
    named_list,
    package_version,
    strings,
)
from cellworker.formats.r.rds.model import RS4, Attributes, RList, RNull, RValue, RVector

__all__ = ["ObjectParts", "ReductionPart", "SparsePart", "seurat_object"]

_VERSION = "4.1.3"
"""The SeuratObject version stated: class Assay of that time is read by Seurat 3, 4 and 5."""


@dataclass(frozen=True, slots=True)
class SparsePart:
    """A genes x cells matrix, cell after cell: the compressed columns of R's dgCMatrix. Arrays may be maps of files."""

    indptr: NDArray[Any]
    genes: NDArray[Any]
    values: NDArray[Any]


@dataclass(frozen=True, slots=True)
class ReductionPart:
    """A reduction: `values` ``(n_cells, n_dims)``; where known, `stdev` per dimension and `loadings` of some genes."""

    values: NDArray[np.floating[Any]]
    key: str
    stdev: NDArray[np.float64] | None = None
    loadings: NDArray[np.floating[Any]] | None = None
    loading_genes: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class ObjectParts:
    """Everything that goes into the object.

    Attributes
    ----------
    scaled_genes, scaled_values
        Names of the scaled genes, and ``(n_genes, n_cells)``.
    metadata
        Columns of ``meta.data``; ``cells_id`` and ``samples`` among them.
    counts
        None leaves the slot empty.
    identities
        The active identities; without them all cells are one.
    features
        Further columns of the assay's ``meta.features``.
    gene_dispersion
        Columns of ``misc$gene_dispersion`` before SYMBOL and ENSEMBL.
    gene_ids
        Ids of the genes where the assay knows them by another name.
    images
        Images of tissues, by name.
    misc
        Further elements of ``misc``.
    """

    barcodes: Sequence[str]
    genes: Genes
    counts: SparsePart | None
    data: SparsePart
    metadata: Mapping[str, RValue]
    reductions: Mapping[str, ReductionPart]
    gene_dispersion: Mapping[str, NDArray[np.float64]]
    features: Mapping[str, RValue] = field(default_factory=dict)
    gene_ids: Sequence[str] = ()
    variable_features: Sequence[str] = ()
    scaled_genes: Sequence[str] = ()
    scaled_values: NDArray[np.floating[Any]] | None = None
    identities: Categorical | None = None
    graphs: Mapping[str, RS4] = field(default_factory=dict)
    images: Mapping[str, RS4] = field(default_factory=dict)
    misc: Mapping[str, RValue] = field(default_factory=dict)


def seurat_object(parts: ObjectParts) -> RS4:
    """Assemble the object.

    Returns
    -------
    An S4 tree that `write_rds` writes and that Seurat (3 to 5) and the platform's worker open.
    """
    genes = parts.genes
    cells = parts.barcodes
    names: dict[str, RValue] = {
        "input": strings(genes.ids), "name": strings(genes.names), "original_name": strings(genes.original_names)
    }  # fmt: skip
    if parts.gene_ids:
        names["id"] = strings(parts.gene_ids)
    annotations = data_frame(names, genes.ids)
    dispersion_columns: dict[str, RValue] = {name: doubles(values) for name, values in parts.gene_dispersion.items()}
    dispersion_columns |= {"SYMBOL": strings(genes.names), "ENSEMBL": strings(genes.ids)}
    misc: dict[str, RValue] = {
        "gene_annotations": annotations,
        "gene_dispersion": data_frame(dispersion_columns, genes.ids),
        **parts.misc,
    }
    slots: Attributes = {
        "assays": named_list({"RNA": _assay(parts)}),
        "meta.data": data_frame(parts.metadata, cells),
        "active.assay": strings("RNA"),
        "active.ident": _identities(parts),
        "graphs": named_list(parts.graphs),
        "neighbors": RList([]),
        "reductions": named_list({name: _reduction(part, cells) for name, part in parts.reductions.items()}),
        "images": named_list(parts.images),
        "project.name": strings("cellworker"),
        "misc": named_list(misc),
        "version": package_version(_VERSION),
        "commands": RList([]),
        "tools": RList([]),
    }
    return RS4("Seurat", "SeuratObject", slots)


def _identities(parts: ObjectParts) -> RVector:
    cells = parts.barcodes
    if parts.identities is None:
        return factor(np.zeros(len(cells), np.int32), ["cells"], names=cells)
    return factor(parts.identities.codes, parts.identities.categories, names=cells)


def _assay(parts: ObjectParts) -> RS4:
    ids = parts.genes.ids
    scaled: RVector = matrix(np.zeros((0, 0)))
    if parts.scaled_values is not None:
        scaled = matrix(parts.scaled_values, parts.scaled_genes, parts.barcodes)
    slots: Attributes = {
        "counts": matrix(np.zeros((0, 0))) if parts.counts is None else _sparse(parts.counts, parts),
        "data": _sparse(parts.data, parts),
        "scale.data": scaled,
        "key": strings("rna_"),
        "assay.orig": RNull(),
        "var.features": strings(parts.variable_features),
        "meta.features": data_frame(
            {**{f"vst.{name}": doubles(v) for name, v in parts.gene_dispersion.items()}, **parts.features}, ids
        ),
        "misc": RList([]),
    }
    return RS4("Assay", "SeuratObject", slots)


def _sparse(part: SparsePart, parts: ObjectParts) -> RS4:
    ids = parts.genes.ids
    return dgc_matrix(part.indptr, part.genes, part.values, len(ids), row_names=ids, column_names=parts.barcodes)


def _reduction(part: ReductionPart, cells: Sequence[str]) -> RS4:
    dimensions = [f"{part.key}{i + 1}" for i in range(part.values.shape[1])]
    empty = matrix(np.zeros((0, 0)))
    loadings = empty if part.loadings is None else matrix(part.loadings, part.loading_genes, dimensions)
    jackstraw_slots: Attributes = dict.fromkeys(
        ["empirical.p.values", "fake.reduction.scores", "empirical.p.values.full", "overall.p.values"], empty
    )
    slots: Attributes = {
        "cell.embeddings": matrix(part.values, cells, dimensions),
        "feature.loadings": loadings,
        "feature.loadings.projected": empty,
        "assay.used": strings("RNA"),
        "global": logicals([part.loadings is None]),
        "stdev": doubles(np.zeros(0) if part.stdev is None else part.stdev),
        "key": strings(part.key),
        "jackstraw": RS4("JackStrawData", "SeuratObject", jackstraw_slots),
        "misc": RList([]),
    }
    return RS4("DimReduc", "SeuratObject", slots)
