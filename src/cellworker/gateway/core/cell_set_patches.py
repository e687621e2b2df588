"""Which patches of cell sets (contract 5.22) can be sent twice, and how to see that one was applied."""

import re
import uuid
from dataclasses import dataclass
from typing import Any

import orjson

__all__ = ["Repeatable", "applied", "examine", "matched_key", "named_after"]

_KEY_QUERY = re.compile(r"""\s*\$\[\?\(\s*@\.key\s*={2,3}\s*(?:"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)')\s*\)\]\s*""")


@dataclass(frozen=True, slots=True)
class Repeatable:
    """What is known of a patch.

    Attributes
    ----------
    always
        It only replaces whole classes: however often it is applied, the outcome is the same.
    inserted
        Otherwise: the sets that it inserts, as pairs of class key and set key. Where they are there, it was applied.
        Empty where the patch holds anything else, so that nothing can be said.
    """

    always: bool
    inserted: tuple[tuple[str, str], ...] = ()


def examine(operations: list[dict[str, Any]]) -> Repeatable:
    """Say whether a patch may be applied twice, and by what it is known that it was applied."""
    removed: set[str] = set()
    inserted: list[tuple[str, str]] = []
    for operation in operations:
        ((name, value),) = operation.items() if len(operation) == 1 else (("", None),)
        if name in ("$prepend", "$append"):
            if not (isinstance(value, dict) and value.get("key") in removed):
                return Repeatable(always=False)
        elif name == "$match" and isinstance(value, dict):
            key, change = matched_key(value.get("query")), value.get("value")
            if key is None or not isinstance(change, dict):
                return Repeatable(always=False)
            if change == {"$remove": True}:
                removed.add(key)
                continue
            keys = _inserted_keys(change)
            if keys is None:
                return Repeatable(always=False)
            inserted += [(key, child) for child in keys]
        else:
            return Repeatable(always=False)
    return Repeatable(always=not inserted, inserted=tuple(inserted))


def applied(content: bytes, inserted: tuple[tuple[str, str], ...]) -> bool:
    """Whether all the sets are in a cell_sets.json; False where it cannot be read."""
    try:
        classes = orjson.loads(content)["cellSets"]
        there = {(item["key"], child["key"]) for item in classes for child in item["children"]}
    except (ValueError, KeyError, TypeError):
        return False
    return bool(inserted) and there.issuperset(inserted)


def named_after(message_id: str, number: int, operation: dict[str, Any]) -> dict[str, Any]:
    """Give a set that is inserted into a class a key that is the same each time its message is worked on."""
    match operation:
        case {"$match": {"query": query, "value": {"children": [{"$insert": {"index": index, "value": made}}]}}}:
            key = str(uuid.uuid5(uuid.NAMESPACE_OID, f"{message_id}/{number}"))
            insert = {"$insert": {"index": index, "value": {**made, "key": key}}}
            return {"$match": {"query": query, "value": {"children": [insert]}}}
    return operation


def matched_key(query: object) -> str | None:
    """Return the key that a query such as ``$[?(@.key == "louvain")]`` looks for; None for any other query."""
    found = _KEY_QUERY.fullmatch(query) if isinstance(query, str) else None
    if found is None:
        return None
    return re.sub(r"\\(.)", r"\1", found[1] if found[1] is not None else found[2])


def _inserted_keys(change: dict[str, Any]) -> list[str] | None:
    """Return the keys of the sets that ``{"children": [{"$insert": ...}]}`` adds; None where it does anything else."""
    steps = change.get("children")
    if len(change) != 1 or not isinstance(steps, list) or not steps:
        return None
    keys: list[str] = []
    for step in steps:
        insertion = step.get("$insert") if isinstance(step, dict) and len(step) == 1 else None
        item = insertion.get("value") if isinstance(insertion, dict) else None
        key = item.get("key") if isinstance(item, dict) else None
        if not isinstance(key, str):
            return None
        keys.append(key)
    return keys
