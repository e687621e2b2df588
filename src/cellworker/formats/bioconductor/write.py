"""An experiment as a SingleCellExperiment in an `.rds` file, written without R.

``counts`` and ``logcounts`` are its assays; columns of the cells and of the genes, reduced dimensions (PCA, UMAP and
TSNE under the names that scater gives them, loadings as the attribute ``rotation``) are where R's packages look for
them. What the class has no place for is in ``metadata(x)$cellworker``, what the source held beside in
``metadata(x)$source``.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from cellworker.experiment.model import CellMajor, Experiment, Genes, Reduction
from cellworker.formats.bioconductor.build import single_cell_experiment
from cellworker.formats.bioconductor.own import KEY, own_parts
from cellworker.formats.common.cells.annotated_columns import Annotated
from cellworker.formats.r.rds import build
from cellworker.formats.r.rds.model import RS4, RList, RValue, RVector
from cellworker.formats.r.rds.writer import write_rds
from cellworker.formats.seurat.write.fresh import check_sizes, r_column, r_graphs
from cellworker.formats.seurat.write.from_anndata import SeuratExtras
from cellworker.formats.seurat.write.images import own_images

__all__ = ["HELD", "NAMES", "write_single_cell_experiment"]

HELD = "source"
"""The element of ``metadata(x)`` with what the source held beside an experiment."""
NAMES = {"pca": "PCA", "umap": "UMAP", "tsne": "TSNE"}
_LEVEL = 3


def write_single_cell_experiment(
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
        The columns of ``colData``.
    path
        Where to write, in place.
    reductions
        The reductions, by name.
    extras
        The source's parts beyond the experiment.
    held
        The content of ``metadata(x)$source``.

    Returns
    -------
    What had to be renamed, in words.

    Raises
    ------
    WorkerError
        ``EXPERIMENT_UNSUPPORTED`` when a matrix has more values than R's sparse matrices hold.
    """
    check_sizes(experiment)
    extras = extras or SeuratExtras()
    renamed: list[str] = []
    genes = _names(experiment, renamed)
    counts, cells = experiment.counts, experiment.barcodes
    assays = {"counts": _matrix(counts, genes.ids, cells)} if counts is not None else {}
    assays["logcounts"] = _matrix(experiment.data_by_cell, genes.ids, cells)
    columns: dict[str, RValue] = {"cells_id": build.integers(experiment.cell_ids)}
    columns |= {name: r_column(column) for name, column in annotated.columns.items() if name != "cells_id"}
    columns |= extras.metadata
    identities = annotated.identities if annotated.identities is not None else experiment.identities
    own = own_parts(experiment, identities, {name: each.key for name, each in reductions.items() if each.key})
    assert isinstance(own, RList)
    more: dict[str, RValue] = dict(own.pairs())
    graphs = r_graphs(experiment, extras.graphs)
    if graphs:
        more["graphs"] = build.named_list({name: _plain(graph) for name, graph in graphs.items()})
    if experiment.images:
        more["images"] = own_images(experiment)
    metadata: dict[str, RValue] = {KEY: build.named_list(more)}
    if held is not None:
        metadata[HELD] = held
    root = single_cell_experiment(
        assays, cells, genes.ids,
        columns=columns,
        features=_features(experiment, genes, extras),
        reduced=_reduced(reductions, cells, extras, genes),
        metadata=metadata,
    )  # fmt: skip
    write_rds(root, path, level=_LEVEL)
    return renamed


def _names(experiment: Experiment, renamed: list[str]) -> Genes:
    """Return the genes by the names that the source tells them apart with: files of scverse by symbols, as a rule."""
    genes, origin = experiment.genes, experiment.origin
    if origin.family != "AnnData" or origin.writer.startswith("cellworker") or genes.ids == genes.names:
        return genes
    renamed.append("features: gene names instead of ids, which are in rowData(x)$gene_ids")
    return Genes(genes.names, genes.names, genes.original_names)


def _matrix(matrix: CellMajor, genes: list[str], cells: list[str]) -> RS4:
    return build.dgc_matrix(matrix.indptr, matrix.genes, matrix.values, len(genes), row_names=genes, column_names=cells)


def _plain(graph: RS4) -> RS4:
    return RS4("dgCMatrix", "Matrix", {name: value for name, value in graph.slots.items() if name != "assay.used"})


def _features(experiment: Experiment, genes: Genes, extras: SeuratExtras) -> dict[str, RValue]:
    own: dict[str, RValue] = {}
    if genes.original_names != genes.ids:
        own["original_name"] = build.strings(genes.original_names)
    if genes.names != genes.ids:
        own["name"] = build.strings(genes.names)
    if genes.ids is not experiment.genes.ids and genes.ids != experiment.genes.ids:
        own["gene_ids"] = build.strings(experiment.genes.ids)
    table = experiment.dispersions
    if table is not None:
        values = np.full(len(genes), np.nan)
        rows = np.array([experiment.genes.by_id.get(gene, -1) for gene in table.ids], np.int64)
        values[rows[rows >= 0]] = np.asarray(table.dispersions)[rows >= 0]
        own["dispersion"] = build.doubles(values)
    return {**extras.features, **own}


def _reduced(
    reductions: Mapping[str, Reduction], cells: list[str], extras: SeuratExtras, genes: Genes
) -> dict[str, RValue]:
    out: dict[str, RValue] = {}
    for name, reduction in reductions.items():
        shown = NAMES.get(name, name)
        shown = name if shown != name and shown in reductions else shown
        titles = [f"{reduction.key or f'{name}_'}{number + 1}" for number in range(reduction.values.shape[1])]
        value: RVector = build.matrix(reduction.values, cells, titles)
        loadings, stdev = extras.loadings.get(name), extras.stdev.get(name)
        if loadings is not None:
            value.attributes["rotation"] = build.matrix(loadings, genes.ids, titles)
        if stdev is not None:
            value.attributes["varExplained"] = build.doubles(np.square(stdev))
        out[shown] = value
    return out
