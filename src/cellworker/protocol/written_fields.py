"""Fields of a request written by hand: an unknown one is a mistake, and is named."""

import difflib
from collections.abc import Mapping
from typing import Any

import msgspec

from cellworker.errors import ErrorCode, WorkerError

__all__ = ["refuse_unknown_fields"]


def refuse_unknown_fields(
    task: str, body: Mapping[str, Any], kind: type[msgspec.Struct], *, path: str = "body"
) -> None:
    """Refuse fields that a task's body, or what `path` names, does not have, at any depth.

    The platform's programs may send more than is read; a person who writes ``lmit`` means ``limit``.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` naming the field and the valid ones.
    """
    _walk(task, body, msgspec.inspect.type_info(kind), path, {"name"})


def _walk(task: str, value: Any, kind: Any, path: str, also: frozenset[str] | set[str] = frozenset()) -> None:  # noqa: ANN401
    options = getattr(kind, "types", (kind,))
    if isinstance(value, Mapping):
        struct = next((option for option in options if isinstance(option, msgspec.inspect.StructType)), None)
        if struct is None:
            return  # a mapping of free keys, or the wrong type, which decoding names
        fields = {item.encode_name: item.type for item in struct.fields}
        for name, inner in value.items():
            if name in fields:
                _walk(task, inner, fields[name], f"{path}.{name}")
            elif name not in also:
                raise WorkerError(ErrorCode.INVALID_INPUT, _sentence(task, f"{path}.{name}", str(name), list(fields)))
    elif isinstance(value, list | tuple):
        inner_kind = next((option.item_type for option in options if hasattr(option, "item_type")), None)
        if inner_kind is not None:
            for i, item in enumerate(value):
                _walk(task, item, inner_kind, f"{path}[{i}]")


def _sentence(task: str, path: str, name: str, fields: list[str]) -> str:
    near = difflib.get_close_matches(name, fields, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    have = f"its fields here are {', '.join(fields)}" if fields else "it has none here"
    return f"{path}: {task} has no field {name!r}; {have}.{hint}"
