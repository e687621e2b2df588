"""Which patches of cell sets (contract 5.22) can be sent twice, and how to see that one was applied."""

import re
import uuid
from dataclasses import dataclass
from typing import Any

from cellworker.experiment.packed_cell_sets import keys_in
from cellworker.gateway.core.cell_set_reading import CellSetsFile, whole

__all__ = ["Repeatable", "applied", "examine", "matched_key", "named_after"]

_KEY_QUERY = re.compile(r"""\s*\$\[\?\(\s*@\.key\s*={2,3}\s*(?:"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)')\s*\)\]\s*""")

# The escapes of JavaScript's string literals, which JSON's are among: the query is a piece of JavaScript.
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|(.))", re.DOTALL)
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "v": "\v", "0": "\0", "\n": ""}


@dataclass(frozen=True, slots=True)
class Repeatable:
    """Whether a patch is repeatable.

    Attributes
    ----------
    always
        It only replaces whole classes: however often it is applied, the outcome is the same.
    inserted
        Otherwise: the sets that it inserts, as pairs of class key and set key. Where they exist, it was applied.
        Empty where the patch holds anything else, so that nothing can be said.
    """

    always: bool
    inserted: tuple[tuple[str, str], ...] = ()


def examine(operations: list[dict[str, Any]]) -> Repeatable:
    """Return whether a patch may be applied twice, and the sets that show that it was applied."""
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


def applied(content: bytes | CellSetsFile, inserted: tuple[tuple[str, str], ...]) -> bool:
    """Whether all the sets are in a cell_sets.json; False where it cannot be read."""
    try:
        there = keys_in(whole(content))
    except (ValueError, KeyError, TypeError):
        return False
    return bool(inserted) and there.issuperset(inserted)


def named_after(message_id: str, number: int, operation: dict[str, Any]) -> dict[str, Any]:
    """Give a set that is inserted into a class a key that is the same at each attempt of its message."""
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
    text = _ESCAPE.sub(_unescaped, found[1] if found[1] is not None else found[2])
    # Two escapes of half a character each are one character.
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _unescaped(escape: re.Match[str]) -> str:
    code = escape[1] or escape[2]
    return chr(int(code, 16)) if code else _ESCAPED.get(escape[3], escape[3])


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
