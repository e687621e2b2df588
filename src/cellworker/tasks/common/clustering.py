"""Clusters of cells by Louvain or Leiden: from the object's own graph, else from coordinates (contract 5.7)."""

from typing import Annotated, Any, Literal, Protocol

import numpy as np
from msgspec import Meta, Struct
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
from cellworker.tasks.task import Context, Progress

__all__ = ["ClusterConfig", "HowToCluster", "cluster_labels"]

_K = 20
_DIMS = 10
_K_PROJECTED = 50


class ClusterConfig(Struct):
    """How finely to cluster."""

    resolution: Annotated[float, Meta(ge=0)] = 0.5


class HowToCluster(Protocol):
    """What requests for clusters say."""

    @property
    def type(self) -> Literal["louvain", "leiden"]:
        """The method."""
        ...

    @property
    def config(self) -> ClusterConfig:
        """How finely."""
        ...


def cluster_labels(
    experiment: Experiment, request: HowToCluster, context: Context
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
    experiment: Experiment, request: HowToCluster, context: Context, full: str, sketch: NDArray[np.int64]
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


def _graph(coordinates: NDArray[np.float64], request: HowToCluster, context: Context) -> Links:
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


def _cluster(links: Links, request: HowToCluster, progress: Progress) -> tuple[NDArray[np.int32], bool]:
    """Return each cell's cluster, and whether single cells were joined to other clusters."""
    run = louvain if request.type == "louvain" else leiden
    clusters = run(
        links, request.config.resolution, on_progress=lambda fraction: progress("Finding clusters", fraction)
    )
    if request.type == "leiden":
        return clusters, False
    joined = join_singletons(clusters, links)
    return joined, joined is not clusters
