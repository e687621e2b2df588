"""ClusterSubset: groups of similar cells in a subset, as a class of cell sets of its own."""

import hashlib
from typing import Any, Literal

import msgspec
import numpy as np
import orjson
from msgspec import field

from cellworker.analysis.annotation.colours import first_colours
from cellworker.experiment.model import Experiment
from cellworker.protocol.validation import Text
from cellworker.tasks.common.annotated_class import class_tables, replace_class
from cellworker.tasks.common.clustering import ClusterConfig, cluster_labels
from cellworker.tasks.common.groupings import cells_key, name_of
from cellworker.tasks.common.subsets import Space, subset_of
from cellworker.tasks.common.table_frames import Tables
from cellworker.tasks.task import Context, PrepareInput, Task

__all__ = ["CLUSTER_SUBSET"]


class ClusterSubsetBody(Space, kw_only=True):
    """ClusterSubset. `cellSet`: key of a cell set, a class or a selection; `className`: the name of the class."""

    cell_set: Text = field(name="cellSet")
    type: Literal["louvain", "leiden"]
    config: ClusterConfig = field(default_factory=ClusterConfig)
    class_name: str | None = field(name="className", default=None)


class ClusterSubsetRequest(Space, kw_only=True):
    """``clusterSubset``. `cells`: a bitmap or ranges."""

    cells: str
    type: Literal["louvain", "leiden"]
    config: ClusterConfig = field(default_factory=ClusterConfig)
    key: str = "subset"
    name: str = "Clusters of a selection"


def prepare(given: PrepareInput) -> ClusterSubsetRequest:
    """Turn the key into cells, and name the class: the same request always gives the same class."""
    body: ClusterSubsetBody = given.body
    cells = cells_key(body.cell_set, given.cell_sets, "body.cellSet")
    named = body.class_name or f"{body.type.title()} clusters of {name_of(body.cell_set, given.cell_sets)}"
    what = msgspec.json.encode([cells, body.type, body.components, named])
    key = f"subset-{hashlib.sha256(what).hexdigest()[:12]}"
    return ClusterSubsetRequest(
        components=body.components, n_genes=body.n_genes, n_components=body.n_components, cells=cells, type=body.type,
        config=body.config, key=key, name=named,
    )  # fmt: skip


def compute(experiment: Experiment, request: ClusterSubsetRequest, context: Context) -> dict[str, Any]:
    """Return the clusters as a class of cell sets, computed from the first ten components like those of ClusterCells.

    Raises
    ------
    WorkerError
        As `subset_of`.
    """
    subset, _ = subset_of(experiment, request.cells, request, context)
    labels, names = cluster_labels(subset, request, context)
    colours = first_colours(experiment.misc.color_pool, len(names))
    return {
        "key": request.key,
        "name": request.name,
        "rootNode": True,
        "type": "cellSets",
        "children": [
            {
                "key": f"{request.key}-{label}",
                "name": f"Cluster {label}",
                "rootNode": False,
                "type": "cellSets",
                "color": colour,
                "cellIds": subset.cell_ids[np.asarray(labels) == label],
            }
            for label, colour in zip(names, colours, strict=True)
        ],
    }


def patch(data: bytes) -> list[dict[str, Any]]:
    """Return the operations that put the class first and remove the earlier class of the same request."""
    return replace_class(orjson.loads(data), "$prepend")


def to_tables(result: dict[str, Any]) -> Tables:
    """One table: the subset's cells and their clusters."""
    return class_tables(result, "cluster")


CLUSTER_SUBSET = Task(
    name="ClusterSubset",
    path="clusterSubset",
    about="Louvain or Leiden clusters of some of the cells, by saved components or by components of their own",
    example=lambda parts: {"cellSet": parts.first_cluster, "type": "leiden", "config": {"resolution": 0.5}},
    ours=True,
    body=ClusterSubsetBody,
    request=ClusterSubsetRequest,
    prepare=prepare,
    compute=compute,
    lane="long",
    cacheable=False,
    needs_cell_sets=True,
    patch=patch,
    to_tables=to_tables,
)
