"""CASSIAAnnotate (contract 5.19): a language model names clusters by markers, at up to three levels of detail."""

from typing import Any

import numpy as np
import orjson
from msgspec import field
from numpy.typing import NDArray

from cellworker.analysis.annotation.cluster_markers import MarkerTable, marker_table
from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.model import Experiment
from cellworker.tasks.common.annotated_class import (
    AnnotationBody,
    AnnotationRequest,
    cluster_codes,
    labelled_sets,
    new_class,
    replace_class,
    requested_classes,
)
from cellworker.tasks.common.compared_cells import check_values
from cellworker.tasks.common.sampling import like_the_original
from cellworker.tasks.common.set_keys import time_uuid
from cellworker.tasks.common.table_frames import Tables
from cellworker.tasks.context import ClusterQuestion
from cellworker.tasks.task import Context, PrepareInput, Task

__all__ = ["CASSIA"]

_ORIGINAL_CAP, _ORIGINAL_SEED = 1000, 42
_UNKNOWN = "Unknown"


class CassiaRequest(AnnotationRequest):
    """``CASSIAAnnotate``."""

    additional_info: str | None = field(name="additionalInfo", default=None)


def prepare(given: PrepareInput) -> CassiaRequest:
    """Send the user's words, the clusters with their cells, and the names of the other classes."""
    body: AnnotationBody = given.body
    for name, text, example in (("species", body.species, "Human"), ("tissue", body.tissue, "Peripheral blood")):
        if not text.strip():
            raise WorkerError(ErrorCode.INVALID_INPUT, f"body.{name}: expected words, such as {example!r}.")
    return CassiaRequest(body.species, body.tissue, requested_classes(given.cell_sets), body.additional_info)


def compute(experiment: Experiment, request: CassiaRequest, context: Context) -> list[dict[str, Any]]:
    """Return one class of cell types for each level of detail, coarse ones first.

    Cells outside every cluster are left out. Clusters without marker genes, or without an answer of the model, are
    "Unknown".

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` with fewer than two clusters, ``R_WORKER_CASSIA_ERROR`` when the model cannot be asked, or no
        cluster has markers.
    """
    context.progress("Preparing clusters")
    check_values(experiment)
    codes = _by_first_cell(cluster_codes(experiment, request.cell_sets))
    n_clusters = int(codes.max()) + 1
    if n_clusters < 2:
        message = "Clusters are told apart by their marker genes, and there is only one: cluster more finely."
        raise WorkerError(ErrorCode.INVALID_INPUT, message)
    context.progress("Computing marker genes")
    table = _markers(experiment, codes, context)
    if not len(table.gene):
        message = "No gene marks any of the clusters, so there is nothing to ask the language model."
        raise WorkerError(ErrorCode.R_WORKER_CASSIA_ERROR, message)
    groupings = context.annotate(_question(experiment, request, table), context.progress, context.scratch)
    context.progress("Saving annotated cell sets")
    return [
        _class(
            experiment, f"CASSIA-{level}", codes, [grouping.get(k + 1, _UNKNOWN) for k in range(n_clusters)], request
        )
        for level, grouping in enumerate(groupings, 1)
    ]


def _by_first_cell(codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the codes with the clusters numbered in the order of their first cells."""
    present, first = np.unique(codes, return_index=True)
    numbers = np.full(len(present), -1, np.int64)
    clusters = np.flatnonzero(present >= 0)
    numbers[clusters[np.argsort(first[clusters])]] = np.arange(len(clusters))
    return np.asarray(numbers[np.searchsorted(present, codes)])


def _markers(experiment: Experiment, codes: NDArray[np.int64], context: Context) -> MarkerTable:
    groups = [np.flatnonzero(codes == k).astype(np.int32) for k in (*range(int(codes.max()) + 1), -1)]
    if context.like_original:
        groups = like_the_original(groups, _ORIGINAL_CAP, seed=_ORIGINAL_SEED)
    data = experiment.data
    return marker_table(
        (data.indptr, data.cells, data.values), groups[:-1], groups[-1], experiment.n_cells,
        original=context.like_original, threads=context.threads,
        on_progress=lambda _: context.progress("Computing marker genes"),
    )  # fmt: skip


def _question(experiment: Experiment, request: CassiaRequest, table: MarkerTable) -> ClusterQuestion:
    symbols, ids = experiment.genes.original_names, experiment.genes.ids
    return ClusterQuestion(
        species=request.species.strip(),
        tissue=request.tissue.strip(),
        additional_info=request.additional_info,
        n_clusters=len(np.unique(table.cluster)),
        markers={
            "p_val": table.p_values.values.tolist(),
            "avg_log2FC": table.log2_fold_change.tolist(),
            "pct.1": table.fraction_in.tolist(),
            "pct.2": table.fraction_out.tolist(),
            "p_val_adj": table.p_values.times(table.n_genes).values.tolist(),
            "cluster": (table.cluster + 1).tolist(),
            "gene": [symbols[gene] or ids[gene] for gene in table.gene.tolist()],
        },
    )


def _class(
    experiment: Experiment, name: str, codes: NDArray[np.int64], labels: list[str], request: CassiaRequest
) -> dict[str, Any]:
    names = list(dict.fromkeys(labels))
    label_of = np.array([*(names.index(label) for label in labels), -1], np.int64)  # the code -1 selects the last
    children = labelled_sets(experiment, label_of[codes], names, lambda label: time_uuid())  # noqa: ARG005
    return new_class(name, children, request.cell_sets)


def patch(data: bytes) -> list[dict[str, Any]]:
    """Return the operations that put the classes last and remove earlier ones of the same names."""
    return [operation for new in orjson.loads(data) for operation in replace_class(new, "$append")]


def to_tables(result: list[dict[str, Any]]) -> Tables:
    """One table: the cells with their types, a column for each level of detail."""
    labels = [{cell: child["name"] for child in item["children"] for cell in child["cellIds"]} for item in result]
    cells = list(labels[0]) if labels else []
    columns = {item["name"]: [of[cell] for cell in cells] for item, of in zip(result, labels, strict=True)}
    return {"cells": {"cell_id": cells, **columns}}


CASSIA = Task(
    name="CASSIAAnnotate",
    path="CASSIAAnnotate",
    about="cell types from a language model",
    example=lambda _: {"species": "Human", "tissue": "Peripheral blood"},
    body=AnnotationBody,
    request=CassiaRequest,
    prepare=prepare,
    compute=compute,
    lane="long",
    cacheable=False,
    needs_cell_sets=True,
    patch=patch,
    to_tables=to_tables,
)
