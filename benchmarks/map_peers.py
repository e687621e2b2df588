"""The peers of the benchmark "maps": umap-learn, pynndescent, openTSNE, scranpy, scanpy and igraph on the same cells.

What a peer compiles at its first call, it compiles outside the clock, except for `umap_learn_first`.
"""

# ruff: noqa: PLC0415 - every case is a process of its own: it pays for its own imports, and for nothing else

import random
import warnings

import numpy as np

from benchmarks.harness import timed
from benchmarks.maps import (
    CLUSTER_DIMS,
    CLUSTER_K,
    ITERATIONS,
    MIN_DIST,
    PERPLEXITY,
    RESOLUTION,
    THREADS,
    K,
    agreement,
    centred,
    graph_of,
    map_quality,
    modularity_of,
    points_of,
    recall,
    unit,
)

warnings.simplefilter("ignore")

WARM_CELLS = 5_000  # of fewer, umap-learn and pynndescent look at all pairs, and compile less


def _columns(points: np.ndarray) -> np.ndarray:
    """Return the points as scranpy wants them: one column per cell."""
    return np.asfortranarray(points.T.astype(np.float64))


def _rows(layout) -> np.ndarray:
    out = np.asarray(layout)
    return out if out.shape[1] == 2 else out.T


def neighbours_scranpy(folder: str, method: str) -> None:
    import knncolle

    points = points_of(folder)
    rows = points.astype(np.float64)
    parameters = getattr(knncolle, f"{method}Parameters")()
    with timed() as details:
        index = knncolle.build_index(parameters, rows)
        found = knncolle.find_knn(index, K - 1, num_threads=THREADS)
    details |= recall(points, found.index)


def neighbours_pynndescent(folder: str) -> None:
    from pynndescent import NNDescent

    points = points_of(folder)
    _ = NNDescent(points[:WARM_CELLS], n_neighbors=K, n_jobs=THREADS).neighbor_graph
    with timed() as details:
        found, _ = NNDescent(points, n_neighbors=K, n_jobs=THREADS, random_state=1).neighbor_graph
    details |= recall(points, found)


def _umap_learn(points: np.ndarray) -> np.ndarray:
    """Return the same map each time, as ours is: unseeded it uses more threads, and more CPU time."""
    import umap

    method = umap.UMAP(n_neighbors=K, min_dist=MIN_DIST, metric="cosine", random_state=1, n_jobs=1)
    return method.fit_transform(points)


def umap_learn(folder: str) -> None:
    points = points_of(folder)
    _umap_learn(points[:WARM_CELLS])
    with timed() as details:
        layout = _umap_learn(points)
    details |= map_quality(unit(points), layout)


def umap_learn_first(folder: str) -> None:
    points = points_of(folder)
    with timed():
        _umap_learn(points)


def umap_scranpy(folder: str) -> None:
    """By cosine too: neighbours of unit vectors."""
    import scranpy

    points = unit(points_of(folder))
    with timed() as details:
        layout = scranpy.run_umap(_columns(points), num_neighbors=K, min_dist=MIN_DIST, num_threads=THREADS)
    details |= map_quality(points, _rows(layout))


def tsne_scranpy(folder: str) -> None:
    """Its learning rate is 200 as it comes."""
    import scranpy

    points = centred(points_of(folder))
    with timed() as details:
        layout = scranpy.run_tsne(
            _columns(points), perplexity=PERPLEXITY, max_iterations=ITERATIONS, num_threads=THREADS
        )
    details |= map_quality(points, _rows(layout))


def opentsne(folder: str) -> None:
    from openTSNE import TSNE

    points = centred(points_of(folder))
    early = 250
    method = TSNE(
        perplexity=PERPLEXITY,
        early_exaggeration_iter=early,
        n_iter=ITERATIONS - early,
        n_jobs=THREADS,
        random_state=1,
    )
    with timed() as details:
        layout = method.fit(points)
    details |= map_quality(points, np.asarray(layout))


def _annotated(points: np.ndarray):
    import anndata

    found = anndata.AnnData(np.zeros((len(points), 1), np.float32))
    found.obsm["X_pca"] = points[:, :CLUSTER_DIMS]
    return found


def _labels(annotated) -> np.ndarray:
    return annotated.obs["leiden"].cat.codes.to_numpy()


def clusters_scanpy(folder: str) -> None:
    """By its own graph; Leiden as its documentation recommends."""
    import scanpy as sc

    def work(points: np.ndarray) -> np.ndarray:
        annotated = _annotated(points)
        sc.pp.neighbors(annotated, n_neighbors=CLUSTER_K, use_rep="X_pca")
        sc.tl.leiden(annotated, resolution=RESOLUTION, flavor="igraph", n_iterations=2, directed=False)
        return _labels(annotated)

    points = points_of(folder)
    work(points[:WARM_CELLS])
    with timed() as details:
        labels = work(points)
    details |= agreement(folder, labels)


def _scranpy_communities(graph, method: str) -> np.ndarray:
    import scranpy

    found = scranpy.cluster_graph(graph, method, multilevel_resolution=RESOLUTION, leiden_resolution=RESOLUTION)
    return np.asarray(found["membership"])


def clusters_scranpy(folder: str, method: str) -> None:
    """By the same measure of shared neighbours (their share of the union)."""
    import scranpy

    points = points_of(folder)
    with timed() as details:
        graph = scranpy.build_snn_graph(
            _columns(points[:, :CLUSTER_DIMS]), CLUSTER_K - 1, weight_scheme="jaccard", num_threads=THREADS
        )
        labels = _scranpy_communities(graph, method)
    details |= agreement(folder, labels)


def _links(folder: str) -> tuple[int, np.ndarray, np.ndarray]:
    """Return cells, pairs of linked cells ``(n_links, 2)``, each pair once, each cell with itself too, and weights."""
    graph = graph_of(folder)
    n = len(graph)
    rows = np.repeat(np.arange(n, dtype=np.int32), np.diff(graph.indptr))
    once = rows < graph.cells
    own = np.arange(n, dtype=np.int32)
    pairs = np.concatenate([np.stack([rows[once], graph.cells[once]], axis=1), np.stack([own, own], axis=1)])
    return n, pairs, np.concatenate([graph.weights[once], np.ones(n)])


def communities_igraph(folder: str, iterations: str) -> None:
    """Leiden with some `iterations`, -1 for as many as gain anything; 0 for multilevel, its name for Louvain."""
    import igraph

    n, pairs, weights = _links(folder)
    random.seed(1)
    graph = igraph.Graph(n=n, edges=pairs)
    with timed() as details:
        if int(iterations):
            found = graph.community_leiden(
                "modularity", weights=weights, resolution=RESOLUTION, n_iterations=int(iterations)
            )
        else:
            found = graph.community_multilevel(weights=weights, resolution=RESOLUTION)
    details |= modularity_of(folder, np.array(found.membership))


def communities_scanpy(folder: str) -> None:
    import scanpy as sc
    from scipy.sparse import coo_array, csr_matrix

    n, pairs, weights = _links(folder)
    half = coo_array((weights, pairs.T), shape=(n, n))
    graph = csr_matrix((half + half.T).tocsr())
    annotated = _annotated(points_of(folder))
    with timed() as details:
        sc.tl.leiden(annotated, resolution=RESOLUTION, adjacency=graph, flavor="igraph", n_iterations=2, directed=False)
    details |= modularity_of(folder, _labels(annotated))


def communities_scranpy(folder: str, method: str) -> None:
    from biocutils import NamedList

    n, pairs, weights = _links(folder)
    graph = NamedList([n, pairs.ravel().astype(np.uint32), weights], ["vertices", "edges", "weights"])
    with timed() as details:
        labels = _scranpy_communities(graph, method)
    details |= modularity_of(folder, labels)
