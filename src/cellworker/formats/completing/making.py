"""Clusters and maps as the platform makes them by default, from coordinates."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from cellworker.analysis.graphs.clusters import LINKED, Method, cell_graph, clusters_of
from cellworker.analysis.graphs.fast_neighbours import fast_neighbours
from cellworker.analysis.maps.umap import umap
from cellworker.experiment.model import Categorical
from cellworker.progress import part_of

__all__ = ["RESOLUTION", "grouped", "laid_out"]

Floats = NDArray[np.float64]
Progress = Callable[[float], None]

RESOLUTION = 0.8
"""The platform's pipeline clusters with it."""
_NEIGHBOURS, _MIN_DIST = 30, 0.3  # of the platform's UMAP


def grouped(points: Floats, method: Method, resolution: float, *, threads: int, progress: Progress) -> Categorical:
    """Cluster cells as ClusterCells does; labels are numbers from 0."""

    def tell(_stage: str, fraction: float | None = None, /) -> None:
        progress(fraction or 0.0)

    links = cell_graph(points, method, threads=threads, progress=part_of(tell, 0, LINKED[method]))
    labels, _ = clusters_of(links, method, resolution, progress=part_of(tell, LINKED[method], 1))
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
