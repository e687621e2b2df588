"""GetNormalizedExpression: the normalised matrix as a CSV file to download (contract 5.17)."""

import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from msgspec import Struct, field
from numpy.typing import NDArray

from cellworker.analysis.text.csv_text import CsvRows
from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.bitmaps import CellTotal
from cellworker.experiment.id_sets import common
from cellworker.experiment.model import Experiment
from cellworker.formats.r.gzip_blocks import Content, write_gzip
from cellworker.protocol.validation import CellId
from cellworker.tasks.task import Context, PrepareInput, Task

__all__ = ["NORMALIZED_EXPRESSION"]

_BLOCK_BYTES = 4 << 20
_STAGE = "Writing the normalised expression matrix"


class NormalizedExpressionBody(Struct):
    """GetNormalizedExpression: keys of cell sets by category; categories may have any names."""

    subset_by: dict[str, list[str] | None] | None = field(name="subsetBy", default=None)


class NormalizedExpressionRequest(Struct):
    """``GetNormalizedExpression``. With `subset_by` None or `apply_subset` false: the whole matrix."""

    subset_by: list[CellId] | CellId | None = field(name="subsetBy", default=None)
    apply_subset: bool = field(name="applySubset", default=False)


def prepare(given: PrepareInput) -> NormalizedExpressionRequest:
    """Choose the cells: in at least one named set of each category, and in all categories.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` naming an unknown key, ``R_WORKER_EMPTY_CELL_SET`` when no cell is in all categories.
    """
    body: NormalizedExpressionBody = given.body
    chosen: NDArray[np.int32] | None = None
    total = CellTotal("body.subsetBy")
    for category, keys in (body.subset_by or {}).items():
        if not keys:
            continue
        listed = given.cell_sets.cells_of_all(keys, f"body.subsetBy.{category}", total)
        chosen = listed if chosen is None else common(chosen, listed)
    if chosen is None:
        return NormalizedExpressionRequest(subset_by=None, apply_subset=False)
    if not len(chosen):
        raise _no_cells()
    return NormalizedExpressionRequest(subset_by=chosen.tolist(), apply_subset=True)


def compute(experiment: Experiment, request: NormalizedExpressionRequest, context: Context) -> Path:
    """Write the matrix, genes x cells, in the object's order, and return the file's path.

    All threads format and compress the text block by block; memory does not grow with the matrix.

    Raises
    ------
    WorkerError
        ``R_WORKER_EMPTY_CELL_SET`` when none of the cells is in the object.
    """
    chosen = np.ones(experiment.n_cells, bool)
    if request.apply_subset:
        asked = [request.subset_by] if isinstance(request.subset_by, int) else request.subset_by or []
        positions = experiment.positions(np.array(asked, np.int64))
        chosen[:] = False
        chosen[positions[positions >= 0]] = True
    columns = np.flatnonzero(chosen)
    if not len(columns):
        raise _no_cells()
    column_of_cell = np.full(experiment.n_cells, -1, np.int32)
    column_of_cell[columns] = np.arange(len(columns), dtype=np.int32)
    data, barcodes = experiment.data, experiment.barcodes
    rows = CsvRows(data.indptr, data.cells, data.values, experiment.genes.ids, column_of_cell, len(columns))
    header = (", ," + ",".join(barcodes[i] for i in columns.tolist()) + "\n").encode()
    ranges = rows.blocks(_BLOCK_BYTES)
    blocks: list[Callable[[], Content]] = [lambda: header, *(partial(rows.text, first, last) for first, last in ranges)]
    path = context.scratch / f"NormalizedExpression-{uuid.uuid4().hex}.csv.gz"
    context.progress(_STAGE, 0.0)

    def report(done: int) -> None:
        context.progress(_STAGE, done / len(blocks))

    write_gzip(path, blocks, threads=context.threads, on_block=report)
    return path


def _no_cells() -> WorkerError:
    return WorkerError(ErrorCode.R_WORKER_EMPTY_CELL_SET, "No cells match requested filters.")


NORMALIZED_EXPRESSION = Task(
    name="GetNormalizedExpression",
    path="GetNormalizedExpression",
    about="the normalised matrix, or a part of it, as a CSV file",
    example=lambda parts: {"subsetBy": {"sample": parts.samples[:1], parts.cell_class: parts.clusters[:1]}},
    body=NormalizedExpressionBody,
    request=NormalizedExpressionRequest,
    prepare=prepare,
    compute=compute,
    lane="long",
    needs_cell_sets=True,
    file_name=lambda _: "NormalizedExpression.csv.gz",
)
