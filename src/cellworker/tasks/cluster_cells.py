"""ClusterCells: groups of similar cells, as the class of cell sets that replaces the last clustering (contract 5.7)."""

from typing import Any, Literal

import numpy as np
import orjson
from msgspec import Struct, field

from cellworker.experiment.model import Experiment
from cellworker.tasks.common.clustering import ClusterConfig, cluster_labels
from cellworker.tasks.common.table_frames import Tables
from cellworker.tasks.common.tissue_colours import cluster_colours
from cellworker.tasks.task import Context, PrepareInput, Task

__all__ = ["CLUSTER_CELLS"]

_KEY = "louvain"  # the same for every method: clients expect it


class ClusterCellsBody(Struct):
    """ClusterCells."""

    type: Literal["louvain", "leiden"]
    cell_set_key: str | None = field(name="cellSetKey", default=None)
    cell_set_name: str | None = field(name="cellSetName", default=None)
    config: ClusterConfig = field(default_factory=ClusterConfig)


class ClusterCellsRequest(Struct):
    """``getClusters``."""

    type: Literal["louvain", "leiden"]
    config: ClusterConfig = field(default_factory=ClusterConfig)


def prepare(given: PrepareInput) -> ClusterCellsRequest:
    """Pass method and resolution on."""
    body: ClusterCellsBody = given.body
    return ClusterCellsRequest(type=body.type, config=body.config)


def compute(experiment: Experiment, request: ClusterCellsRequest, context: Context) -> dict[str, Any]:
    """Return the clusters as a class of cell sets, cells in the object's order.

    Raises
    ------
    WorkerError
        ``REDUCTION_NOT_FOUND`` when the reduction to cluster is missing or lacks coordinates for some cells,
        ``EXPERIMENT_UNREADABLE`` when the object's own graph has impossible weights.
    """
    labels, names = cluster_labels(experiment, request, context)
    found, codes = np.unique(labels, return_inverse=True)
    by_label = experiment.cell_ids[np.argsort(codes, kind="stable")]
    ends = np.cumsum(np.bincount(codes, minlength=len(found))).tolist()
    cells_of = {name: by_label[a:b] for name, a, b in zip(found.tolist(), [0, *ends], ends, strict=False)}
    number = {name: k for k, name in enumerate(names)}
    in_order = np.array([number[name] for name in found.tolist()], np.int64)
    colours = cluster_colours(experiment, in_order[codes.ravel()], len(names), context)
    children = [
        {
            "key": f"{request.type}-{name}",
            "name": f"Cluster {name}",
            "rootNode": False,
            "type": "cellSets",
            "color": color,
            "cellIds": cells_of[name],
        }
        for name, color in zip(names, colours, strict=True)
    ]
    return {
        "key": _KEY, "name": f"{request.type} clusters", "rootNode": True, "type": "cellSets", "children": children,
    }  # fmt: skip


def patch(data: bytes) -> list[dict[str, Any]]:
    """Return the operations that remove the last clustering and put the class first (contract 5.22)."""
    remove = {"$match": {"query": f'$[?(@.key == "{_KEY}")]', "value": {"$remove": True}}}
    return [remove, {"$prepend": orjson.loads(data)}]


def to_tables(result: dict[str, Any]) -> Tables:
    """One table: the cells and their clusters."""
    pairs = [(cell, child["name"]) for child in result["children"] for cell in child["cellIds"]]
    return {"cells": {"cell_id": [cell for cell, _ in pairs], "cluster": [name for _, name in pairs]}}


CLUSTER_CELLS = Task(
    name="ClusterCells",
    path="getClusters",
    about="Louvain or Leiden clusters",
    example=lambda _: {
        "cellSetName": "Louvain clusters",
        "type": "louvain",
        "cellSetKey": "louvain",
        "config": {"resolution": 0.8},
    },
    body=ClusterCellsBody,
    request=ClusterCellsRequest,
    prepare=prepare,
    compute=compute,
    lane="long",
    cacheable=False,
    patch=patch,
    to_tables=to_tables,
)
