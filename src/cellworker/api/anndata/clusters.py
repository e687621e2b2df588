"""Leiden and Louvain clusters of an AnnData."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from cellworker.analysis.graphs.leiden import leiden as find_leiden
from cellworker.analysis.graphs.leiden import modularity
from cellworker.analysis.graphs.louvain import by_falling_size
from cellworker.analysis.graphs.multilevel import multilevel
from cellworker.analysis.graphs.snn import Links
from cellworker.api.anndata.arguments import (
    categories_of,
    invalid,
    names_of,
    number,
    one_of,
    only,
    seed_of,
    target,
    whole_number,
    write_labels,
)
from cellworker.api.anndata.checked import checked
from cellworker.api.anndata.neighbourhoods import neighbourhood
from cellworker.api.progress import with_bar

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["leiden", "louvain"]

_Find = Callable[[Links, float, int], NDArray[np.int32]]
_LOUVAIN_STARTS = 5
_MODULARITY = ("ModularityVertexPartition", "RBConfigurationVertexPartition")  # with resolution 1, and with any
_MAX_LINKS = 2_000_000  # of Leiden: from some 10,000 cells on one way through smaller graphs, 0.6 CPU s for 100,000


@with_bar("Leiden")
@checked
def leiden(
    adata: "AnnData",
    resolution: float = 1,
    *,
    restrict_to: tuple[str, Sequence[str]] | None = None,
    random_state: int = 0,
    key_added: str = "leiden",
    adjacency: Any = None,  # noqa: ANN401 a sparse matrix
    directed: bool | None = None,  # noqa: ARG001 changes nothing
    use_weights: bool = True,
    n_iterations: int = -1,
    partition_type: type | None = None,
    neighbors_key: str | None = None,
    obsp: str | None = None,
    copy: bool = False,
    flavor: Literal["leidenalg", "igraph"] | None = None,
) -> "AnnData | None":
    """Cluster the cells by Leiden's method on the graph of neighbours, as `scanpy.tl.leiden` with modularity does.

    Parameters
    ----------
    adata
        After `cellworker.pp.neighbors` (or scanpy's).
    resolution
        Larger means more clusters.
    restrict_to
        A column of ``obs`` and some of its labels: only these cells are clustered again, under ``"<labels>,<number>"``;
        the key is then ``<key_added>_R``.
    random_state
        Seed.
    key_added
        The column of ``obs``, and the key of ``uns``.
    adjacency
        A symmetric sparse matrix ``(n_cells, n_cells)`` instead of the graph of neighbours.
    directed, n_iterations, partition_type, flavor
        scanpy's, so that its calls work as they are. The graph is symmetric, so its direction changes nothing; how
        often the method repeats follows from the graph; `partition_type` is that of modularity, or None; there is one
        flavor.
    use_weights
        False takes all links for equal.
    neighbors_key
        Where the neighbours' parameters are in ``uns``.
    obsp
        A key of ``obsp`` instead of the graph of neighbours.
    copy
        Return a copy with the results instead of writing to `adata`.

    Returns
    -------
    AnnData or None
        Writes labels "0", "1", ... by falling size, categorical, and ``uns[key]`` with ``params`` and
        ``modularity``.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` naming the argument.
    """
    if n_iterations != -1:
        whole_number("n_iterations", n_iterations, 1)
    if flavor is not None:
        one_of("flavor", flavor, ["leidenalg", "igraph"])
    _check_partition(partition_type, resolution)
    data = target(adata, copy=copy)
    links = _links(data, adjacency, neighbors_key, obsp, use_weights=use_weights)
    _write(data, links, _leiden, how=(resolution, seed_of(random_state)), key=key_added, restrict_to=restrict_to)
    return data if copy else None


@with_bar("Louvain")
@checked
def louvain(
    adata: "AnnData",
    resolution: float | None = None,
    *,
    random_state: int = 0,
    restrict_to: tuple[str, Sequence[str]] | None = None,
    key_added: str = "louvain",
    adjacency: Any = None,  # noqa: ANN401 a sparse matrix
    flavor: Literal["vtraag", "igraph", "rapids"] = "vtraag",
    directed: bool = True,  # noqa: ARG001 changes nothing
    use_weights: bool = True,
    partition_type: type | None = None,
    partition_kwargs: Mapping[str, Any] | None = None,
    neighbors_key: str | None = None,
    obsp: str | None = None,
    copy: bool = False,
) -> "AnnData | None":
    """Cluster the cells by Louvain's method on the graph of neighbours; everything is as for `leiden`.

    Of five starts the one of largest modularity is taken. scanpy's `louvain` ignores weights by default; its
    `resolution` None is 1 here, and `partition_kwargs` has nothing.
    """
    one_of("flavor", flavor, ["vtraag", "igraph", "rapids"])
    resolution = 1.0 if resolution is None else resolution
    _check_partition(partition_type, resolution)
    only("partition_kwargs", dict(partition_kwargs or {}), is_always={}, why="modularity has no more options")
    data = target(adata, copy=copy)
    links = _links(data, adjacency, neighbors_key, obsp, use_weights=use_weights)
    _write(data, links, _louvain, how=(resolution, seed_of(random_state)), key=key_added, restrict_to=restrict_to)
    return data if copy else None


def _check_partition(kind: type | None, resolution: float) -> None:
    """Refuse a partition of leidenalg or louvain that maximises something else than modularity."""
    name = kind.__name__ if kind is not None else ""
    if not name or name == _MODULARITY[1] or (name == _MODULARITY[0] and resolution == 1):
        return
    raise invalid("partition_type", f"expected None, found {name}: clusters maximise modularity")


def _leiden(links: Links, resolution: float, seed: int) -> NDArray[np.int32]:
    return find_leiden(links, resolution, seed=seed, loops=0.0, max_links=_MAX_LINKS)


def _louvain(links: Links, resolution: float, seed: int) -> NDArray[np.int32]:
    words = np.random.MT19937(seed)
    runs = [
        multilevel(links, lambda n: np.argsort(words.random_raw(n)).astype(np.int32), resolution=resolution)
        for _ in range(_LOUVAIN_STARTS)
    ]
    return by_falling_size(max(runs, key=lambda run: run[1])[0])


def _links(
    adata: "AnnData",
    adjacency: Any,  # noqa: ANN401
    neighbors_key: str | None,
    obsp: str | None,
    *,
    use_weights: bool,
) -> Links:
    from scipy.sparse import csr_array, issparse  # noqa: PLC0415 heavy

    given = [name for name, value in (("adjacency", adjacency), ("obsp", obsp), ("neighbors_key", neighbors_key))
             if value is not None]  # fmt: skip
    if len(given) > 1:
        raise invalid(given[0], f"give one of {' and '.join(given)}, not all")
    name = given[0] if given else "neighbors_key"
    if obsp is not None:
        one_of("obsp", obsp, adata.obsp.keys())
        adjacency = adata.obsp[obsp]
    if adjacency is None:
        adjacency = neighbourhood(adata, neighbors_key, "clustering")[0]
    if not issparse(adjacency) or adjacency.shape != (adata.n_obs, adata.n_obs):
        raise invalid(name, f"expected a sparse matrix of {adata.n_obs} x {adata.n_obs}")
    rows = csr_array(adjacency, dtype=np.float64, copy=True)
    if not np.isfinite(rows.data).all() or (rows.data < 0).any():
        raise invalid(name, "weights of links must be finite and not below 0")
    rows.sum_duplicates()  # sorts too
    mirrored = csr_array(rows.T)
    if _largest_difference(rows, mirrored) > 1e-6 * rows.data.max(initial=0):
        rows = csr_array((rows + mirrored) / 2)
    if rows.diagonal().any():  # to set what is not stored is slow
        rows.setdiag(0)
    rows.eliminate_zeros()
    rows.sort_indices()
    weights = rows.data if use_weights else np.ones(len(rows.data))
    return Links(rows.indptr.astype(np.int64), rows.indices.astype(np.int32), np.ascontiguousarray(weights))


def _largest_difference(one: Any, other: Any) -> float:  # noqa: ANN401 sparse matrices
    if np.array_equal(one.indptr, other.indptr) and np.array_equal(one.indices, other.indices):
        return float(np.abs(one.data - other.data).max(initial=0))
    return float(abs(one - other).max())


def _within(links: Links, chosen: NDArray[np.bool_]) -> Links:
    from scipy.sparse import csr_array  # noqa: PLC0415 heavy

    n = len(links)
    rows = csr_array((links.weights, links.cells, links.indptr), shape=(n, n))[chosen][:, chosen]
    rows.sort_indices()
    return Links(rows.indptr.astype(np.int64), rows.indices.astype(np.int32), rows.data)


def _write(
    adata: "AnnData",
    links: Links,
    find: _Find,
    *,
    how: tuple[float, int],
    key: str,
    restrict_to: tuple[str, Sequence[str]] | None,
) -> None:
    resolution, seed = number("resolution", how[0]), how[1]
    params = {"resolution": resolution, "random_state": seed}
    if restrict_to is None:
        labels = find(links, resolution, seed)
        names = [str(i) for i in range(int(labels.max(initial=-1)) + 1)]
        write_labels(adata, key, [names[i] for i in labels.tolist()], names)
        quality = modularity(links, labels, resolution, loops=0.0)
        adata.uns[key] = {"params": params, "modularity": quality}
        return
    column, wanted = restrict_to
    wanted = names_of(wanted)
    if not wanted:
        raise invalid("restrict_to", f"expected at least one label of {column!r}, found none")
    codes, known = categories_of(adata, "restrict_to", column)
    for name in wanted:
        one_of("restrict_to", name, known)
    chosen = np.isin(codes, [known.index(name) for name in wanted])
    labels = find(_within(links, chosen), resolution, seed)
    stem = "-".join(wanted)
    fresh = [f"{stem},{i}" for i in range(int(labels.max(initial=-1)) + 1)]
    every = np.array([known[code] if code >= 0 else None for code in codes.tolist()], object)
    every[chosen] = [fresh[i] for i in labels.tolist()]
    write_labels(adata, f"{key}_R", every.tolist(), [*(name for name in known if name not in set(wanted)), *fresh])
    adata.uns[f"{key}_R"] = {"params": {**params, "restrict_to": [column, *wanted]}}
