"""ScTypeAnnotate (contract 5.18): a cell type for every cluster, by ScType's marker genes."""

from collections import Counter
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from cellworker.analysis.annotation.marker_scores import (
    cluster_sums,
    marker_weights,
    one_row_per_symbol,
    scaled_cluster_sums,
    top_types,
)
from cellworker.analysis.statistics.groups import Sorted
from cellworker.analysis.statistics.variable_genes import gene_variability, joined_ranking
from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.model import CellMajor, Experiment
from cellworker.experiment.suitability import require, symbols
from cellworker.formats.common.marker_table import CellType, read_marker_table
from cellworker.tasks.common.annotated_class import (
    AnnotationBody,
    AnnotationRequest,
    class_tables,
    cluster_codes,
    labelled_sets,
    new_class,
    replace_class,
    requested_classes,
)
from cellworker.tasks.common.set_keys import time_uuid
from cellworker.tasks.common.subsets import cells_taken
from cellworker.tasks.common.table_frames import Tables
from cellworker.tasks.common.tables import collation_key
from cellworker.tasks.task import Context, PrepareInput, Task

__all__ = ["SCTYPE"]

_SPECIES = ("human", "mouse")
_UNKNOWN = "Unknown"
_STAGE = "Scoring cell types"
_ROWS_AT_A_TIME = 4096
_VARIABLE_GENES = 2000


class ScTypeRequest(AnnotationRequest):
    """``ScTypeAnnotate``."""


def prepare(given: PrepareInput) -> ScTypeRequest:
    """Send the clusters with their cells, and the names of the other classes, since one may be replaced."""
    body: AnnotationBody = given.body
    return ScTypeRequest(body.species, body.tissue, requested_classes(given.cell_sets))


def compute(experiment: Experiment, request: ScTypeRequest, context: Context) -> dict[str, Any]:
    """Return the class of cell types, in the order of their first cells; cells outside every cluster are left out.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` for an unknown species or tissue, without clusters, without a table of markers, or when the
        experiment has none of the tissue's markers; ``R_WORKER_NO_GENE_SYMBOLS`` when the genes have ids only.
    """
    if request.species not in _SPECIES:
        message = f"species: {request.species!r} is not known; known are {' and '.join(_SPECIES)}."
        raise WorkerError(ErrorCode.INVALID_INPUT, message)
    require(symbols(experiment))
    clusters = cluster_codes(experiment, request.cell_sets)
    context.progress("Reading the table of marker genes")
    table = read_marker_table(context.marker_table())
    if request.tissue not in table:
        message = f"tissue: {request.tissue!r} is not known; known are {', '.join(table)}."
        raise WorkerError(ErrorCode.INVALID_INPUT, message)
    codes, names = _types(experiment, clusters, table[request.tissue], request.tissue, context)
    name = f"ScType-{request.tissue}-{request.species}"
    children = labelled_sets(experiment, codes, names, lambda label: time_uuid())  # noqa: ARG005
    return new_class(name, children, request.cell_sets)


def _types(
    experiment: Experiment, clusters: NDArray[np.int64], cell_types: list[CellType], tissue: str, context: Context
) -> tuple[NDArray[np.int64], list[str]]:
    """Return each cell's type, -1 for none, and the types' names, the last of which is "Unknown"."""
    original = context.like_original
    genes = _scaled_genes(experiment, context)
    symbols = [experiment.genes.original_names[gene] for gene in genes.tolist()]
    if not original:  # the original converts symbols to upper case only after it chooses among equal ones
        symbols = [symbol.upper() for symbol in symbols]
    kept = one_row_per_symbol(symbols, _means(experiment, genes, symbols, original=original), original=original)
    weights = marker_weights(
        [symbols[row].upper() for row in kept.tolist()],
        [item.positive for item in cell_types],
        [item.negative for item in cell_types],
    )
    if not len(weights.types):
        message = f"tissue: none of the marker genes of {tissue!r} is among the scaled genes; choose another tissue."
        raise WorkerError(ErrorCode.INVALID_INPUT, message)
    sums, sizes = _sums(experiment, genes, kept[weights.rows], clusters, context)
    best = top_types(weights.scores(sums), sizes)
    names = list(dict.fromkeys(item.name for item in cell_types if item.name != _UNKNOWN))
    # Types of the same name are one label; an "Unknown" of the table is the same as ours.
    number = {name: i for i, name in enumerate([*names, _UNKNOWN])}
    of_cluster = [number[_UNKNOWN if k < 0 else cell_types[int(weights.types[k])].name] for k in best.tolist()]
    labels = np.array([*of_cluster, -1], np.int64)  # the code -1 selects the last
    return labels[clusters], [*names, _UNKNOWN]


def _scaled_genes(experiment: Experiment, context: Context) -> NDArray[np.int64]:
    """Return the genes with scaled values, ascending: those of the file, or else the most variable ones.

    As in the original, with Seurat's defaults: `FindVariableFeatures` uses the counts, or, where there are none, the
    normalised values. Where the file splits the counts into layers, each layer counts by itself.
    """
    if experiment.scaled is not None:
        return experiment.scaled.genes.astype(np.int64)
    if experiment.n_cells < 2:
        raise WorkerError(ErrorCode.INVALID_INPUT, "cell types: one cell cannot be scaled; two are needed at least.")
    matrix = experiment.data_by_cell if experiment.counts is None else experiment.counts
    rankings = [_most_variable(part, context) for part in _parts(experiment, matrix)]
    if len(rankings) == 1:
        return np.sort(rankings[0])
    return np.sort(joined_ranking(rankings, _places(experiment), _measured_everywhere(experiment), _VARIABLE_GENES))


def _parts(experiment: Experiment, matrix: CellMajor) -> list[CellMajor]:
    """Return the layers of the counts that have two cells or more; where the file has no layers, the whole matrix."""
    layers = experiment.origin.count_layers
    if layers is None or experiment.counts is None:
        return [matrix]
    by_cell = layers.by_cell()
    rows = [np.flatnonzero(by_cell == layer) for layer in range(int(by_cell.max()) + 1)]
    return [cells_taken(matrix, cells) for cells in rows if len(cells) > 1] or [matrix]


def _most_variable(matrix: CellMajor, context: Context) -> NDArray[np.int64]:
    def tell(fraction: float) -> None:
        context.progress("Choosing variable genes", fraction)

    variability = gene_variability(
        matrix.genes, matrix.values, n_cells=matrix.n_cells, n_genes=matrix.n_genes, threads=context.threads,
        progress=tell,
    )  # fmt: skip
    return variability.top(_VARIABLE_GENES)


def _places(experiment: Experiment) -> NDArray[np.int64]:
    """Return the rank of each gene by name, in R's order."""
    ids = experiment.genes.ids
    places = np.empty(len(ids), np.int64)
    places[sorted(range(len(ids)), key=lambda gene: collation_key(ids[gene]))] = np.arange(len(ids))
    return places


def _measured_everywhere(experiment: Experiment) -> NDArray[np.bool_]:
    layers = experiment.origin.count_layers
    everywhere = np.ones(len(experiment.genes), bool)
    everywhere[layers.not_in_all if layers is not None else []] = False
    return everywhere


def _means(
    experiment: Experiment, genes: NDArray[np.int64], symbols: list[str], *, original: bool
) -> NDArray[np.float64]:
    """Return the number that decides between rows of the same symbol, float64 ``(k,)``.

    It is the mean of the normalised values, and 0 for symbols that occur once, which need no choice. The original takes
    the mean of the scaled values, which is 0 except for rounding and clipping.
    """
    if original and experiment.scaled is not None:
        total, values = np.zeros(len(genes)), experiment.scaled.values
        for start in range(0, len(values), _ROWS_AT_A_TIME):
            total += np.nansum(values[start : start + _ROWS_AT_A_TIME], axis=0, dtype=np.float64)
        return total / max(1, len(values))
    if original:
        everyone = np.zeros(experiment.n_cells, np.int64)
        return np.asarray(scaled_cluster_sums(_by_gene(experiment), genes, everyone, 1)[0] / experiment.n_cells)
    times = Counter(symbols)
    means = np.zeros(len(genes))
    for i, (gene, symbol) in enumerate(zip(genes.tolist(), symbols, strict=True)):
        if times[symbol] > 1:
            means[i] = experiment.data.gene(gene)[1].sum(dtype=np.float64) / experiment.n_cells
    return means


def _by_gene(experiment: Experiment) -> Sorted:
    return experiment.data.indptr, experiment.data.cells, experiment.data.values


def _sums(
    experiment: Experiment,
    genes: NDArray[np.int64],
    rows: NDArray[np.int64],
    clusters: NDArray[np.int64],
    context: Context,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Sum the scaled expression of the markers over each cluster, and count the cells that have any.

    Where the experiment has no scaled values, this computes those of the markers.
    """
    n_clusters = int(clusters.max()) + 1

    def tell(fraction: float) -> None:
        context.progress(_STAGE, fraction)

    if experiment.scaled is not None:
        return cluster_sums(experiment.scaled.values, rows, clusters, n_clusters, tell)
    sums = scaled_cluster_sums(_by_gene(experiment), genes[rows], clusters, n_clusters, tell)
    return sums, np.bincount(clusters[clusters >= 0], minlength=n_clusters)


def patch(data: bytes) -> list[dict[str, Any]]:
    """Return the operations that put the class last and remove earlier ones of its name."""
    return replace_class(orjson.loads(data), "$append")


def to_tables(result: dict[str, Any]) -> Tables:
    """One table: the cells with their types."""
    return class_tables(result, "cell_type")


SCTYPE = Task(
    name="ScTypeAnnotate",
    path="ScTypeAnnotate",
    about="cell types from marker tables",
    example=lambda _: {"species": "human", "tissue": "Immune system"},
    body=AnnotationBody,
    request=ScTypeRequest,
    prepare=prepare,
    compute=compute,
    lane="long",
    cacheable=False,
    needs_cell_sets=True,
    patch=patch,
    to_tables=to_tables,
)
