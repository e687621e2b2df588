"""GetEmbedding: where each cell lies on the scatter plot (contract 5.1)."""

from typing import Any

import numpy as np
import orjson

from cellworker.analysis.number_text import points_json
from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.model import Experiment, Reduction
from cellworker.protocol.bodies import EmbeddingBody
from cellworker.protocol.engine_bodies import EmbeddingRequest
from cellworker.tasks.table_frames import Tables
from cellworker.tasks.task import Context, PrepareInput, Task

__all__ = ["EMBEDDING"]

_COMPUTED = ("umap", "tsne", "images")


def prepare(given: PrepareInput) -> EmbeddingRequest:
    """Check the configuration of a computed embedding, and hand the body on."""
    body: EmbeddingBody = given.body
    config = body.config or {}
    if not body.use_saved and body.type not in ("pca", *_COMPUTED):
        raise WorkerError(
            ErrorCode.INVALID_INPUT,
            f"body.type: {body.type!r} cannot be computed; expected umap, tsne, pca or images, "
            "or a stored reduction with useSaved.",
        )
    if not body.use_saved:
        _check_config(body.type, config)
    return EmbeddingRequest(type=body.type, use_saved=body.use_saved, config=config)


def _check_config(kind: str, config: dict[str, Any]) -> None:
    def number(name: str, *, positive: bool) -> None:
        value = config.get(name)
        if value is None:
            return
        good = isinstance(value, int | float) and not isinstance(value, bool) and np.isfinite(value)
        if not good or value < 0 or (positive and value == 0):
            wanted = "a number above 0" if positive else "a number from 0"
            raise WorkerError(ErrorCode.INVALID_INPUT, f"body.config.{name}: expected {wanted}, found {value!r}.")

    if kind == "umap":
        number("minimumDistance", positive=False)
        metric = config.get("distanceMetric", "euclidean")
        if metric not in ("euclidean", "cosine"):
            raise WorkerError(
                ErrorCode.INVALID_INPUT, f"body.config.distanceMetric: expected euclidean or cosine, found {metric!r}."
            )
    if kind == "tsne":
        number("perplexity", positive=True)
        number("learningRate", positive=False)


def compute(experiment: Experiment, request: EmbeddingRequest, context: Context) -> orjson.Fragment:  # noqa: ARG001
    """Return the first two dimensions of a stored reduction by cell id, ``null`` for cells that are not there."""
    if request.type == "images" or (request.type in _COMPUTED and not request.use_saved):
        raise WorkerError(
            ErrorCode.TASK_NOT_AVAILABLE,
            f"GetEmbedding with type {request.type!r} cannot be computed yet by this version; "
            "a stored embedding can be asked for with useSaved.",
        )
    values = find_reduction(experiment, request.type).values[:, :2].astype(np.float32)
    spread = np.full((2, experiment.max_cell_id + 1), np.nan, np.float32)
    spread[:, experiment.cell_ids] = values.T
    return orjson.Fragment(points_json(spread[0], spread[1]))


def find_reduction(experiment: Experiment, name: str) -> Reduction:
    """Return a stored reduction of at least two dimensions by its name, else by its name in other case (``UMAP``).

    Raises
    ------
    WorkerError
        ``REDUCTION_NOT_FOUND`` with the names that exist.
    """
    names = list(experiment.reductions)
    found = name if name in names else next((other for other in names if other.casefold() == name.casefold()), None)
    if found is None:
        there = f"it has {', '.join(names)}" if names else "it has none"
        raise WorkerError(
            ErrorCode.REDUCTION_NOT_FOUND, f"The experiment does not hold a reduction named {name!r}: {there}."
        )
    reduction = experiment.reductions[found]
    if reduction.values.shape[1] < 2:
        raise WorkerError(ErrorCode.REDUCTION_NOT_FOUND, f"The reduction {found!r} has fewer than two dimensions.")
    return reduction


def to_tables(result: list[list[float] | None]) -> Tables:
    """One table: a row for each cell that has a place."""
    cells = [(cell, point) for cell, point in enumerate(result) if point]
    return {
        "cells": {
            "cell_id": [cell for cell, _ in cells],
            "x": [point[0] for _, point in cells],
            "y": [point[1] for _, point in cells],
        }
    }


EMBEDDING = Task(
    name="GetEmbedding",
    path="getEmbedding",
    body=EmbeddingBody,
    request=EmbeddingRequest,
    prepare=prepare,
    compute=compute,
    lane="short",
    to_tables=to_tables,
)
