"""GetEmbedding: each cell's place on the scatter plot (contract 5.1)."""

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
import orjson
from msgspec import Meta, Struct, field
from numpy.typing import NDArray

from cellworker.analysis.text.number_text import points_json
from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.model import Experiment, Reduction, TissueImage
from cellworker.protocol.columns import ColumnTable, Numbers
from cellworker.protocol.validation import Text
from cellworker.tasks.common.examples import UI_LAYOUT
from cellworker.tasks.common.layouts import check_config, lay_out_tsne, lay_out_umap
from cellworker.tasks.common.table_frames import Tables
from cellworker.tasks.task import Context, PrepareInput, Task

__all__ = ["EMBEDDING", "places_on"]

_COMPUTED = ("umap", "tsne", "images")


class EmbeddingBody(Struct):
    """GetEmbedding."""

    type: Text
    use_saved: bool = field(name="useSaved", default=False)
    config: dict[str, Any] | None = None


class EmbeddingRequest(Struct):
    """``getEmbedding``."""

    type: Annotated[str, Meta(min_length=1)]
    use_saved: bool = False
    config: dict[str, Any] | list[Any] | None = None


def prepare(given: PrepareInput) -> EmbeddingRequest:
    """Check the configuration of a computed embedding, and pass the body on."""
    body: EmbeddingBody = given.body
    request = EmbeddingRequest(type=body.type, use_saved=body.use_saved, config=body.config or {})
    _check(request)
    return request


def compute(experiment: Experiment, request: EmbeddingRequest, context: Context) -> orjson.Fragment:
    """Return each cell's coordinates by cell id, ``null`` for cells that have none: computed, stored, or on images.

    A cell that is on several images, or has an outline, has all its points in one list: ``[x1, y1, x2, y2]``.
    """
    config = _check(request)
    if request.type == "images":
        return _on_images(experiment)
    return _points(experiment, _places(experiment, request, config, context))


def _places(
    experiment: Experiment, request: EmbeddingRequest, config: dict[str, Any], context: Context
) -> NDArray[np.float32]:
    if request.use_saved or request.type == "pca":
        return find_reduction(experiment, request.type).values[:, :2].astype(np.float32)
    return (lay_out_umap if request.type == "umap" else lay_out_tsne)(experiment, config, context)


def columns(experiment: Experiment, request: EmbeddingRequest, context: Context) -> ColumnTable:
    """Return the same as columns ``x`` and ``y`` by cell id; on images a row per point, with a column ``cell``."""
    config = _check(request)
    if request.type != "images":
        spread = np.full((2, experiment.max_cell_id + 1), np.nan, np.float32)
        spread[:, experiment.cell_ids] = _places(experiment, request, config, context).T
        return ColumnTable({"x": Numbers(spread[0]), "y": Numbers(spread[1])}, {"byCell": True})
    cells, points = _image_points(experiment)
    ids = Numbers(experiment.cell_ids[cells])
    return ColumnTable({"cell": ids, "x": Numbers(points[:, 0]), "y": Numbers(points[:, 1])}, {"byCell": False})


def _check(request: EmbeddingRequest) -> dict[str, Any]:
    config = request.config if isinstance(request.config, dict) else {}  # R has [] for an empty object
    if request.use_saved or request.type in ("pca", "images"):
        return config
    if request.type not in _COMPUTED:
        raise WorkerError(
            ErrorCode.INVALID_INPUT,
            f"body.type: {request.type!r} cannot be computed; expected umap, tsne, pca or images, "
            "or a stored reduction with useSaved.",
        )
    check_config(request.type, config)
    return config


def _points(experiment: Experiment, places: NDArray[np.float32]) -> orjson.Fragment:
    spread = np.full((2, experiment.max_cell_id + 1), np.nan, np.float32)
    spread[:, experiment.cell_ids] = places.T
    return orjson.Fragment(points_json(spread[0], spread[1]))


def _image_points(experiment: Experiment) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    images = list(experiment.images.values())
    if not images:
        raise WorkerError(
            ErrorCode.REDUCTION_NOT_FOUND,
            "The experiment holds no images of tissues: only a spatial experiment, whose object has image coordinates, "
            "can be shown with type 'images'. Expected umap, tsne, pca, or a stored reduction with useSaved.",
        )
    return _image_places(images)


def _on_images(experiment: Experiment) -> orjson.Fragment:
    return _spread(experiment, *_image_points(experiment))


def places_on(experiment: Experiment, images: Sequence[TissueImage]) -> orjson.Fragment:
    """Return each cell's points on some images by cell id, ``null`` for cells that have none; see `compute`."""
    return _spread(experiment, *_image_places(images))


def _image_places(images: Sequence[TissueImage]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    points = np.concatenate([image.points * image.scale for image in images])
    return np.concatenate([image.cells for image in images]), points.astype(np.float32)


def _spread(experiment: Experiment, cells: NDArray[np.int32], points: NDArray[np.float32]) -> orjson.Fragment:
    counts = np.bincount(cells, minlength=experiment.n_cells)
    if counts.max(initial=0) <= 1:
        places = np.full((experiment.n_cells, 2), np.nan, np.float32)
        places[cells] = points
        return _points(experiment, places)
    order = np.argsort(cells, kind="stable")
    by_cell: list[NDArray[np.float32] | None] = [None] * (experiment.max_cell_id + 1)
    for row, own in enumerate(np.split(points[order], np.cumsum(counts)[:-1])):
        if len(own):
            by_cell[experiment.cell_ids[row]] = own.ravel()
    return orjson.Fragment(orjson.dumps(by_cell, option=orjson.OPT_SERIALIZE_NUMPY))


class Glance(Struct):
    """The fields of a request that decide whether an embedding is stored."""

    type: str
    use_saved: bool = False


def is_quick(request: EmbeddingBody | Glance) -> bool:
    """Return whether an embedding is stored and need not be computed."""
    return request.use_saved or request.type not in ("umap", "tsne")


def find_reduction(experiment: Experiment, name: str) -> Reduction:
    """Return a stored reduction of at least two dimensions by its name, else by its name ignoring case (``UMAP``).

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
    """One table: a row for each point of a cell."""
    points = [(cell, own[i], own[i + 1]) for cell, own in enumerate(result) if own for i in range(0, len(own), 2)]
    return {
        "cells": {
            "cell_id": [cell for cell, _, _ in points],
            "x": [x for _, x, _ in points],
            "y": [y for _, _, y in points],
        }
    }


EMBEDDING = Task(
    name="GetEmbedding",
    path="getEmbedding",
    about="coordinates of the cells: UMAP, t-SNE, principal components, saved ones, images of tissues",
    example=lambda parts: {"type": parts.reduction, "useSaved": parts.is_saved, "config": UI_LAYOUT},
    body=EmbeddingBody,
    request=EmbeddingRequest,
    prepare=prepare,
    compute=compute,
    columns=columns,
    lane="long",
    quick=is_quick,
    glance=Glance,
    to_tables=to_tables,
    every_cell=True,
)
