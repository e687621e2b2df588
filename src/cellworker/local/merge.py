"""The patches of cell sets that the platform's API takes (contract 5.22, 10), on parsed JSON.

A patch is a list that is merged into the list of classes. Each item of it is one operation, or plain data that is
merged into the item at the same place:

* ``$match`` finds the *first* element whose key equals the query's, and applies its value to that element alone; a
  match that finds nothing changes nothing;
* ``$remove``, ``$replace`` and ``$move`` work on the element that was matched; ``$move`` takes it out and puts it back
  at an index of the list without it, where ``-`` is the end and a negative index counts from there;
* ``$prepend``, ``$append`` and ``$insert`` add an element;
* anything else is merged: objects by their fields, lists by position, all else is replaced.

Each item of a patch, of any kind, takes one position of the list; this gives plain data its place. Before a
class of cell-level metadata (type ``CLM`` or ``CLMPerSample``) is appended, all classes of these two types are dropped.
Numbers are JavaScript's: an id that is written ``1.0`` is 1.

Two rules are stricter than the API's: an operation that is none of these is refused instead of being stored or run, and
the outcome is checked after every patch, not only after those that add something.

Source of the rules: the documentation of json-merger 3.0.0, and its answers (``tests/node/test_cell_set_patches.py``).
"""

from typing import Any, Final, NamedTuple

from cellworker.errors import ErrorCode, WorkerError
from cellworker.gateway.core.cell_set_patches import matched_key

__all__ = ["merge_cell_sets", "validate_cell_sets"]

_MAX_DEPTH: Final = 64
_MAX_EXACT: Final = 2**53
_MISSING: Final = object()
"""Stands for a missing field, and for a removed one."""
_CELL_METADATA: Final = ("CLM", "CLMPerSample")
_OPERATIONS: Final = ("$match", "$prepend", "$append", "$insert", "$move", "$replace", "$remove")


class _Place(NamedTuple):
    """A position in a patch: its path for error sentences, and its depth."""

    path: str
    depth: int = 0

    def below(self, name: str) -> "_Place":
        if self.depth >= _MAX_DEPTH:
            raise _refused("nested too deep", self.path[:200])
        return _Place(self.path + name, self.depth + 1)


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
        ``CELL_SETS_UPDATE_FAILED`` naming the malformed operation, or the rule that the outcome breaks.
    """
    classes = document.get("cellSets")
    if not isinstance(classes, list):
        raise _refused("the file has no list of classes", "cellSets")
    if not isinstance(operations, list):
        raise _refused("expected a list of operations", "$")
    for i, step in enumerate(operations):
        if not isinstance(step, dict):
            raise _refused("expected an object with one operation", f"$[{i}]")
    if any(_is_cell_metadata(step.get("$append")) for step in operations):
        classes = [item for item in classes if not _is_cell_metadata(item)]
    merged = [_with_whole_ids(item) for item in _merged_list(operations, classes, _Place("$"))]
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


def _is_cell_metadata(item: Any) -> bool:  # noqa: ANN401
    return isinstance(item, dict) and item.get("type") in _CELL_METADATA


def _with_whole_ids(item: Any) -> Any:  # noqa: ANN401
    """Return a class whose ids are integers where their values are."""
    children = item.get("children") if isinstance(item, dict) else None
    if not isinstance(children, list):
        return item
    whole = []
    for child in children:
        ids = child.get("cellIds") if isinstance(child, dict) else None
        if isinstance(ids, list) and float in set(map(type, ids)):
            child = {**child, "cellIds": [_whole(cell) for cell in ids]}  # noqa: PLW2901
        whole.append(child)
    return {**item, "children": whole}


def _whole(value: Any) -> Any:  # noqa: ANN401
    """Return the integer that a number such as 1.0 is; anything else as it is."""
    if type(value) is float and value.is_integer() and abs(value) <= _MAX_EXACT:
        return int(value)
    return value


def _merged(source: Any, target: Any, place: _Place) -> Any:  # noqa: ANN401
    """Return what `target` becomes when `source` is merged into it; either may be missing afterwards."""
    if isinstance(source, list):
        return _merged_list(source, target if isinstance(target, list) else [], place)
    if not isinstance(source, dict):
        return source
    name = _operation_in(source, place)
    if name == "$remove":
        return _MISSING if source[name] is True else target
    if name == "$replace":
        return _merged(source[name], _MISSING, place.below(".$replace"))
    if name is not None:
        complaint = f"{name} works on a list"
        raise _refused(complaint, place.path)
    before = target if isinstance(target, dict) else {}
    after = dict(before)
    for field, value in source.items():
        found = _merged(value, before.get(field, _MISSING), place.below(f".{field[:40]}"))
        if found is _MISSING:
            after.pop(field, None)
        else:
            after[field] = found
    return after


def _merged_list(source: list[Any], target: list[Any], place: _Place) -> list[Any]:
    if not any(isinstance(item, dict | list) for item in source):  # a million ids are merged at once
        return [*source, *target[len(source) :]]
    items = list(target)
    last = -1
    for i, item in enumerate(source):
        last = _apply(item, items, last + 1, place.below(f"[{i}]"))
    return items


def _apply(item: Any, items: list[Any], at: int, place: _Place) -> int:  # noqa: ANN401
    """Apply one item of a patch at position `at` of `items`. Return the position that is the last one handled now."""
    name = _operation_in(item, place) if isinstance(item, dict) else None
    value = item[name] if name else None
    if name == "$match":
        return _match(value, items, at, place.below(".$match"))
    if name in ("$append", "$prepend", "$insert"):
        return _add(name, value, items, at, place.below(f".{name}"))
    if name == "$move":
        return _move(value, items, at, place.below(".$move"))
    if name == "$remove":
        if value is not True:
            return at
        del items[at : at + 1]
        return at - 1
    found = _merged(item, items[at] if at < len(items) else _MISSING, place)
    if found is _MISSING or at > len(items):
        raise _refused("there is nothing at this place of the list", place.path)
    items[at : at + 1] = [found]
    return at


def _match(value: Any, items: list[Any], at: int, place: _Place) -> int:  # noqa: ANN401
    key = matched_key(value.get("query")) if isinstance(value, dict) else None
    if key is None or "value" not in value:
        raise _refused('expected a query such as $[?(@.key == "louvain")] and a value', place.path)
    found = next((i for i, item in enumerate(items) if isinstance(item, dict) and item.get("key") == key), None)
    if found is None:
        return at
    last = _apply(value["value"], items, found, place.below(".value"))
    return at + last - found if found <= at else at


def _add(name: str, value: Any, items: list[Any], at: int, place: _Place) -> int:  # noqa: ANN401
    if name == "$insert" and not (isinstance(value, dict) and "value" in value):
        raise _refused('expected an index (a number, or "-" for the end) and a value', place.path)
    new = _merged(value["value"] if name == "$insert" else value, _MISSING, place)
    if new is _MISSING:
        raise _refused("there is nothing to add", place.path)
    if name == "$append":
        items.append(new)
        return at
    index = 0 if name == "$prepend" else _index(value.get("index"), len(items), 0, place)
    items.insert(index, new)
    return at + 1 if index <= at else at


def _move(value: Any, items: list[Any], at: int, place: _Place) -> int:  # noqa: ANN401
    """Take the item at `at` out, and put it back at an index of the list without it."""
    given = value.get("index") if isinstance(value, dict) else value
    if at >= len(items):
        raise _refused("there is nothing at this place of the list", place.path)
    index = _index(given, len(items) - 1, -_MAX_EXACT, place)
    item = items.pop(at)
    if isinstance(value, dict) and "value" in value:
        item = _merged(value["value"], item, place.below(".value"))
        if item is _MISSING:
            raise _refused("there is nothing to move", place.path)
    items.insert(index, item)
    return at if index < at else at - 1


def _index(value: Any, length: int, lowest: int, place: _Place) -> int:  # noqa: ANN401
    if value == "-":
        return length
    index = _whole(value)
    if type(index) is int and lowest <= index <= _MAX_EXACT:
        return index
    raise _refused('expected an index (a number, or "-" for the end) and a value', place.path)


def _operation_in(item: dict[str, Any], place: _Place) -> str | None:
    """Return the name of the one operation in an object, None where it is plain data; fields beside it do not count."""
    names = [name for name in item if name.startswith("$")]
    if not names:
        return None
    if len(names) > 1:
        raise _refused("expected an object with one operation", place.path)
    if names[0] not in _OPERATIONS:
        known = f"{', '.join(_OPERATIONS[:-1])} and {_OPERATIONS[-1]}"
        complaint = f"unknown operation {names[0][:40]!r}; known are {known}"
        raise _refused(complaint, place.path)
    return names[0]


def _refused(complaint: str, where: str) -> WorkerError:
    return WorkerError(ErrorCode.CELL_SETS_UPDATE_FAILED, f"The cell sets were not changed: {where}: {complaint}.")
