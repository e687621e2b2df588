"""Trajectories and pseudotime of an AnnData."""

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cellworker.analysis.graphs.fast_neighbours import fast_neighbours
from cellworker.analysis.trajectories.graph_projection import Places
from cellworker.analysis.trajectories.pseudotime import pseudotime as measure
from cellworker.analysis.trajectories.trajectory import learn_trajectory
from cellworker.api.anndata.arguments import (
    check_adata,
    default_threads,
    invalid,
    names_of,
    numbers_of,
    one_of,
    target,
    whole_number,
    write_labels,
)
from cellworker.api.anndata.checked import checked
from cellworker.api.progress import with_bar

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["pseudotime", "trajectory"]


@with_bar("Trajectory")
@checked
def trajectory(
    adata: "AnnData",
    basis: str = "X_umap",
    *,
    method: Literal["leiden", "louvain"] = "louvain",
    key_added: str = "trajectory",
    threads: int | None = None,
    copy: bool = False,
) -> "AnnData | None":
    """Learn the graph along which cells develop, as monocle3 does (Cao 2019).

    Parameters
    ----------
    adata
        With a layout in the plane.
    basis
        The key of ``obsm``: "X_umap", or "umap" for short.
    method
        The clustering method on the way.
    key_added
        The key of ``uns``.
    threads
        By default one for each processor; the result does not depend on it.
    copy
        Return a copy with the results instead of writing to `adata`.

    Returns
    -------
    AnnData or None
        Writes ``uns[key]``: ``nodes`` ``(n_nodes, 2)``, ``links`` ``(n_links, 2)``, ``cells`` (the cell nearest to
        each node), ``params``, and where the cells are on the links; ``obs["<key>_partition"]``.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` naming the argument.
    """
    data = target(adata, copy=copy)
    one_of("method", method, ["leiden", "louvain"])
    name = basis if basis in data.obsm else f"X_{basis}"
    if name not in data.obsm:
        one_of("basis", basis, data.obsm.keys())
    points = np.asarray(data.obsm[name], np.float64)[:, :2]
    if points.shape[1] != 2 or not np.isfinite(points).all() or np.abs(points).max() > 1e15:
        raise invalid("basis", f"{name} must place every cell in a plane, with finite coordinates")
    search: Any = partial(fast_neighbours, threads=default_threads(threads))
    made = learn_trajectory(points, method, "euclidean", search)
    data.uns[key_added] = {
        "nodes": made.nodes,
        "links": made.links,
        "cells": np.asarray(data.obs_names[made.anchors], object),
        "anchors": made.anchors,
        "place_node": made.places.node,
        "place_other": made.places.other,
        "place_part": made.places.part,
        "params": {"basis": name, "method": method},
    }
    labels = [str(part) for part in made.partition.tolist()]
    write_labels(data, f"{key_added}_partition", labels, [str(i) for i in range(int(made.partition.max()) + 1)])
    return data if copy else None


@with_bar("Pseudotime")
@checked
def pseudotime(
    adata: "AnnData",
    root_nodes: int | Iterable[int] | None = None,
    *,
    root_cells: str | Iterable[str] | None = None,
    key_added: str = "pseudotime",
    trajectory_key: str = "trajectory",
    copy: bool = False,
) -> "AnnData | None":
    """Measure each cell's pseudotime: its distance along a trajectory from the roots.

    Parameters
    ----------
    adata
        After `trajectory`.
    root_nodes
        Numbers of nodes.
    root_cells
        Names of cells in their place, or beside them.
    key_added
        The column of ``obs`` that is written: float64, NaN where no root can be reached.
    trajectory_key
        The trajectory's key of ``uns``.
    copy
        Return a copy with the results instead of writing to `adata`.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` naming the argument.
    """
    check_adata(adata)
    data = target(adata, copy=copy)
    if trajectory_key not in data.uns:
        message = f"there is no adata.uns[{trajectory_key!r}]; run cellworker.tl.trajectory(adata) before"
        raise invalid("trajectory_key", message)
    made = data.uns[trajectory_key]
    nodes = np.asarray(made["nodes"])
    places = Places(*(np.asarray(made[f"place_{name}"]) for name in ("node", "other", "part")))
    if len(places.node) != data.n_obs:
        raise invalid("trajectory_key", "the cells have changed since; run cellworker.tl.trajectory(adata) again")
    chosen = [] if root_nodes is None else numbers_of(root_nodes)
    for node in chosen:
        whole_number("root_nodes", node, 0, len(nodes) - 1)
    roots = np.asarray(made["anchors"])[np.array(chosen, np.int64)].tolist() if chosen else []
    cells = [] if root_cells is None else names_of(root_cells)
    where = data.obs_names.get_indexer(cells) if cells else np.empty(0, np.int64)
    if (where < 0).any():
        missing = cells[int(np.flatnonzero(where < 0)[0])]
        raise invalid("root_cells", f"there is no cell {missing!r}; cells are named like {data.obs_names[0]!r}")
    anchors = np.unique([*roots, *where.tolist()]).astype(np.int64)
    if not len(anchors):
        raise invalid("root_nodes", f"expected nodes from 0 to {len(nodes) - 1}, or root_cells; found neither")
    found = measure(nodes, np.asarray(made["links"]).reshape(-1, 2), places, anchors)
    data.obs[key_added] = np.where(np.isfinite(found), found, np.nan)
    return data if copy else None
