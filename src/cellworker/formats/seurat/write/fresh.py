"""An experiment as a fresh Seurat object in an `.rds` file, written without R.

The object has one assay ``RNA`` of class Assay, which Seurat 3 to 5 read (Seurat 5 turns it into an Assay5 with
``object[["RNA"]] <- as(object[["RNA"]], "Assay5")``), and the platform's ``misc`` slots, so that the platform's own
worker reads it too.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.model import Categorical, CellMajor, Column, Experiment, Genes, Reduction
from cellworker.formats.common.cells.annotated_columns import Annotated
from cellworker.formats.common.cells.names import DIMENSION_PREFIXES
from cellworker.formats.r.rds.build import (
    dgc_matrix,
    doubles,
    factor,
    integers,
    logicals,
    strings,
)
from cellworker.formats.r.rds.model import RS4, RList, RValue
from cellworker.formats.r.rds.writer import write_rds
from cellworker.formats.seurat.write.from_anndata import SeuratExtras
from cellworker.formats.seurat.write.images import own_images, seurat_images
from cellworker.formats.seurat.write.platform_object import ObjectParts, ReductionPart, SparsePart, seurat_object

__all__ = ["check_sizes", "r_column", "r_graphs", "write_seurat"]

_MAX_ENTRIES = 2**31 - 1
HELD_BY = {"AnnData": "anndata", "SummarizedExperiment": "source", "Seurat": "source"}
"""The element of ``misc`` that holds what has no other place, by the kind of object that it comes from."""
_VARIABLE = 2000
_LEVEL = 3


def write_seurat(
    experiment: Experiment,
    annotated: Annotated,
    path: Path,
    *,
    reductions: Mapping[str, Reduction],
    extras: SeuratExtras | None = None,
    held: RValue | None = None,
) -> list[str]:
    """Write the object. Matrices stream from the experiment's maps, so memory stays at some megabytes beside them.

    Parameters
    ----------
    annotated
        The columns of ``meta.data``; its clusters become the active identities.
    path
        Where to write, in place.
    reductions
        The reductions, by name.
    extras
        The source's parts beyond the experiment.
    held
        The content of ``misc$anndata``, or, of another R object, of ``misc$source``.

    Returns
    -------
    What had to be renamed, in words.

    Raises
    ------
    WorkerError
        ``EXPERIMENT_UNSUPPORTED`` when a matrix has more values than R's sparse matrices hold.
    """
    check_sizes(experiment)
    data, counts = experiment.data_by_cell, experiment.counts
    renamed: list[str] = []
    genes = _features(experiment, renamed)
    columns = {name: column for name, column in annotated.columns.items() if name != "cells_id"}
    metadata: dict[str, RValue] = {"cells_id": integers(experiment.cell_ids)}
    extras = extras or SeuratExtras()
    metadata |= {name: r_column(column) for name, column in columns.items()} | extras.metadata
    scaled = experiment.scaled
    dispersions = _dispersions(experiment)
    misc = experiment.misc
    more: dict[str, RValue] = {
        "color_pool": strings(misc.color_pool),
        "active.reduction": strings(misc.active_reduction),
        "numPCs": integers([misc.num_pcs]),
    }
    texts = {
        "technology": misc.technology, "experimentId": misc.experiment_id, "ingestionDate": misc.ingestion_date
    }  # fmt: skip
    more |= {name: strings(text) for name, text in texts.items() if text}
    if misc.microns_per_pixel is not None:
        more["microns_per_pixel"] = doubles([misc.microns_per_pixel])
    if held is not None:
        more[HELD_BY[experiment.origin.family]] = held
    images = seurat_images(experiment, extras.spots)
    if experiment.images:
        more["cellworker_images"] = own_images(experiment, without_pixels=images)
    clusters = columns.get(annotated.clusters)
    identities = annotated.identities if annotated.identities is not None else experiment.identities
    if identities is None:
        # A Seurat object always has identities: a mark distinguishes ours from a user's when it is read again.
        more["cellworker_identities"] = strings(annotated.clusters if isinstance(clusters, Categorical) else "")
        identities = clusters if isinstance(clusters, Categorical) else None
    parts = ObjectParts(
        barcodes=experiment.barcodes,
        genes=genes,
        counts=_matrix(counts) if counts is not None else None,
        data=_matrix(data),
        metadata=metadata,
        reductions=_reductions(reductions, renamed, extras, genes),
        gene_dispersion={"variance.standardized": dispersions},
        features=extras.features,
        gene_ids=experiment.genes.ids if experiment.genes.ids != genes.ids else (),
        variable_features=[genes.ids[i] for i in _variable(extras, dispersions).tolist()],
        scaled_genes=[genes.ids[i] for i in scaled.genes.tolist()] if scaled is not None else (),
        scaled_values=scaled.values.T if scaled is not None else None,
        identities=identities,
        graphs=r_graphs(experiment, extras.graphs),
        images=images,
        misc=more,
    )
    write_rds(seurat_object(parts), path, level=_LEVEL)
    return renamed


def check_sizes(experiment: Experiment) -> None:
    """Refuse matrices that R's sparse ones cannot hold.

    Raises
    ------
    WorkerError
        ``EXPERIMENT_UNSUPPORTED``.
    """
    for name, values in (("expression", experiment.data_by_cell), ("counts", experiment.counts)):
        if values is not None and len(values.values) > _MAX_ENTRIES:
            message = (
                f"the {name} hold {len(values.values):,} values, and R's sparse matrices at most {_MAX_ENTRIES:,}: "
                "convert to .h5ad or .zarr"
            )
            raise WorkerError(ErrorCode.EXPERIMENT_UNSUPPORTED, message)


def _features(experiment: Experiment, renamed: list[str]) -> Genes:
    """Return the genes under names that Seurat takes: without underscores, each once.

    Genes are identified by name in files of scverse, by id in Seurat objects and our own files. A name that needs no
    change is never given to another gene.
    """
    genes, origin = experiment.genes, experiment.origin
    by_name = origin.assay_class == "AnnData" and not origin.writer.startswith("cellworker")
    wanted = genes.names if by_name else genes.ids
    if by_name and genes.ids != genes.names:
        renamed.append("features: gene names instead of ids, which are in misc$gene_annotations$id")
    taken = {name for name in wanted if "_" not in name}
    changed = []
    for name in wanted:
        if "_" not in name:
            changed.append(name)
            continue
        plain = name.replace("_", "-")
        free, number = plain, 0
        while free in taken:
            number += 1
            free = f"{plain}.{number}"
        taken.add(free)
        changed.append(free)
        renamed.append(f"genes: {name!r} is {free!r}, since Seurat takes no underscore")
    return Genes(changed, genes.names, genes.original_names)


def r_column(column: Column) -> RValue:
    """Return a column of cell metadata as R has it: factors, logicals, integers where they fit, doubles."""
    if isinstance(column, Categorical):
        return factor(column.codes, column.categories)
    if column.dtype == np.bool_:
        return logicals(column)
    if column.dtype.kind in "iu" and len(column) and np.abs(column).max() < 2**31:
        return integers(column)
    return doubles(column)


def _matrix(matrix: CellMajor) -> SparsePart:
    return SparsePart(matrix.indptr, matrix.genes, matrix.values)


def _variable(extras: SeuratExtras, dispersions: np.ndarray) -> np.ndarray:
    """Return the variable genes: those that the source names, the most variable ones first."""
    order = np.argsort(-dispersions, kind="stable")
    if extras.variable is None:
        return order[:_VARIABLE]
    return order[np.isin(order, extras.variable)]


def _reductions(
    reductions: Mapping[str, Reduction], renamed: list[str], extras: SeuratExtras, genes: Genes
) -> dict[str, ReductionPart]:
    out: dict[str, ReductionPart] = {}
    taken: set[str] = set()
    for name, reduction in reductions.items():
        # Seurat's keys are letters and digits with an underscore behind, and each belongs to one reduction.
        wanted = reduction.key or DIMENSION_PREFIXES.get(name, name)
        letters = "".join(letter for letter in wanted if letter.isalnum() and letter.isascii())
        letters = letters if letters[:1].isalpha() else f"dim{letters}"
        while f"{letters}_" in taken:
            letters += "x"
        taken.add(f"{letters}_")
        if reduction.key and f"{letters}_" != reduction.key:
            renamed.append(f"reductions: the key of {name} is {letters}_")
        loadings = extras.loadings.get(name)
        out[name] = ReductionPart(
            reduction.values, f"{letters}_", extras.stdev.get(name), loadings, genes.ids if loadings is not None else ()
        )
    return out


def r_graphs(experiment: Experiment, exact: Mapping[str, RS4]) -> dict[str, RS4]:
    """Return the graphs as R stores them; a row of ours is a column there, which is the same for symmetric ones."""
    out = {}
    for name, graph in experiment.graphs.items():
        if name in exact:
            about: dict[str, RValue] = {
                "Dimnames": RList([strings(experiment.barcodes)] * 2),
                "assay.used": strings("RNA"),
            }
            out[name] = RS4("Graph", "SeuratObject", {**exact[name].slots, **about})
            continue
        indptr, cells, weights = graph.indptr, graph.cells, graph.weights
        if not name.endswith("snn"):
            from scipy.sparse import csr_array  # noqa: PLC0415 - only graphs that are not symmetric need it

            n = len(indptr) - 1
            turned = csr_array((weights, cells, indptr), shape=(n, n)).tocsc()
            indptr, cells, weights = turned.indptr, turned.indices, turned.data
        names: Sequence[str] = experiment.barcodes
        matrix = dgc_matrix(
            indptr, cells, weights, len(indptr) - 1, row_names=names, column_names=names,
            **{"assay.used": strings("RNA")},
        )  # fmt: skip
        out[name] = RS4("Graph", "SeuratObject", matrix.slots)
    return out


def _dispersions(experiment: Experiment) -> np.ndarray:
    table = experiment.dispersions
    out = np.zeros(len(experiment.genes))
    if table is not None:
        rows = np.array([experiment.genes.by_id.get(gene, -1) for gene in table.ids], np.int64)
        out[rows[rows >= 0]] = np.nan_to_num(np.asarray(table.dispersions)[rows >= 0])
    return out
