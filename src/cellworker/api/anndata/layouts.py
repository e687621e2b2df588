"""UMAP and t-SNE of an AnnData."""

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from cellworker.analysis.graphs.fast_neighbours import fast_neighbours
from cellworker.analysis.graphs.neighbours import Metric
from cellworker.analysis.maps.tsne import neighbours_for
from cellworker.analysis.maps.tsne import tsne as lay_out_tsne
from cellworker.analysis.maps.umap import umap_of_graph
from cellworker.analysis.maps.umap_graph import WeightedGraph, curve
from cellworker.api.anndata.arguments import (
    default_threads,
    invalid,
    number,
    one_of,
    only,
    seed_of,
    target,
    whole_number,
)
from cellworker.api.anndata.checked import checked
from cellworker.api.anndata.neighbourhoods import neighbourhood, representation
from cellworker.api.progress import reporter, with_bar

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["tsne", "umap"]

_SEARCH = 0.1  # about the share of the search for neighbours in the time of t-SNE


@with_bar("UMAP")
@checked
def umap(
    adata: "AnnData",
    *,
    min_dist: float = 0.5,
    spread: float = 1.0,
    n_components: int = 2,
    maxiter: int | None = None,
    alpha: float = 1.0,
    gamma: float = 1.0,
    negative_sample_rate: int = 5,
    init_pos: str | NDArray[np.floating] | None = "spectral",
    random_state: int = 0,
    a: float | None = None,
    b: float | None = None,
    method: Literal["umap"] = "umap",
    key_added: str | None = None,
    neighbors_key: str | None = None,
    threads: int | None = None,
    copy: bool = False,
) -> "AnnData | None":
    """Lay out the cells by UMAP, as `scanpy.tl.umap` does: from the graph of neighbours, ours or scanpy's.

    Parameters
    ----------
    adata
        After `cellworker.pp.neighbors`.
    min_dist, spread
        Min distance of cells, and the scale.
    n_components, alpha, gamma, negative_sample_rate, method
        scanpy's, so that its calls work as they are; other values than the defaults are refused: maps have two
        dimensions, and repulsion is not sampled.
    maxiter
        Epochs; by default 500, or 200 for more than 10,000 cells.
    init_pos
        Where cells start: "spectral" where smooth functions of the graph and the first principal components place them;
        "random" anywhere; else at a key of ``obsm`` or an array, ``(n_cells, 2)``.
    random_state
        Seed.
    a, b
        Shape of the curve, both instead of `min_dist` and `spread`.
    key_added
        By default results are ``obsm["X_umap"]`` and ``uns["umap"]``, else ``obsm[key]`` and ``uns[key]``.
    neighbors_key
        Where the neighbours' parameters are in ``uns``.
    threads
        By default one for each processor; the result does not depend on it.
    copy
        Return a copy with the results instead of writing to `adata`.

    Returns
    -------
    AnnData or None
        Writes float32 ``(n_cells, 2)`` coordinates.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` naming the argument.
    """
    only("n_components", n_components, is_always=2, why="maps have two dimensions")
    only("alpha", alpha, is_always=1.0, why="the length of steps suits the method")
    only("gamma", gamma, is_always=1.0, why="repulsion has the weight of the paper")
    only("negative_sample_rate", negative_sample_rate, is_always=5, why="repulsion is not sampled")
    one_of("method", method, ["umap"])
    data, threads, seed = target(adata, copy=copy), default_threads(threads), seed_of(random_state)
    links, params = neighbourhood(data, neighbors_key, "cellworker.tl.umap")
    graph = _graph(links)
    known = params.get("use_rep"), params.get("n_pcs")
    start, points = _start(data, init_pos, seed), None
    if start is None and (known[0] in data.obsm or "X_pca" in data.obsm):
        points = representation(data, known[0] if known[0] in data.obsm else "X_pca", None, threads)
    number("min_dist", min_dist)
    number("spread", spread)
    shape = _shape(min_dist, spread, a, b)
    if maxiter is not None:
        whole_number("maxiter", maxiter, 1)
    try:
        layout = umap_of_graph(
            graph,
            min_dist=min_dist,
            spread=spread,
            shape=shape,
            points=points,
            start=start,
            n_epochs=maxiter,
            seed=seed,
            threads=threads,
            on_progress=reporter("UMAP"),
        )
    except ValueError as error:
        raise invalid("min_dist", str(error)) from None
    data.obsm["X_umap" if key_added is None else key_added] = layout
    data.uns["umap" if key_added is None else key_added] = {
        "params": {"a": shape[0], "b": shape[1], **({"random_state": seed} if seed else {})}
    }
    return data if copy else None


def _shape(min_dist: float, spread: float, a: float | None, b: float | None) -> tuple[float, float]:
    """Return the curve's shape, given or fitted."""
    if (a is None) != (b is None):
        raise invalid("b" if b is None else "a", "expected a number: a and b belong together")
    for name, value in (("a", a), ("b", b)):
        if value is not None and not number(name, value):
            raise invalid(name, f"expected a number above 0, found {value!r}")
    if a is not None and b is not None:
        return float(a), float(b)
    try:
        return curve(min_dist, spread)
    except ValueError as error:
        raise invalid("min_dist", str(error)) from None


def _start(adata: "AnnData", init_pos: str | NDArray[np.floating] | None, seed: int) -> NDArray[np.floating] | None:
    """Return where the cells start; None to go by the graph."""
    if isinstance(init_pos, str) and init_pos == "random":
        return np.random.default_rng(seed).random((adata.n_obs, 2))
    if init_pos is None or (isinstance(init_pos, str) and init_pos == "spectral"):
        return None
    if isinstance(init_pos, str):
        one_of("init_pos", init_pos, ["spectral", "random", *adata.obsm.keys()])
        init_pos = adata.obsm[init_pos]
    places = np.asarray(init_pos)
    if places.shape != (adata.n_obs, 2) or places.dtype.kind not in "iuf" or not np.isfinite(places).all():
        raise invalid("init_pos", f"expected finite numbers ({adata.n_obs}, 2), found {places.dtype} {places.shape}")
    return places


def _graph(links: Any) -> WeightedGraph:  # noqa: ANN401
    """Return the symmetric graph without loops and without links that count for nothing."""
    from scipy.sparse import csr_array  # noqa: PLC0415 heavy

    rows = csr_array(links).astype(np.float32)
    if (rows != rows.T).nnz:
        rows = csr_array(rows.maximum(rows.T))
    rows = rows.copy()
    rows.setdiag(0)
    rows.data[rows.data < 0] = 0
    rows.eliminate_zeros()
    rows.sort_indices()
    first = rows.indptr.astype(np.int64)
    strength = np.zeros(len(first) - 1, np.float32)
    np.add.at(strength, np.repeat(np.arange(len(strength)), np.diff(first)), rows.data)
    return WeightedGraph(first, rows.indices.astype(np.int32), np.ascontiguousarray(rows.data, np.float32), strength)


@with_bar("t-SNE")
@checked
def tsne(
    adata: "AnnData",
    n_pcs: int | None = None,
    *,
    n_components: int = 2,
    use_rep: str | None = None,
    perplexity: float = 30,
    metric: Metric = "euclidean",
    early_exaggeration: float = 12,
    learning_rate: float | None = None,
    random_state: int = 0,
    use_fast_tsne: bool = False,  # noqa: ARG001 changes nothing
    n_jobs: int | None = None,
    key_added: str | None = None,
    threads: int | None = None,
    copy: bool = False,
) -> "AnnData | None":
    """Lay out the cells by t-SNE, as `scanpy.tl.tsne` does.

    Parameters
    ----------
    adata
        With ``obsm["X_pca"]`` or another representation; without one `cellworker.pp.pca` makes it.
    n_pcs, use_rep
        As for `cellworker.pp.neighbors`.
    perplexity
        About how many neighbours count, at most a third of the cells.
    metric
        "euclidean" or "cosine".
    n_components, early_exaggeration, use_fast_tsne
        scanpy's, so that its calls work as they are: maps have two dimensions, attraction is exaggerated 12 times at
        first, and there is one program.
    n_jobs
        scanpy's name of `threads`.
    learning_rate
        Length of the steps; by default what suits the number of cells (scanpy: 1000 for any number).
    random_state
        Seed.
    key_added
        By default results are ``obsm["X_tsne"]`` and ``uns["tsne"]``, else ``obsm[key]`` and ``uns[key]``.
    threads
        By default one for each processor; the result does not depend on it.
    copy
        Return a copy with the results instead of writing to `adata`.

    Returns
    -------
    AnnData or None
        Writes float32 ``(n_cells, 2)`` coordinates.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` naming the argument.
    """
    only("n_components", n_components, is_always=2, why="maps have two dimensions")
    only("early_exaggeration", early_exaggeration, is_always=12, why="the schedule is that of the paper")
    if threads is None and n_jobs is not None and n_jobs != -1:
        threads = whole_number("n_jobs", n_jobs, 1)
    data, threads, seed = target(adata, copy=copy), default_threads(threads), seed_of(random_state)
    one_of("metric", metric, ["euclidean", "cosine"])
    points = representation(data, use_rep, n_pcs, threads)
    number("perplexity", perplexity)
    if learning_rate is not None:
        number("learning_rate", learning_rate)
    try:
        k = neighbours_for(perplexity, len(points))
    except (ValueError, TypeError) as error:
        raise invalid("perplexity", str(error)) from None
    found = fast_neighbours(points, k, metric, threads=threads, on_progress=reporter("Neighbours", 0, _SEARCH))
    try:
        layout = lay_out_tsne(
            found,
            perplexity=perplexity,
            learning_rate=learning_rate,
            points=points,
            seed=seed,
            threads=threads,
            on_progress=reporter("t-SNE", _SEARCH, 1),
        )
    except ValueError as error:
        raise invalid("learning_rate", str(error)) from None
    params: dict[str, Any] = {"perplexity": perplexity, "metric": metric, "use_rep": use_rep, "n_pcs": n_pcs}
    params |= {"learning_rate": learning_rate, "random_state": seed}
    data.obsm["X_tsne" if key_added is None else key_added] = layout
    data.uns["tsne" if key_added is None else key_added] = {
        "params": {name: value for name, value in params.items() if value is not None}
    }
    return data if copy else None
