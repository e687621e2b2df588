"""The patches of cell sets that the platform's API takes (contract 5.22), on parsed JSON.

A patch is a list of operations on a list: ``$match`` an element by its key and merge into it or ``$remove`` it,
``$prepend``, ``$append``, ``$insert``. A match that finds nothing changes nothing, as with the API.
"""

import re
from typing import Any

from cellworker.errors import ErrorCode, WorkerError

__all__ = ["merge_cell_sets", "validate_cell_sets"]

_QUERY = re.compile(r"""\$\[\?\(\s*@\.key\s*={2,3}\s*(?:"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)')\s*\)\]""")
_MAX_DEPTH = 8


def merge_cell_sets(document: dict[str, Any], operations: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON value
    """Return the document with the operations applied to its classes; the argument is not changed.

    Parameters
    ----------
    document
        A parsed cell_sets.json.
    operations
        The parsed patch.

    Raises
    ------
    WorkerError
        ``CELL_SETS_UPDATE_FAILED`` naming the operation that cannot be understood, or the rule that the outcome breaks.
    """
    classes = document.get("cellSets")
    if not isinstance(classes, list):
        raise _refused("the file has no list of classes", "cellSets")
    merged = _apply(classes, operations, "$", 0)
    validate_cell_sets(merged)
    return {**document, "cellSets": merged}


def validate_cell_sets(classes: list[Any]) -> None:
    """Check the rules that the API checks: a class has a key, a name and children; a set a key, a name and integer ids.

    Raises
    ------
    WorkerError
        ``CELL_SETS_UPDATE_FAILED`` naming the first field that breaks a rule.
    """
    for i, item in enumerate(classes):
        where = f"cellSets[{i}]"
        _need_texts(item, where)
        children = item.get("children")
        if not isinstance(children, list):
            raise _refused("expected an array", f"{where}.children")
        for j, child in enumerate(children):
            _need_texts(child, f"{where}.children[{j}]")
            ids = child.get("cellIds")
            if not isinstance(ids, list) or any(type(cell) is not int for cell in ids):
                raise _refused("expected an array of integers", f"{where}.children[{j}].cellIds")


def _need_texts(item: Any, where: str) -> None:  # noqa: ANN401
    if not isinstance(item, dict):
        raise _refused("expected an object", where)
    for name in ("key", "name"):
        if not isinstance(item.get(name), str):
            raise _refused("expected text", f"{where}.{name}")


def _apply(items: list[Any], operations: Any, where: str, depth: int) -> list[Any]:  # noqa: ANN401
    if not isinstance(operations, list):
        raise _refused("expected a list of operations", where)
    if depth > _MAX_DEPTH:
        raise _refused("nested too deep", where)
    items = list(items)
    for i, operation in enumerate(operations):
        here = f"{where}[{i}]"
        if not isinstance(operation, dict) or len(operation) != 1:
            raise _refused("expected an object with one operation", here)
        ((name, value),) = operation.items()
        if name == "$append":
            items.append(value)
        elif name == "$prepend":
            items.insert(0, value)
        elif name == "$insert":
            items.insert(_index(value, len(items), here), value.get("value"))
        elif name == "$match":
            items = _match(items, value, here, depth)
        else:
            raise _unknown(name, "$match, $prepend, $append and $insert", here)
    return items


def _match(items: list[Any], value: Any, where: str, depth: int) -> list[Any]:  # noqa: ANN401
    query = value.get("query") if isinstance(value, dict) else None
    found = _QUERY.fullmatch(query.strip()) if isinstance(query, str) else None
    if found is None or "value" not in value:
        raise _refused('expected a query such as $[?(@.key == "louvain")] and a value', f"{where}.$match")
    key = re.sub(r"\\(.)", r"\1", found[1] if found[1] is not None else found[2])
    change = value["value"]
    out: list[Any] = []
    for item in items:
        if not isinstance(item, dict) or item.get("key") != key:
            out.append(item)
        elif not (isinstance(change, dict) and change.get("$remove") is True):
            out.append(_merge(item, change, f"{where}.$match.value", depth + 1))
    return out


def _merge(item: Any, change: Any, where: str, depth: int) -> Any:  # noqa: ANN401
    if depth > _MAX_DEPTH:
        raise _refused("nested too deep", where)
    if isinstance(item, dict) and isinstance(change, dict):
        merged = dict(item)
        for name, value in change.items():
            if name == "$replace":
                return value
            if name.startswith("$"):
                raise _unknown(name, "$remove and $replace", where)
            merged[name] = _merge(item[name], value, f"{where}.{name}", depth + 1) if name in item else _fresh(value)
        return merged
    if isinstance(item, list) and isinstance(change, list) and _operates(change):
        return _apply(item, change, where, depth + 1)
    return change


def _fresh(value: Any) -> Any:  # noqa: ANN401
    """Return what a field that was not there becomes: operations on it work on an empty list."""
    return _apply([], value, "$", 0) if isinstance(value, list) and value and _operates(value) else value


def _operates(value: list[Any]) -> bool:
    return any(isinstance(item, dict) and any(str(name).startswith("$") for name in item) for item in value)


def _index(value: Any, length: int, where: str) -> int:  # noqa: ANN401
    index = value.get("index") if isinstance(value, dict) and "value" in value else None
    if index == "-":
        return length
    if type(index) is int and index >= 0:
        return min(index, length)
    raise _refused('expected an index (a number, or "-" for the end) and a value', f"{where}.$insert")


def _unknown(name: str, known: str, where: str) -> WorkerError:
    return _refused(f"unknown operation {name[:40]!r}; known are {known}", where)


def _refused(complaint: str, where: str) -> WorkerError:
    return WorkerError(ErrorCode.CELL_SETS_UPDATE_FAILED, f"The cell sets were not changed: {where}: {complaint}.")
