"""Turns labels of clusters into a class of cell sets, and into the patch that adds it (contract 5.22)."""

import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import orjson
from msgspec import Struct, field
from numpy.typing import NDArray

from cellworker.analysis.annotation.colours import next_colour
from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.cell_sets import CellSets
from cellworker.experiment.model import Experiment
from cellworker.protocol.validation import Text
from cellworker.tasks.common.requested_sets import RequestedClass, RequestedSet
from cellworker.tasks.common.sent_cells import ids_of, sent_cells
from cellworker.tasks.common.table_frames import Tables

__all__ = ["class_tables", "cluster_codes", "labelled_sets", "new_class", "replace_class", "requested_classes"]

_CLUSTERS = "louvain"
_REPLACED = "replaces"
"""Field of the engine's value: keys of further classes to remove. It is no part of the class."""


class AnnotationBody(Struct):
    """ScTypeAnnotate and CASSIAAnnotate."""

    species: Text
    tissue: Text
    additional_info: str | None = field(name="additionalInfo", default=None)


class AnnotatedClass(RequestedClass):
    """A class of cell sets with its name."""

    name: str = ""


class AnnotationRequest(Struct):
    """The engine request of both. `cell_sets`: the classes by key, with cells for the clusters only."""

    species: str
    tissue: str
    cell_sets: dict[str, AnnotatedClass] = field(name="cellSets")


def requested_classes(cell_sets: CellSets) -> dict[str, AnnotatedClass]:
    """Return the classes by key: the clusters with their cells; the others, which may be replaced, with names only."""
    classes = {}
    for key, item in cell_sets.by_platform_key().items():
        chosen = item.children if key == _CLUSTERS else []
        sets = [RequestedSet(child.name, sent_cells(child.cell_ids)) for child in chosen]
        classes[key] = AnnotatedClass(children=sets, name=item.name)
    return classes


def cluster_codes(experiment: Experiment, classes: Mapping[str, RequestedClass]) -> NDArray[np.int64]:
    """Return each cell's cluster, -1 for none, int64 ``(n_cells,)``; clusters of the same name are one.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` without clusters.
    """
    wanted = classes.get(_CLUSTERS)
    codes = np.full(experiment.n_cells, -1, np.int64)
    numbers: dict[str, int] = {}
    for child in wanted.children if wanted else []:
        rows = experiment.positions(ids_of(child.cell_ids))
        codes[rows[rows >= 0]] = numbers.setdefault(child.name, len(numbers))
    if not (codes >= 0).any():
        message = "Cell types are told by cluster, and there are no clusters: cluster the cells first (ClusterCells)."
        raise WorkerError(ErrorCode.INVALID_INPUT, message)
    return codes


def new_class(name: str, children: list[dict[str, Any]], classes: Mapping[str, AnnotatedClass]) -> dict[str, Any]:
    """Return a class of that name, under the key of the one in `classes` that it replaces, if any."""
    # A second annotation replaces the class under its key. With random keys, two concurrent requests would add two.
    earlier = [key for key, item in classes.items() if item.name == name]
    key = earlier[0] if earlier else str(uuid.uuid5(uuid.NAMESPACE_OID, name))
    result = {"key": key, "name": name, "rootNode": True, "type": "cellSets", "children": children}
    return result | {_REPLACED: earlier[1:]} if earlier[1:] else result


def labelled_sets(
    experiment: Experiment, codes: NDArray[np.int64], names: Sequence[str], key: Callable[[str], str]
) -> list[dict[str, Any]]:
    """Return one set per label, in the order of their first cells.

    Parameters
    ----------
    experiment
        Has the cells' ids and the pool of colours.
    codes
        int64 ``(n_cells,)``: position in `names` of each cell's label, -1 for none.
    names
        The labels, each once.
    key
        Called with a label, returns the key of its set.
    """
    present, first = np.unique(codes, return_index=True)
    sets: list[dict[str, Any]] = []
    for code in present[np.argsort(first)].tolist():
        if code < 0:
            continue
        sets.append(
            {
                "key": key(names[code]),
                "name": names[code],
                "rootNode": False,
                "type": "cellSets",
                "color": next_colour(experiment.misc.color_pool, [item["color"] for item in sets]),
                "cellIds": experiment.cell_ids[codes == code],
            }
        )
    return sets


def replace_class(new: dict[str, Any], where: Literal["$prepend", "$append"]) -> list[dict[str, Any]]:
    """Return the operations that remove the class and the classes it replaces, and put the new one first or last.

    Parameters
    ----------
    new
        The class, as the engine returns it.
    where
        ``$prepend`` or ``$append``.
    """
    keys = dict.fromkeys([new["key"], *new.get(_REPLACED, [])])
    removals = [
        {"$match": {"query": f"$[?(@.key == {orjson.dumps(key).decode()})]", "value": {"$remove": True}}}
        for key in keys
    ]
    return [*removals, {where: {name: value for name, value in new.items() if name != _REPLACED}}]


def class_tables(result: dict[str, Any], column: str) -> Tables:
    """One table: the cells with their labels, set after set."""
    children = result["children"]
    return {
        "cells": {
            "cell_id": [cell for child in children for cell in child["cellIds"]],
            column: [child["name"] for child in children for _ in child["cellIds"]],
        }
    }
