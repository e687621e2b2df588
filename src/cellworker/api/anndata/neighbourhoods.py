"""Principal components and neighbours of an AnnData, for ``cellworker.pp``."""

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from cellworker.analysis.graphs.fast_neighbours import fast_neighbours
from cellworker.analysis.graphs.neighbours import Metric, Neighbours
from cellworker.analysis.maps.umap_graph import fuzzy_graph
from cellworker.analysis.statistics.pca import components_of, principal_components
from cellworker.api.anndata.arguments import (
    Unset,
    check_adata,
    default_threads,
    gene_mask,
    invalid,
    one_of,
    only,
    seed_of,
    target,
    whole_number,
)
from cellworker.api.anndata.checked import checked
from cellworker.api.anndata.lazy import LazyMatrix, LazyRows, chosen_anywhere
from cellworker.api.anndata.matrix import matrix_of
from cellworker.api.progress import reporter, with_bar

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["neighbors", "neighbourhood", "pca", "representation"]

_N_PCS = 50  # as in scanpy
_MIN_CELLS = 2  # a cell and a neighbour
_SEARCH = 0.8  # about the share of the search in the time of `neighbors`
_USE_HIGHLY_VARIABLE = "highly_variable"
_SOLVERS = ("arpack", "auto", "covariance_eigh", "full", "lobpcg", "randomized", "tsqr")


@with_bar("Principal components")
@checked
def pca(
    adata: "AnnData",
    n_comps: int | None = None,
    *,
    layer: str | None = None,
    zero_center: bool = True,
    svd_solver: str | None = None,
    chunked: bool = False,  # noqa: ARG001 changes nothing
    chunk_size: int | None = None,  # noqa: ARG001 changes nothing
    random_state: int = 0,
    return_info: bool = False,  # noqa: ARG001 changes nothing
    mask_var: str | NDArray[np.bool_] | Unset | None = Unset.UNSET,
    use_highly_variable: bool | None = None,
    dtype: Any = "float32",  # noqa: ANN401 what NumPy takes for a dtype
    key_added: str | None = None,
    threads: int | None = None,
    copy: bool = False,
) -> "AnnData | None":
    """Compute principal components, as `scanpy.pp.pca` with its solver "arpack" does, up to 1e-5.

    Parameters
    ----------
    adata
        Log-normalised expression, sparse or dense; it is neither copied nor centred in memory.
    n_comps
        Number of components; by default 50, or as many as there are.
    layer
        A layer instead of ``X``.
    zero_center
        Centre the genes.
    svd_solver, chunked, chunk_size, return_info
        scanpy's, so that its calls work as they are: there is one solver, whose result is exact, memory is small
        without chunks, and results are always in `adata`.
    random_state
        Seed; the result hardly depends on it.
    mask_var
        The genes to use: a column of ``var`` or a boolean mask; None for all. By default ``var["highly_variable"]``
        where it exists.
    use_highly_variable
        scanpy's older name: True for that column, False for all genes.
    dtype
        Of the cells' coordinates: float32 or float64.
    key_added
        By default results are ``obsm["X_pca"]``, ``varm["PCs"]`` and ``uns["pca"]``, else all have this key.
    threads
        By default one for each processor; the result does not depend on it.
    copy
        Return a copy with the results instead of writing to `adata`.

    Returns
    -------
    AnnData or None
        Writes ``obsm`` of `dtype` ``(n_cells, n_comps)``, ``varm`` float64 ``(n_genes, n_comps)`` (0 for genes that
        were not used) and ``uns`` with ``variance``, ``variance_ratio`` and ``params``. Of each component the loading
        of largest absolute value is above 0 (scanpy's convention with scikit-learn from 1.5).

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` naming the argument.

    Examples
    --------
    >>> import cellworker as cw
    >>> adata = cw.read(cw.sample_path())[:, :1000].copy()
    >>> cw.pp.pca(adata, 20)
    >>> adata.obsm["X_pca"].shape
    (548, 20)
    """
    kind = _dtype(dtype)
    data = target(adata, copy=copy)
    matrix = chosen_anywhere(data, layer=layer, use_raw=False)
    if use_highly_variable is not None:
        mask_var = _older_name(mask_var, highly_variable=use_highly_variable)
    if isinstance(mask_var, Unset):
        mask_var = _USE_HIGHLY_VARIABLE if _USE_HIGHLY_VARIABLE in data.var else None
    chosen = np.ones(data.n_vars, np.bool_) if mask_var is None else gene_mask(mask_var, data.var)
    if svd_solver is not None:
        one_of("svd_solver", svd_solver, _SOLVERS)
    smaller = min(matrix.n_cells, int(chosen.sum()))
    k = min(_N_PCS, smaller - (1 if zero_center else 0)) if n_comps is None else n_comps
    whole_number("n_comps", k, 1, smaller)
    seed, threads, report = seed_of(random_state), default_threads(threads), reporter("Principal components")
    if isinstance(matrix, LazyMatrix):
        rows = LazyRows(matrix, np.flatnonzero(chosen))
        found = components_of(rows, int(k), centre=zero_center, seed=seed, on_progress=report)
    else:
        values = matrix.csr() if chosen.all() else matrix.csr()[:, chosen]
        found = principal_components(values, int(k), centre=zero_center, seed=seed, threads=threads, on_progress=report)
    loadings = np.zeros((data.n_vars, k))
    loadings[chosen] = found.loadings
    at, loaded, about = ("X_pca", "PCs", "pca") if key_added is None else (key_added,) * 3
    data.obsm[at] = found.scores.astype(kind)
    data.varm[loaded] = loadings
    used = mask_var if isinstance(mask_var, str) else None
    params: dict[str, Any] = {
        "zero_center": zero_center,
        "use_highly_variable": used == _USE_HIGHLY_VARIABLE,
        "mask_var": used,
        **({} if layer is None else {"layer": layer}),
    }
    data.uns[about] = {
        "params": {name: value for name, value in params.items() if value is not None},
        "variance": found.variance,
        "variance_ratio": found.variance / found.total if found.total else np.zeros(int(k)),
    }
    return data if copy else None


def _older_name(mask_var: str | NDArray[np.bool_] | Unset | None, *, highly_variable: bool) -> str | None:
    if not isinstance(mask_var, Unset):
        raise invalid("use_highly_variable", "give mask_var alone")
    return _USE_HIGHLY_VARIABLE if highly_variable else None


def _dtype(dtype: Any) -> "np.dtype[np.floating[Any]]":  # noqa: ANN401
    with suppress(TypeError):
        kind = np.dtype(dtype)
        if kind in (np.float32, np.float64):
            return cast("np.dtype[np.floating[Any]]", kind)
    raise invalid("dtype", f"expected 'float32' or 'float64', found {dtype!r}")


def representation(adata: "AnnData", use_rep: str | None, n_pcs: int | None, threads: int) -> NDArray[np.float32]:
    """Return the cells' coordinates as scanpy chooses them: `use_rep`, else ``X_pca``, which is made where missing.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` naming `use_rep` or `n_pcs`.
    """
    if n_pcs is not None:
        whole_number("n_pcs", n_pcs, 0)
    if use_rep is None:
        if n_pcs == 0 or (n_pcs is None and adata.n_vars <= _N_PCS):
            use_rep = "X"
        else:
            use_rep = "X_pca"
            if use_rep not in adata.obsm:
                pca(adata, n_pcs and min(int(n_pcs), *adata.shape), threads=threads)
    if use_rep == "X":
        points = matrix_of(adata.X, "adata.X", adata.var_names).csr().toarray()
    else:
        one_of("use_rep", use_rep, ["X", *adata.obsm.keys()])
        points = np.asarray(adata.obsm[use_rep])
    if n_pcs:
        if n_pcs > points.shape[1]:
            raise invalid("n_pcs", f"{use_rep} has {points.shape[1]} dimensions, found {n_pcs}")
        points = points[:, : int(n_pcs)]
    if points.dtype.kind not in "iufb" or not np.isfinite(points).all():
        raise invalid("use_rep", f"{use_rep} must hold finite numbers")
    return np.ascontiguousarray(points, np.float32)


@with_bar("Neighbours")
@checked
def neighbors(
    adata: "AnnData",
    n_neighbors: int = 15,
    n_pcs: int | None = None,
    *,
    distances: None = None,  # noqa: ARG001 - `checked` refuses all but None
    use_rep: str | None = None,
    knn: bool = True,
    method: Literal["umap"] = "umap",
    transformer: None = None,  # noqa: ARG001 - as distances
    metric: Metric = "euclidean",
    metric_kwds: Mapping[str, Any] | None = None,
    random_state: int = 0,
    key_added: str | None = None,
    threads: int | None = None,
    copy: bool = False,
) -> "AnnData | None":
    """Find each cell's neighbours, as `scanpy.pp.neighbors` does.

    Exact up to 20,000 cells; beyond, of 30 neighbours in 30 dimensions more than 97 in 100 are found.

    Parameters
    ----------
    adata
        With ``obsm["X_pca"]`` or another representation; without one `pca` makes it.
    n_neighbors
        Number of neighbours, the cell itself included.
    n_pcs
        Number of dimensions of the representation to use; 0 is ``X`` itself.
    use_rep
        A key of ``obsm``, or ``"X"``.
    method
        The method of connectivities: UMAP's fuzzy sets.
    distances, knn, transformer, metric_kwds
        scanpy's, so that its calls work as they are; other values than the defaults are refused.
    metric
        "euclidean" or "cosine".
    random_state
        Kept among the parameters; nothing is drawn.
    key_added
        By default results are ``obsp["distances"]``, ``obsp["connectivities"]`` and ``uns["neighbors"]``; else
        ``<key>_distances``, ``<key>_connectivities`` and ``uns[key]``.
    threads
        By default one for each processor; the result does not depend on it.
    copy
        Return a copy with the results instead of writing to `adata`.

    Returns
    -------
    AnnData or None
        Writes sparse matrices: distances of ``n_neighbors - 1`` others per row; connectivities from 0 to 1,
        symmetric, float32.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` naming the argument.
    """
    only("knn", knn, is_always=True, why="each cell has n_neighbors")
    only("metric_kwds", dict(metric_kwds or {}), is_always={}, why="metrics have no more options")
    data, threads = target(adata, copy=copy), default_threads(threads)
    one_of("method", method, ["umap"])
    one_of("metric", metric, ["euclidean", "cosine"])
    seed = seed_of(random_state)
    n = data.n_obs
    if n < _MIN_CELLS:
        raise invalid("adata", f"expected at least {_MIN_CELLS} cells, found {n}")
    n_neighbors = whole_number("n_neighbors", n_neighbors, 2, n)
    points = representation(data, use_rep, n_pcs, threads)
    report = reporter("Neighbours", 0, _SEARCH)
    found = fast_neighbours(points, int(n_neighbors), metric, threads=threads, on_progress=report)
    stem = "" if key_added is None else f"{key_added}_"
    data.obsp[f"{stem}distances"] = _distances(found, metric)
    data.obsp[f"{stem}connectivities"] = _connectivities(found, metric, threads)
    data.uns["neighbors" if key_added is None else key_added] = {
        "connectivities_key": f"{stem}connectivities",
        "distances_key": f"{stem}distances",
        "params": {
            "n_neighbors": int(n_neighbors),
            "method": method,
            "random_state": seed,
            "metric": metric,
            **({} if use_rep is None else {"use_rep": use_rep}),
            **({} if n_pcs is None else {"n_pcs": int(n_pcs)}),
        },
    }
    return data if copy else None


def _distances(found: Neighbours, metric: Metric) -> Any:  # noqa: ANN401
    from scipy.sparse import csr_matrix  # noqa: PLC0415 heavy

    n, k = found.cells.shape
    cells, distances = found.cells[:, 1:], found.distances[:, 1:].astype(np.float64)
    if metric == "cosine":  # of unit vectors at a distance d, one less the cosine
        distances = distances**2 / 2
    order = np.argsort(cells, axis=1)
    rows = [np.take_along_axis(array, order, axis=1).ravel() for array in (distances, cells)]
    return csr_matrix((rows[0], rows[1], np.arange(0, n * (k - 1) + 1, k - 1)), shape=(n, n))


def _connectivities(found: Neighbours, metric: Metric, threads: int) -> Any:  # noqa: ANN401
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415

    from scipy.sparse import csr_matrix  # noqa: PLC0415 heavy

    with ThreadPoolExecutor(threads) as run:
        graph = fuzzy_graph(found, run, metric=metric, report=reporter("Connectivities", _SEARCH, 1))
    n = len(graph)
    return csr_matrix((graph.weight, graph.to, graph.first), shape=(n, n))


def neighbourhood(adata: "AnnData", neighbors_key: str | None, what: str) -> tuple[Any, dict[str, Any]]:
    """Return the graph that `neighbors` (ours or scanpy's) wrote, compressed rows, and what it was made with.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` naming `neighbors_key`.
    """
    check_adata(adata)
    key = "neighbors" if neighbors_key is None else neighbors_key
    if key not in adata.uns:
        raise invalid(
            "neighbors_key", f"there is no adata.uns[{key!r}]; run cellworker.pp.neighbors(adata) before {what}"
        )
    about = cast("dict[str, Any]", adata.uns[key])
    name = str(about.get("connectivities_key", "connectivities"))
    one_of("neighbors_key", name, adata.obsp.keys())
    return adata.obsp[name].tocsr(), dict(about.get("params", {}))
