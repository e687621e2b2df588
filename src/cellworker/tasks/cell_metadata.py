"""GetDoubletScore, GetMitochondrialContent, GetNGenes, GetNUmis: one number per cell (contract 5.9 to 5.12)."""

import numpy as np
import orjson
from msgspec import Struct
from numpy.typing import NDArray

from cellworker.analysis.text.number_text import floats_json
from cellworker.experiment.model import Experiment
from cellworker.experiment.suitability import measured, measured_column, require
from cellworker.protocol.columns import ColumnTable, Numbers
from cellworker.tasks.common.table_frames import Tables
from cellworker.tasks.task import Context, PrepareInput, Task

__all__ = ["DOUBLET_SCORE", "MITOCHONDRIAL_CONTENT", "N_GENES", "N_UMIS"]


class MetadataBody(Struct):
    """GetDoubletScore, GetMitochondrialContent, GetNGenes, GetNUmis: no fields."""


class MetadataRequest(Struct):
    """``getDoubletScore`` and its three siblings: no fields."""


def prepare(given: PrepareInput) -> MetadataRequest:  # noqa: ARG001
    """Return an empty request: these requests have no fields."""
    return MetadataRequest()


def by_cell(experiment: Experiment, column: str, *, log10: bool) -> orjson.Fragment:
    """Return a column as JSON: a vector by cell id, ``null`` for removed cells and for cells without a number.

    Raises
    ------
    WorkerError
        ``R_WORKER_COLUMN_NOT_FOUND`` when the experiment has no such column of numbers.
    """
    return orjson.Fragment(floats_json(_values(experiment, column, log10=log10)))


def _values(experiment: Experiment, column: str, *, log10: bool) -> NDArray[np.float32]:
    values = find_column(experiment, column).astype(np.float64)
    if log10:
        with np.errstate(divide="ignore", invalid="ignore"):
            values = np.log10(values)
    return experiment.by_cell_id(values).astype(np.float32)


def find_column(experiment: Experiment, column: str) -> NDArray[np.float64]:
    """Return a numeric column, see `measured_column`.

    Raises
    ------
    WorkerError
        ``R_WORKER_COLUMN_NOT_FOUND``.
    """
    require(measured(experiment, column=column))
    found = measured_column(experiment, column)
    assert found is not None
    return found


def _task(name: str, path: str, about: str, column: str, *, log10: bool = False) -> Task:
    def compute(experiment: Experiment, request: MetadataRequest, context: Context) -> orjson.Fragment:  # noqa: ARG001
        return by_cell(experiment, column, log10=log10)

    def columns(experiment: Experiment, request: MetadataRequest, context: Context) -> ColumnTable:  # noqa: ARG001
        return ColumnTable({"value": Numbers(_values(experiment, column, log10=log10))}, {"byCell": True})

    def to_tables(result: list[float | None]) -> Tables:
        cells = [(cell, value) for cell, value in enumerate(result) if value is not None]
        label = f"log10({column})" if log10 else column
        return {"cells": {"cell_id": [cell for cell, _ in cells], label: [value for _, value in cells]}}

    return Task(
        name=name,
        path=path,
        about=about,
        body=MetadataBody,
        request=MetadataRequest,
        prepare=prepare,
        compute=compute,
        columns=columns,
        to_tables=to_tables,
        every_cell=True,
    )


DOUBLET_SCORE = _task("GetDoubletScore", "getDoubletScore", "the doublet score of every cell", "doublet_scores")
MITOCHONDRIAL_CONTENT = _task(
    "GetMitochondrialContent", "getMitochondrialContent", "the mitochondrial share of every cell", "percent.mt"
)
N_GENES = _task("GetNGenes", "getNGenes", "how many genes were found in every cell (log10)", "nFeature_RNA", log10=True)
N_UMIS = _task(
    "GetNUmis", "getNUmis", "how many molecules were counted in every cell (log10)", "nCount_RNA", log10=True
)
