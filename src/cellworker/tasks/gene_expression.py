"""GeneExpression: the values of some genes in every cell, with the statistics to scale them (contract 5.5)."""

import hashlib
from typing import Any

import msgspec
import numpy as np
import orjson
from msgspec import Struct, field
from numpy.typing import NDArray

from cellworker.analysis.statistics.expression import RowTexts, gather_picked, gene_statistics
from cellworker.analysis.text.number_text import floats_json, ints_json
from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.cell_sets import CellSets
from cellworker.experiment.id_sets import common
from cellworker.experiment.model import Experiment
from cellworker.native.heap import large_buffer
from cellworker.protocol.columns import ColumnTable, Numbers, Sparse, TypedColumn
from cellworker.protocol.validation import CellId
from cellworker.protocol.value_json import JsonText
from cellworker.tasks.common.table_frames import Tables
from cellworker.tasks.task import Context, PrepareInput, Task

__all__ = ["GENE_EXPRESSION"]

_CELLS_PER_BUCKET = 1000
_NUMBER_BYTES = 11
"""Of a log-normalised value as text, with its comma: hardly any is longer."""


class DownsampleSettings(Struct):
    """The cells that GeneExpression returns: given ones, or a sample of a class spread over the grouped classes."""

    selected_cell_set: str | None = field(name="selectedCellSet", default=None)
    grouped_tracks: list[str] = field(name="groupedTracks", default_factory=list)
    cell_ids: list[CellId] | None = field(name="cellIds", default=None)


class GeneExpressionBody(Struct):
    """GeneExpression."""

    genes: list[str]
    downsample_settings: DownsampleSettings | None = field(name="downsampleSettings", default=None)


class GeneExpressionRequest(Struct):
    """``runExpression``. With `cell_ids` None: every cell of the experiment."""

    genes: list[str] | str
    cell_ids: list[CellId] | CellId | None = field(name="cellIds", default=None)


def prepare(given: PrepareInput) -> GeneExpressionRequest:
    """Choose the cells: all, the given ones, or a sample of a class spread over its groups."""
    body: GeneExpressionBody = given.body
    settings = body.downsample_settings
    if settings is None:
        return GeneExpressionRequest(genes=body.genes)
    if settings.cell_ids is not None:
        return GeneExpressionRequest(genes=body.genes, cell_ids=settings.cell_ids)
    return GeneExpressionRequest(genes=body.genes, cell_ids=bucketed_sample(given.cell_sets, settings).tolist())


def samples_cells(body: GeneExpressionBody) -> bool:
    """Return whether the cells are to be sampled, the only case that reads the cell sets."""
    return body.downsample_settings is not None and body.downsample_settings.cell_ids is None


def bucketed_sample(cell_sets: CellSets, settings: DownsampleSettings) -> NDArray[np.int32]:
    """Return at most 1000 cells of every combination of groups, each cell once.

    Every grouped class in turn splits the cells of the selected class that passed quality control: those in the class
    ``louvain`` (sets derived from an experiment hold no others). Cells in none of a class's sets are a group of their
    own. The settings seed the sample, so the same request has the same answer.
    """
    if not settings.selected_cell_set:
        raise WorkerError(
            ErrorCode.INVALID_INPUT, "body.downsampleSettings.selectedCellSet: is required without cellIds."
        )
    cells = cell_sets.cells_of(settings.selected_cell_set, "body.downsampleSettings.selectedCellSet")
    survivors = None if cell_sets.derived else cell_sets.find_class("louvain")
    if survivors is not None:
        cells = common(cells, survivors.cell_ids())
    if not len(cells) or not settings.grouped_tracks:
        return np.empty(0, np.int32)
    buckets = [cells]
    for track in settings.grouped_tracks:
        found = cell_sets.find_class(track)
        if found is None:
            raise WorkerError(
                ErrorCode.INVALID_INPUT,
                f"body.downsampleSettings.groupedTracks: there is no class with the key {track!r}.",
            )
        split = []
        for bucket in buckets:
            rest = bucket
            for child in found.children:
                inside = np.isin(rest, child.cell_ids)
                split.append(rest[inside])
                rest = rest[~inside]
            split.append(rest)
        buckets = [bucket for bucket in split if len(bucket)]
    seed = int.from_bytes(hashlib.sha256(msgspec.json.encode(settings)).digest()[:16])
    random = np.random.default_rng(seed)
    return np.concatenate([np.sort(random.choice(b, min(len(b), _CELLS_PER_BUCKET), replace=False)) for b in buckets])


def compute(experiment: Experiment, request: GeneExpressionRequest, context: Context) -> JsonText:
    """Return statistics over all cells, and the values as compressed columns.

    Rows are cell ids, or positions in the request's `cell_ids` where those are given. An id that is not in the object
    (quality control removed the cell) is an empty row. The answer is encoded here, from the arrays, since the text is
    most of the work.

    Raises
    ------
    WorkerError
        ``R_WORKER_GENE_NOT_FOUND`` when the experiment has none of the genes.
    """
    genes = find_genes(experiment, [request.genes] if isinstance(request.genes, str) else request.genes)
    data = experiment.data
    statistics = gene_statistics(data.indptr, data.values, genes, data.n_cells)
    names = [experiment.genes.names[i] for i in genes.tolist()]
    ids = request.cell_ids
    n_values = int((data.indptr[genes + 1] - data.indptr[genes]).sum()) if ids is None else 0
    # The answer is built where it stays: the first touch of new memory costs more than to write numbers there.
    out = large_buffer(n_values * (_NUMBER_BYTES + len(str(experiment.max_cell_id)) + 1))
    out.write(b'{"orderedGeneNames":%b,"stats":%b,' % (orjson.dumps(names), statistics_json(statistics)))
    out.write(b'"rawExpression":{"values":')
    if ids is None:
        n_rows, echo = experiment.max_cell_id + 1, b"[]"
        texts = RowTexts(data.indptr, data.cells, data.values, genes, experiment.cell_ids, n_rows)
        ptr = texts.write_values(out)
        out.write(b',"index":')
        texts.write_rows(out)
    else:
        asked = np.array([ids] if isinstance(ids, int) else ids, np.int32)
        n_rows, echo = len(asked), ints_json(asked)
        columns = gather_picked(data.indptr, data.cells, data.values, genes, experiment.positions(asked), data.n_cells)
        ptr = columns.ptr
        out.write(floats_json(columns.values, context.threads))
        out.write(b',"index":%b' % ints_json(columns.rows, context.threads))
    pointers = orjson.dumps(ptr, option=orjson.OPT_SERIALIZE_NUMPY)
    out.write(b',"ptr":%b,"size":[%d,%d]},"cellIds":%b}' % (pointers, n_rows, len(names), echo))
    out.truncate()
    return JsonText(out.getvalue())


def columns(experiment: Experiment, request: GeneExpressionRequest, context: Context) -> ColumnTable:  # noqa: ARG001
    """Return a column for each gene by cell id, sparse where that is shorter. The facts hold the statistics.

    Genes whose names differ only by case have columns of their own. Chosen cells (`cell_ids`) come in their order.

    Raises
    ------
    WorkerError
        As `compute`.
    """
    genes = find_genes(experiment, [request.genes] if isinstance(request.genes, str) else request.genes)
    statistics = gene_statistics(experiment.data.indptr, experiment.data.values, genes, experiment.n_cells)
    stats = orjson.loads(statistics_json(statistics))
    rows = None
    if request.cell_ids is not None:
        ids = [request.cell_ids] if isinstance(request.cell_ids, int) else request.cell_ids
        rows = experiment.positions(np.array(ids, np.int32))
    found: dict[str, TypedColumn] = {}
    for gene in genes.tolist():
        found[experiment.genes.names[gene]] = _typed(experiment, gene, rows)
    return ColumnTable(found, {"byCell": rows is None, "stats": stats})


def _typed(experiment: Experiment, gene: int, rows: NDArray[np.int32] | None) -> TypedColumn:
    if rows is not None:
        return Numbers(np.where(rows >= 0, experiment.data.dense(gene)[np.maximum(rows, 0)], np.float32(0)))
    cells, values = experiment.data.gene(gene)
    length = experiment.max_cell_id + 1
    ids = experiment.cell_ids[cells]
    if 2 * len(cells) < length:  # 8 bytes for each value that is not 0, against 4 for each cell
        return Sparse(ids, values, length)
    out = np.zeros(length, np.float32)
    out[ids] = values
    return Numbers(out)


def find_genes(experiment: Experiment, names: list[str]) -> NDArray[np.int64]:
    """Return the positions of genes by display name, ignoring case: int64, ascending; unknown names are left out.

    Raises
    ------
    WorkerError
        ``R_WORKER_GENE_NOT_FOUND`` when none is known.
    """
    known = experiment.genes.by_upper_name
    found = {position for name in names for position in known.get(name.upper(), ())}
    if not found:
        raise WorkerError(ErrorCode.R_WORKER_GENE_NOT_FOUND, f"Gene(s): {', '.join(names)} not found!")
    return np.array(sorted(found), np.int64)


def statistics_json(statistics: Any) -> bytes:  # noqa: ANN401
    """Encode the statistics under the browser's field names."""
    return orjson.dumps(
        {
            "rawMean": statistics.mean,
            "rawStdev": statistics.deviation,
            "truncatedMin": statistics.minimum.astype(np.float32),
            "truncatedMax": statistics.cap.astype(np.float32),
        },
        option=orjson.OPT_SERIALIZE_NUMPY,
    )


def to_tables(result: dict[str, Any]) -> Tables:
    """Two tables: the genes with their statistics, and the values that are not zero."""
    names, stats, sparse = result["orderedGeneNames"], result["stats"], result["rawExpression"]
    rows, ids = sparse["index"], result["cellIds"]
    return {
        "genes": {
            "gene": names, "mean": stats["rawMean"], "standard_deviation": stats["rawStdev"],
            "minimum": stats["truncatedMin"], "maximum": stats["truncatedMax"],
        },
        "expression": {
            "gene": [name for i, name in enumerate(names) for _ in range(sparse["ptr"][i], sparse["ptr"][i + 1])],
            "cell_id": [ids[row] for row in rows] if ids else rows,
            "value": sparse["values"],
        },
    }  # fmt: skip


GENE_EXPRESSION = Task(
    name="GeneExpression",
    path="runExpression",
    about="expression of chosen genes in every cell, with their statistics",
    example=lambda parts: {"genes": parts.genes[:3]},
    body=GeneExpressionBody,
    request=GeneExpressionRequest,
    prepare=prepare,
    compute=compute,
    needs_cell_sets=True,
    cell_sets_only_if=samples_cells,
    columns=columns,
    bare=True,
    to_tables=to_tables,
)
