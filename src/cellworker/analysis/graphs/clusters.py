"""Groups of similar cells from their coordinates: neighbours, their shared-neighbour graph, then Louvain or Leiden."""

from collections.abc import Mapping
from functools import partial
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from cellworker.analysis.graphs.fast_neighbours import fast_neighbours
from cellworker.analysis.graphs.leiden import leiden
from cellworker.analysis.graphs.louvain import join_singletons, louvain
from cellworker.analysis.graphs.neighbours import Metric, nearest_neighbours
from cellworker.analysis.graphs.snn import Links, shared_neighbours
from cellworker.progress import Progress, part_of, silent

__all__ = ["DIMS", "LINKED", "Method", "cell_graph", "clusters_of"]

Method = Literal["louvain", "leiden"]

DIMS = 10
"""Number of leading dimensions in the platform's clustering."""
LINKED: Final[Mapping[str, float]] = {"louvain": 0.35, "leiden": 0.65}
"""The fraction of a clustering's time after which the cells are linked, by the method."""
_K = 20
_FOUND_BY_ANNOY, _FOUND_EXACTLY = 0.85, 0.5
"""The fraction of the time after which neighbours are found, and linked from then on."""


def cell_graph(
    coordinates: NDArray[np.float64],
    method: Method,
    *,
    exactly_annoy: bool = False,
    threads: int = 1,
    progress: Progress = silent,
) -> Links:
    """Link cells by the neighbours that they share.

    Parameters
    ----------
    coordinates
        float64 ``(n_cells, n_dims)``, finite; all dimensions are used.
    method
        The later clustering: Louvain starts from Annoy's cosine neighbours, Leiden from exact Euclidean ones.
    exactly_annoy
        Take Annoy's neighbours for Leiden too, as the original does.
    threads
        Threads to use; the result does not depend on it.
    progress
        Called with the stage and the fraction done; may raise to stop.
    """
    n = len(coordinates)
    metric: Metric = "cosine" if method == "louvain" else "euclidean"
    if n < 2:
        return Links(np.zeros(n + 1, np.int64), np.empty(0, np.int32), np.empty(0))
    k = min(_K, n - 1) if n < _K else _K
    by_annoy = method == "louvain" or exactly_annoy
    found_at = _FOUND_BY_ANNOY if by_annoy else _FOUND_EXACTLY
    report = partial(part_of(progress, 0, found_at), "Finding neighbours")
    link = partial(part_of(progress, found_at, 1), "Linking neighbours")
    if by_annoy:
        # Louvain's labels must equal the original's, so its neighbours are Annoy's too.
        found = nearest_neighbours(coordinates, k, metric, threads=threads, on_progress=report)
    else:
        found = fast_neighbours(coordinates, k, metric, exact=True, threads=threads, on_progress=report)
    return shared_neighbours(found.cells, threads=threads, on_progress=link)


def clusters_of(
    links: Links,
    method: Method,
    resolution: float,
    *,
    progress: Progress = silent,
) -> tuple[NDArray[np.int32], bool]:
    """Return each cell's cluster, int32 ``(n_cells,)``, and whether single cells are joined to other clusters."""
    run = louvain if method == "louvain" else leiden
    clusters = run(links, resolution, on_progress=lambda fraction: progress("Finding clusters", fraction))
    if method == "leiden":
        return clusters, False
    joined = join_singletons(clusters, links)
    return joined, joined is not clusters
