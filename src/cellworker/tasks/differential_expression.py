"""DifferentialExpression and BatchDifferentialExpression (contract 5.3, 5.4).

*within*: a rank test of every cell of one set against every cell of another. *between*: sums counts per sample, then
fits a linear model to the samples. The batch makes all its comparisons in one pass over the data.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import orjson
from msgspec import Meta, Raw, Struct, field
from numpy.typing import NDArray

from cellworker.analysis.statistics.pseudobulk import two_group_test
from cellworker.analysis.statistics.rank_tests import GroupTests, pair_tests
from cellworker.analysis.statistics.sums import group_sums
from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.bitmaps import CellTotal
from cellworker.experiment.comparisons import EmptySideError, resolve_comparison
from cellworker.experiment.model import Experiment
from cellworker.experiment.suitability import comparable_samples, require, sampled
from cellworker.protocol.columns import ColumnTable, Numbers, Texts, TypedColumn
from cellworker.protocol.pagination import Pagination
from cellworker.protocol.validation import Text, convert
from cellworker.tasks.common.compared_cells import ComparisonCells, check_values, compared_rows
from cellworker.tasks.common.examples import comparison_example
from cellworker.tasks.common.result_table import adjusted_column, log_columns, p_column, page_of, whole, with_logs
from cellworker.tasks.common.sampling import like_the_original
from cellworker.tasks.common.sent_cells import sent_cells, sent_later
from cellworker.tasks.common.table_frames import Tables
from cellworker.tasks.common.tables import TableColumn, ordered_rows, take
from cellworker.tasks.task import Context, PrepareInput, Task

__all__ = ["BATCH_DIFFERENTIAL_EXPRESSION", "DIFFERENTIAL_EXPRESSION"]

_ORIGINAL_CAP = 10_000
_MIN_CELLS_PER_SAMPLE = 10
_SHARED_PASS = 0.9  # share of a batch's work; the tables are the rest
_NO_DATA = "No data available for this comparison"

Columns = dict[str, TableColumn]
Rows = tuple[NDArray[np.int32], NDArray[np.int32]]
"""Row numbers of the cells of the first set, and of the cells compared with them."""


class DifferentialExpressionBody(Struct):
    """DifferentialExpression: two sets, compared within all samples or between samples."""

    cell_set: Text = field(name="cellSet")
    compare_with: Text = field(name="compareWith")
    basis: str | None = None
    comparison_type: Literal["within", "between"] = field(name="comparisonType", default="within")
    genes_only: bool = field(name="genesOnly", default=False)


class BatchDifferentialExpressionBody(Struct):
    """BatchDifferentialExpression: several sets or several bases."""

    cell_set: Annotated[list[Text], Meta(min_length=1)] = field(name="cellSet")
    compare_with: Text = field(name="compareWith")
    basis: Annotated[list[str], Meta(min_length=1)]
    comparison_type: Literal["within", "between"] = field(name="comparisonType", default="within")


class DifferentialExpressionRequest(ComparisonCells):
    """``DifferentialExpression``."""

    genes_only: bool = field(name="genesOnly", default=False)
    comparison_type: Literal["within", "between"] = field(name="comparisonType", default="within")
    pagination: Pagination | None = None


class BatchDifferentialExpressionRequest(Struct):
    """``BatchDifferentialExpression``, which the original lacks. None stands for a comparison without cells."""

    comparisons: list[ComparisonCells | None]
    comparison_type: Literal["within", "between"] = field(name="comparisonType", default="within")


def prepare(given: PrepareInput) -> DifferentialExpressionRequest:
    """Turn keys into cells."""
    body: DifferentialExpressionBody = given.body
    cells = resolve_comparison(
        given.cell_sets, cell_set=body.cell_set, compare_with=body.compare_with, basis=body.basis
    )
    pagination = None if given.pagination is None else convert(given.pagination, Pagination, "requestProps.pagination")
    return DifferentialExpressionRequest(
        base_cells=sent_later(cells.base),
        background_cells=sent_later(cells.background),
        genes_only=body.genes_only,
        comparison_type=body.comparison_type,
        pagination=pagination,
    )


def prepare_batch(given: PrepareInput) -> BatchDifferentialExpressionRequest:
    """Make one comparison per basis, or, with a single basis, one per cell set."""
    body: BatchDifferentialExpressionBody = given.body
    pairs = (
        [(s, body.basis[0]) for s in body.cell_set]
        if len(body.basis) == 1
        else [(body.cell_set[0], b) for b in body.basis]
    )
    comparisons: list[ComparisonCells | None] = []
    total = CellTotal("body")
    for cell_set, basis in pairs:
        try:
            cells = resolve_comparison(given.cell_sets, cell_set=cell_set, compare_with=body.compare_with, basis=basis)
        except EmptySideError:
            comparisons.append(None)
        else:
            total.add(len(cells.base) + len(cells.background))
            comparisons.append(ComparisonCells(sent_cells(cells.base), sent_cells(cells.background)))
    return BatchDifferentialExpressionRequest(comparisons, body.comparison_type)


def compute(experiment: Experiment, request: DifferentialExpressionRequest, context: Context) -> dict[str, Any]:
    """Test, and return the requested page."""
    found = _tested(experiment, request, context)
    if request.pagination is None:
        return whole(found)
    return page_of(found, request.pagination, genes_only=request.genes_only)


def columns(experiment: Experiment, request: DifferentialExpressionRequest, context: Context) -> ColumnTable:
    """Test, and return the table, or the page, as typed columns."""
    found = compute(experiment, request, context)
    return ColumnTable(_typed(found["gene_results"]), {"byCell": False, "total": found["full_count"]})


def _typed(table: Mapping[str, Any]) -> dict[str, TypedColumn]:
    return {name: Numbers(own) if isinstance(own, np.ndarray) else Texts(list(own)) for name, own in table.items()}


def _tested(experiment: Experiment, request: DifferentialExpressionRequest, context: Context) -> Columns:
    rows = compared_rows(experiment, request.base_cells, request.background_cells)
    if request.comparison_type == "between":
        return _between(experiment, *rows, context)
    tests = _within(experiment, [rows], context, lambda done: context.progress("Comparing the two cell sets", done))
    return _within_columns(experiment, tests[0], context)


def compute_batch(
    experiment: Experiment, request: BatchDifferentialExpressionRequest, context: Context
) -> list[dict[str, Any]]:
    """Return all comparisons, in the request's order; `gene_results` is None for one without enough cells."""
    wanted = [None if pair is None else _rows(experiment, pair) for pair in request.comparisons]
    tables: list[Columns | None] = [None] * len(wanted)
    present = [(i, rows) for i, rows in enumerate(wanted) if rows is not None]
    if request.comparison_type == "within":
        n = len(present)
        stage = f"Comparing {n} {'pair' if n == 1 else 'pairs'} of cell sets"
        together = _within(
            experiment, [rows for _, rows in present], context,
            lambda done: context.progress(stage, _SHARED_PASS * done),
        )  # fmt: skip
        for done, ((i, _), tests) in enumerate(zip(present, together, strict=True), start=1):
            tables[i] = _within_columns(experiment, tests, context)
            context.progress(f"Comparison {done} of {n}", _SHARED_PASS + (1 - _SHARED_PASS) * done / n)
    else:
        for done, (i, rows) in enumerate(present):
            context.progress(f"Comparison {done + 1} of {len(present)}", done / len(present))
            try:
                tables[i] = _between(experiment, *rows, context)
            except WorkerError as error:
                if error.code is not ErrorCode.DESIGN_NOT_TESTABLE:
                    raise
    return [whole(columns) if columns is not None else {"gene_results": None, "full_count": 0} for columns in tables]


def columns_batch(experiment: Experiment, request: BatchDifferentialExpressionRequest, context: Context) -> ColumnTable:
    """Return all tables as typed columns; the columns of comparison `i` are named ``i/p_val`` and so on.

    Gene names equal to those of the first table are only in that table. The fact ``totals`` is the number of rows of
    each table, None for a comparison without enough cells.
    """
    found = [item["gene_results"] for item in compute_batch(experiment, request, context)]
    first: Mapping[str, Any] = next((table for table in found if table is not None), {})
    typed: dict[str, TypedColumn] = {}
    for i, table in enumerate(found):
        columns = (table or {}).items()
        own = {name: column for name, column in columns if table is first or column is not first.get(name)}
        typed |= {f"{i}/{name}": column for name, column in _typed(own).items()}
    totals = [None if table is None else len(table["Gene"]) for table in found]
    return ColumnTable(typed, {"byCell": False, "totals": totals})


def _rows(experiment: Experiment, pair: ComparisonCells) -> Rows | None:
    try:
        return compared_rows(experiment, pair.base_cells, pair.background_cells)
    except EmptySideError:
        return None


def _within(
    experiment: Experiment, pairs: list[Rows], context: Context, on_progress: Callable[[float], None]
) -> list[GroupTests]:
    if not pairs:
        return []
    check_values(experiment)
    comparisons = []
    for base, background in pairs:
        if context.like_original:
            drawn = like_the_original([background, base], _ORIGINAL_CAP)
            comparisons.append((drawn[1], drawn[0]))
        else:
            comparisons.append((base, background))
    data = experiment.data
    return pair_tests(
        (data.indptr, data.cells, data.values), comparisons, experiment.n_cells, original=context.like_original,
        threads=context.threads, on_progress=on_progress,
    )  # fmt: skip


def _within_columns(experiment: Experiment, tests: GroupTests, context: Context) -> Columns:
    p_values = tests.p_values.take(0)
    columns: Columns = {
        "p_val": p_column(p_values),
        "logFC": tests.log_fold_change[0],
        "pct_1": tests.fraction_in[0],
        "pct_2": tests.fraction_out[0],
        "p_val_adj": adjusted_column(p_values),
        "auc": tests.auc[0],
        "gene_names": experiment.genes.names,
        "Gene": experiment.genes.ids,
    }
    return columns | log_columns(p_values) if context.own_tables else columns


def _between(
    experiment: Experiment, base: NDArray[np.int32], background: NDArray[np.int32], context: Context
) -> Columns:
    require(comparable_samples(experiment))
    require(sampled(experiment))
    counts, samples = experiment.counts, experiment.samples
    assert counts is not None
    assert samples is not None
    rows = np.union1d(base, background)
    in_base = np.isin(rows, base)
    column, sample = samples[0], samples[1].codes[rows]
    rows, in_base, sample = rows[sample >= 0], in_base[sample >= 0], sample[sample >= 0]
    kept = np.flatnonzero(np.bincount(sample) >= _MIN_CELLS_PER_SAMPLE) if len(sample) else np.empty(0, np.int64)
    inside = np.isin(sample, kept)
    rows, in_base, sample = rows[inside], in_base[inside], sample[inside]
    present, first = np.unique(sample, return_index=True)
    present = present[np.argsort(first)]  # the order of first appearance, as in R, decides only the last digits
    first = np.sort(first)
    group = in_base[first]
    if not len(group) or group.all() or not group.any():
        raise _not_testable(column, _why_one_sided(group, in_base, sample), "per sample")
    number = np.empty(int(present.max()) + 1, np.int64)
    number[present] = np.arange(len(present))
    sums = group_sums(
        counts.indptr,
        counts.genes,
        counts.values,
        rows,
        number[sample],
        n_groups=len(present),
        n_genes=len(experiment.genes),
        threads=context.threads,
    )
    try:
        result = two_group_test(sums.T.copy(), group, original=context.like_original)
    except ValueError as error:
        raise _not_testable(column, str(error), "or samples") from None
    names: Columns = {"gene_names": experiment.genes.names, "Gene": experiment.genes.ids}
    columns: Columns = {"logFC": result.log_fold_change, "AveExpr": result.average}
    if result.p_values is None:
        order = ordered_rows(np.abs(result.log_fold_change), descending=True)
        columns |= names
    else:
        ranked = p_column(result.p_values)
        order = ordered_rows(ranked)
        columns = {"p_val": ranked, **columns, "p_val_adj": adjusted_column(result.p_values), **names}
        if context.own_tables:
            columns |= log_columns(result.p_values)
    return {name: take(column, order) for name, column in columns.items()}


def _why_one_sided(group: NDArray[np.bool_], in_base: NDArray[np.bool_], sample: NDArray[np.int32]) -> str:
    if np.intersect1d(sample[in_base], sample[~in_base]).size:
        return "both sets have cells in the same samples, and a sample can be on one side only"
    side = "neither set" if not len(group) else "the second set" if group.all() else "the first set"
    has = "has" if side == "neither set" else "does not have"
    return f"{side} {has} a sample with at least {_MIN_CELLS_PER_SAMPLE} of its cells"


def _not_testable(column: str, reason: str, more: str) -> WorkerError:
    return WorkerError(
        ErrorCode.DESIGN_NOT_TESTABLE,
        f"Samples (column {column}) cannot be compared: {reason}. Choose sets with more cells {more}, or compare the "
        "cells themselves (comparison within samples).",
    )


class _Answer(Struct):
    """The engine's value; the text of the table is passed on as it is."""

    full_count: int
    gene_results: Raw

    def to_wire(self) -> dict[str, Any]:
        """Return the shape that the UI reads; the UI writes the message into the file of a comparison without data."""
        table = bytes(self.gene_results)
        return {"total": self.full_count, "data": _NO_DATA if table == b"null" else orjson.Fragment(table)}


def finish(data: bytes) -> bytes:
    """Convert the answer to the shape that the UI reads."""
    return orjson.dumps(msgspec.json.decode(data, type=_Answer).to_wire())


def finish_batch(data: bytes) -> bytes:
    """Return one answer per comparison."""
    return orjson.dumps([item.to_wire() for item in msgspec.json.decode(data, type=list[_Answer])])


def to_tables(result: Any) -> Tables:  # noqa: ANN401
    """One table: a row per gene."""
    return {"genes": with_logs(result["data"])}


def to_tables_batch(result: Any) -> Tables:  # noqa: ANN401
    """One table per comparison that has one, numbered from 1."""
    return {
        f"comparison_{i}": with_logs(item["data"]) for i, item in enumerate(result, start=1) if item["data"] != _NO_DATA
    }


DIFFERENTIAL_EXPRESSION = Task(
    name="DifferentialExpression",
    path="DifferentialExpression",
    about="genes that differ between two groups of cells",
    example=comparison_example,
    body=DifferentialExpressionBody,
    request=DifferentialExpressionRequest,
    prepare=prepare,
    compute=compute,
    columns=columns,
    finish=finish,
    lane="long",
    needs_cell_sets=True,
    to_tables=to_tables,
)

BATCH_DIFFERENTIAL_EXPRESSION = Task(
    name="BatchDifferentialExpression",
    path="BatchDifferentialExpression",
    about="the same for many pairs of groups at once",
    example=lambda parts: {
        **comparison_example(parts),
        "cellSet": parts.clusters[:2] or [parts.first_cluster],
        "basis": ["all"],
    },
    body=BatchDifferentialExpressionBody,
    request=BatchDifferentialExpressionRequest,
    prepare=prepare_batch,
    compute=compute_batch,
    columns=columns_batch,
    finish=finish_batch,
    lane="long",
    needs_cell_sets=True,
    to_tables=to_tables_batch,
)
