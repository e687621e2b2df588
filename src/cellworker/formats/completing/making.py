"""Clusters and maps as the platform makes them by default, from coordinates."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from cellworker.analysis.graphs.clusters import Method, cell_graph, clusters_of
from cellworker.analysis.graphs.fast_neighbours import fast_neighbours
from cellworker.analysis.maps.umap import umap
from cellworker.experiment.model import Categorical

__all__ = ["RESOLUTION", "grouped", "laid_out"]

Floats = NDArray[np.float64]
Progress = Callable[[float], None]

RESOLUTION = 0.8
"""The platform's pipeline clusters with it."""
_NEIGHBOURS, _MIN_DIST = 30, 0.3  # of the platform's UMAP


def grouped(points: Floats, method: Method, resolution: float, *, threads: int, progress: Progress) -> Categorical:
    """Cluster cells as ClusterCells does; labels are numbers from 0."""
    links = cell_graph(points, method, threads=threads, progress=lambda _, part: progress(0.6 * part))
    labels, _ = clusters_of(links, method, resolution, progress=lambda _, part: progress(0.6 + 0.4 * part))
    found, codes = np.unique(labels, return_inverse=True)
    return Categorical(codes.astype(np.int32).ravel(), [str(label) for label in found.tolist()])


def laid_out(points: Floats, *, threads: int, progress: Progress) -> Floats:
    """Lay cells out as GetEmbedding does by default: float64 ``(n_cells, 2)``."""
    found = fast_neighbours(
        points, min(_NEIGHBOURS, len(points)), "cosine", threads=threads, on_progress=lambda part: progress(0.3 * part)
    )
    layout = umap(
        found, min_dist=_MIN_DIST, metric="cosine", points=points, threads=threads,
        on_progress=lambda part: progress(0.3 + 0.7 * part),
    )  # fmt: skip
    return layout.astype(np.float64)
