"""A label for every cell as a class of cell sets, and the patch that puts it among the others (contract 5.22)."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import orjson
from numpy.typing import NDArray

from cellworker.analysis.colours import next_colour
from cellworker.experiment.model import Experiment
from cellworker.tasks.table_frames import Tables

__all__ = ["class_tables", "labelled_sets", "replace_class"]

REPLACED = "replaces"
"""Field of the engine's value: keys of further classes that give way. It is no part of the class."""


def labelled_sets(
    experiment: Experiment, codes: NDArray[np.int64], names: Sequence[str], key: Callable[[str], str]
) -> list[dict[str, Any]]:
    """Return one set per label, in the order of their first cells.

    Parameters
    ----------
    experiment
        Gives the cells' ids and the pool of colours.
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


def replace_class(data: bytes, where: Literal["$prepend", "$append"]) -> list[dict[str, Any]]:
    """Return the operations that remove the class and what it replaces, and put it first or last.

    Parameters
    ----------
    data
        The engine's value, JSON text: the class.
    where
        ``$prepend`` or ``$append``.
    """
    new = orjson.loads(data)
    keys = dict.fromkeys([new["key"], *new.pop(REPLACED, [])])
    removals = [
        {"$match": {"query": f"$[?(@.key == {orjson.dumps(key).decode()})]", "value": {"$remove": True}}}
        for key in keys
    ]
    return [*removals, {where: new}]


def class_tables(result: dict[str, Any], column: str) -> Tables:
    """One table: the cells with their labels, set after set."""
    children = result["children"]
    return {
        "cells": {
            "cell_id": [cell for child in children for cell in child["cellIds"]],
            column: [child["name"] for child in children for _ in child["cellIds"]],
        }
    }
