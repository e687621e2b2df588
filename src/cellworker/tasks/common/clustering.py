"""Clusters of cells by Louvain or Leiden: from the object's own graph, else from coordinates (contract 5.7)."""

from typing import Any, Final, Literal, Protocol

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from cellworker.analysis.graphs.clusters import DIMS, LINKED, cell_graph, clusters_of
from cellworker.analysis.graphs.neighbours import nearest_neighbours
from cellworker.analysis.graphs.projection import carry_over
from cellworker.analysis.graphs.snn import Links, links_of
from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.model import Experiment
from cellworker.experiment.suitability import CLUSTERS, own_graph
from cellworker.progress import part_of
from cellworker.protocol.validation import NotNegative
from cellworker.tasks.common.reductions import coordinates_of, find_sketch
from cellworker.tasks.task import Context

__all__ = ["ClusterConfig", "HowToCluster", "cluster_labels"]

_K_PROJECTED = 50
_SKETCHED: Final = 0.7
"""The fraction of the time after which the cells of a sketch are clustered."""


class ClusterConfig(Struct):
    """Resolution of the clustering."""

    resolution: NotNegative = 0.5


class HowToCluster(Protocol):
    """Parameters of requests for clusters."""

    @property
    def type(self) -> Literal["louvain", "leiden"]:
        """The method."""
        ...

    @property
    def config(self) -> ClusterConfig:
        """The resolution."""
        ...


def cluster_labels(
    experiment: Experiment, request: HowToCluster, context: Context
) -> tuple[NDArray[Any], list[int] | list[str]]:
    """Return each cell's label, and the labels in the order of the sets."""
    active = experiment.misc.active_reduction
    sketch = find_sketch(experiment)
    if sketch is not None:
        return _sketched_labels(experiment, request, context, *sketch)

    links, begun = _own_graph(experiment), 0.0
    if links is None:
        begun = LINKED[request.type]
        links = _graph(coordinates_of(experiment, active, CLUSTERS)[:, :DIMS], request, context, begun)
    clusters, joined = clusters_of(
        links, request.type, request.config.resolution, progress=part_of(context.progress, begun, 1)
    )
    found = np.unique(clusters).tolist()
    # The original sorts labels as text after it joins single cells to other clusters.
    return clusters, sorted(found, key=str) if joined else found


def _sketched_labels(
    experiment: Experiment, request: HowToCluster, context: Context, full: str, sketch: NDArray[np.int64]
) -> tuple[NDArray[Any], list[str]]:
    """Cluster the cells of a sketch, and transfer their labels to all cells by the reduction `full`."""
    everywhere = coordinates_of(experiment, full, CLUSTERS)
    coordinates = experiment.reductions[experiment.misc.active_reduction].values[sketch, :DIMS]
    linked = _SKETCHED * LINKED[request.type]
    links = _graph(coordinates, request, context, linked)
    clusters, _ = clusters_of(
        links, request.type, request.config.resolution, progress=part_of(context.progress, linked, _SKETCHED)
    )
    nearest = nearest_neighbours(
        everywhere[sketch],
        min(_K_PROJECTED, len(sketch)),
        "euclidean",
        queries=everywhere,
        threads=context.threads,
        on_progress=lambda fraction: context.progress(
            "Carrying the clusters over to all cells", _SKETCHED + (1 - _SKETCHED) * fraction
        ),
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


def _graph(coordinates: NDArray[np.float64], request: HowToCluster, context: Context, until: float) -> Links:
    return cell_graph(
        coordinates,
        request.type,
        exactly_annoy=context.like_original,
        threads=context.threads,
        progress=part_of(context.progress, 0, until),
    )
