"""ClusterCells: groups of alike cells, as the class of cell sets that replaces the last clustering (contract 5.7)."""

import math
from typing import Annotated, Any, Literal

import numpy as np
import orjson
from msgspec import Meta, Struct, field
from numpy.typing import NDArray

from cellworker.analysis.graphs.fast_neighbours import fast_neighbours
from cellworker.analysis.graphs.leiden import leiden
from cellworker.analysis.graphs.louvain import join_singletons, louvain
from cellworker.analysis.graphs.neighbours import Metric, nearest_neighbours
from cellworker.analysis.graphs.projection import carry_over
from cellworker.analysis.graphs.snn import Links, links_of, shared_neighbours
from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.model import Experiment
from cellworker.experiment.suitability import CLUSTERS, own_graph
from cellworker.tasks.common.reductions import coordinates_of, find_sketch
from cellworker.tasks.common.table_frames import Tables
from cellworker.tasks.common.tissue_colours import cluster_colours
from cellworker.tasks.task import Context, PrepareInput, Progress, Task

__all__ = ["CLUSTER_CELLS"]

_KEY = "louvain"  # for every method: clients look for it
_K = 20
_DIMS = 10
_K_PROJECTED = 50


class ClusterConfig(Struct):
    """How finely to cluster."""

    resolution: Annotated[float, Meta(ge=0)] = 0.5


class ClusterCellsBody(Struct):
    """ClusterCells."""

    type: Literal["louvain", "leiden"]
    cell_set_key: str | None = field(name="cellSetKey", default=None)
    cell_set_name: str | None = field(name="cellSetName", default=None)
    config: ClusterConfig = field(default_factory=ClusterConfig)


class ClusterCellsRequest(Struct):
    """``getClusters``."""

    type: Literal["louvain", "leiden"]
    config: ClusterConfig = field(default_factory=ClusterConfig)


def prepare(given: PrepareInput) -> ClusterCellsRequest:
    """Hand method and resolution on."""
    body: ClusterCellsBody = given.body
    if not math.isfinite(body.config.resolution):
        raise WorkerError(ErrorCode.INVALID_INPUT, "body.config.resolution: expected a finite number from 0.")
    return ClusterCellsRequest(type=body.type, config=body.config)


def compute(experiment: Experiment, request: ClusterCellsRequest, context: Context) -> dict[str, Any]:
    """Return the clusters as a class of cell sets, cells in the object's order.

    Raises
    ------
    WorkerError
        ``REDUCTION_NOT_FOUND`` when the reduction that is clustered on is missing or has no place for some cells,
        ``EXPERIMENT_UNREADABLE`` when the object's own graph has impossible weights.
    """
    labels, names = _labels(experiment, request, context)
    found, codes = np.unique(labels, return_inverse=True)
    by_label = experiment.cell_ids[np.argsort(codes, kind="stable")]
    ends = np.cumsum(np.bincount(codes, minlength=len(found))).tolist()
    cells_of = {name: by_label[a:b] for name, a, b in zip(found.tolist(), [0, *ends], ends, strict=False)}
    number = {name: k for k, name in enumerate(names)}
    in_order = np.array([number[name] for name in found.tolist()], np.int64)
    colours = cluster_colours(experiment, in_order[codes.ravel()], len(names), context)
    children = [
        {
            "key": f"{request.type}-{name}",
            "name": f"Cluster {name}",
            "rootNode": False,
            "type": "cellSets",
            "color": color,
            "cellIds": cells_of[name],
        }
        for name, color in zip(names, colours, strict=True)
    ]
    return {
        "key": _KEY, "name": f"{request.type} clusters", "rootNode": True, "type": "cellSets", "children": children,
    }  # fmt: skip


def _labels(
    experiment: Experiment, request: ClusterCellsRequest, context: Context
) -> tuple[NDArray[Any], list[int] | list[str]]:
    """Return each cell's label, and the labels in the order of the sets."""
    active = experiment.misc.active_reduction
    sketch = find_sketch(experiment)
    if sketch is not None:
        return _sketched_labels(experiment, request, context, *sketch)

    links = _own_graph(experiment)
    if links is None:
        links = _graph(coordinates_of(experiment, active, CLUSTERS)[:, :_DIMS], request, context)
    clusters, joined = _cluster(links, request, context.progress)
    found = np.unique(clusters).tolist()
    # The original sorts as text once it has joined single cells to other clusters.
    return clusters, sorted(found, key=str) if joined else found


def _sketched_labels(
    experiment: Experiment, request: ClusterCellsRequest, context: Context, full: str, sketch: NDArray[np.int64]
) -> tuple[NDArray[Any], list[str]]:
    """Cluster the cells of a sketch, and carry their labels over to all cells by the reduction `full`."""
    everywhere = coordinates_of(experiment, full, CLUSTERS)
    coordinates = experiment.reductions[experiment.misc.active_reduction].values[sketch, :_DIMS]
    clusters, _ = _cluster(_graph(coordinates, request, context), request, context.progress)
    nearest = nearest_neighbours(
        everywhere[sketch],
        min(_K_PROJECTED, len(sketch)),
        "euclidean",
        queries=everywhere,
        threads=context.threads,
        on_progress=lambda fraction: context.progress("Carrying the clusters over to all cells", fraction),
    )
    carried = carry_over(nearest, [str(label) for label in clusters.tolist()])
    return carried, sorted(set(carried.tolist()))


def _own_graph(experiment: Experiment) -> Links | None:
    name = own_graph(experiment)
    if name is None:
        return None
    graph = experiment.graphs[name]
    try:
        return links_of(graph.indptr, graph.cells, graph.weights)
    except ValueError as error:
        raise WorkerError(
            ErrorCode.EXPERIMENT_UNREADABLE, f"The object's graph {name!r} cannot be clustered: {error}."
        ) from None


def _graph(coordinates: NDArray[np.float64], request: ClusterCellsRequest, context: Context) -> Links:
    n = len(coordinates)
    metric: Metric = "cosine" if request.type == "louvain" else "euclidean"
    if n < 2:
        return Links(np.zeros(n + 1, np.int64), np.empty(0, np.int32), np.empty(0))
    k = min(_K, n - 1) if n < _K else _K

    def report(fraction: float) -> None:
        context.progress("Finding neighbours", fraction)

    if request.type == "louvain" or context.like_original:
        # Louvain's labels are the original's, so its neighbours are Annoy's too.
        found = nearest_neighbours(coordinates, k, metric, threads=context.threads, on_progress=report)
    else:
        found = fast_neighbours(coordinates, k, metric, exact=True, threads=context.threads, on_progress=report)
    return shared_neighbours(found.cells, threads=context.threads)


def _cluster(links: Links, request: ClusterCellsRequest, progress: Progress) -> tuple[NDArray[np.int32], bool]:
    """Return each cell's cluster, and whether single cells were joined to other clusters."""
    run = louvain if request.type == "louvain" else leiden
    clusters = run(
        links, request.config.resolution, on_progress=lambda fraction: progress("Finding clusters", fraction)
    )
    if request.type == "leiden":
        return clusters, False
    joined = join_singletons(clusters, links)
    return joined, joined is not clusters


def patch(data: bytes) -> list[dict[str, Any]]:
    """Return the operations that put the class in the place of the last clustering, first of all (contract 5.22)."""
    remove = {"$match": {"query": f'$[?(@.key == "{_KEY}")]', "value": {"$remove": True}}}
    return [remove, {"$prepend": orjson.loads(data)}]


def to_tables(result: dict[str, Any]) -> Tables:
    """One table: the cells and their clusters."""
    pairs = [(cell, child["name"]) for child in result["children"] for cell in child["cellIds"]]
    return {"cells": {"cell_id": [cell for cell, _ in pairs], "cluster": [name for _, name in pairs]}}


CLUSTER_CELLS = Task(
    name="ClusterCells",
    path="getClusters",
    about="Louvain or Leiden clusters",
    example=lambda _: {
        "cellSetName": "Louvain clusters",
        "type": "louvain",
        "cellSetKey": "louvain",
        "config": {"resolution": 0.8},
    },
    body=ClusterCellsBody,
    request=ClusterCellsRequest,
    prepare=prepare,
    compute=compute,
    lane="long",
    cacheable=False,
    patch=patch,
    to_tables=to_tables,
)
