"""Patches of the platform's programs on cell sets that are derived from a file's own columns.

The platform calls new clusters ``louvain`` for every method, and their sets ``leiden-0``, ``leiden-1``, ...;
a patch that stores them removes the class ``louvain`` first. A file may have columns of these names. Its own classes
stay: an inserted class gets a free key. Clusters that were made because the file has none are replaced.
"""

from collections.abc import Iterator
from typing import Any, Final

from cellworker.gateway.core.cell_set_patches import matched_key
from cellworker.local.merge import merge_cell_sets

__all__ = ["patched"]

_CLUSTERS: Final = "louvain"
_NEW: Final = " (new)"


def patched(document: dict[str, Any], operations: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON value
    """Return the document with the operations applied. Inserted clusters are those in use from then on.

    Parameters
    ----------
    document
        A parsed cell_sets.json; one whose sets were not derived is patched as the platform's API does it.
    operations
        The parsed patch.

    Raises
    ------
    WorkerError
        As `merge_cell_sets`.
    """
    classes = document.get("cellSets")
    if not isinstance(document.get("clusters"), str) or not isinstance(classes, list):
        return merge_cell_sets(document, operations)
    inserted = list(_inserted(operations))
    own = {item.get("key") for item in classes if isinstance(item, dict) and _is_of_file(item)}
    renamed = {key: _free(key, own) for key in (item["key"] for item in inserted) if key in own}
    gone = {renamed.get(item["key"], item["key"]) for item in inserted}
    taken = set(_keys(item for item in classes if isinstance(item, dict) and item.get("key") not in gone))
    out = merge_cell_sets(document, [_translated(step, renamed, taken) for step in operations])
    made = [item["key"] for item in inserted if item["key"] == _CLUSTERS]
    return {**out, "clusters": renamed.get(_CLUSTERS, _CLUSTERS)} if made else out


def _is_of_file(item: dict[str, Any]) -> bool:
    """Return whether a class is a column of the file; new clusters replace a class that was made at opening."""
    return bool(item.get("column")) and item.get("made") is not True


def _inserted(operations: Any) -> Iterator[dict[str, Any]]:  # noqa: ANN401
    """Find the classes that a patch inserts; a malformed patch has none, and is refused when it is applied."""
    for step in operations if isinstance(operations, list) else []:
        item = _class_in(step)
        if item is not None:
            yield item


def _class_in(step: Any) -> dict[str, Any] | None:  # noqa: ANN401
    if not isinstance(step, dict):
        return None
    value = step.get("$prepend", step.get("$append"))
    if value is None and isinstance(step.get("$insert"), dict):
        value = step["$insert"].get("value")
    return value if isinstance(value, dict) and isinstance(value.get("key"), str) else None


def _translated(step: Any, renamed: dict[str, str], taken: set[str]) -> Any:  # noqa: ANN401
    """Return an operation that leaves a file's own classes alone: `renamed` has the keys that they hold."""
    item = _class_in(step)
    if item is not None:
        new = {**item, "key": renamed.get(item["key"], item["key"])}
        if isinstance(item.get("children"), list):
            new["children"] = [_renamed_set(child, taken) for child in item["children"]]
        ((name, value),) = step.items()
        return {name: {**value, "value": new} if name == "$insert" else new}
    match = step.get("$match") if isinstance(step, dict) else None
    key = matched_key(match.get("query")) if isinstance(match, dict) else None
    if isinstance(match, dict) and key in renamed and match.get("value") == {"$remove": True}:
        quoted = renamed[key].replace("\\", "\\\\").replace('"', '\\"')
        return {"$match": {**match, "query": f'$[?(@.key == "{quoted}")]'}}
    return step


def _renamed_set(child: Any, taken: set[str]) -> Any:  # noqa: ANN401
    if not isinstance(child, dict) or not isinstance(child.get("key"), str):
        return child
    return {**child, "key": _free(child["key"], taken)}


def _free(key: str, taken: set[Any]) -> str:
    while key in taken:
        key += _NEW
    return key


def _keys(classes: Iterator[dict[str, Any]]) -> Iterator[str]:
    for item in classes:
        yield item.get("key", "")
        children = item.get("children")
        for child in children if isinstance(children, list) else []:
            if isinstance(child, dict):
                yield child.get("key", "")
