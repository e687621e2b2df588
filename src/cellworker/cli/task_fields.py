"""The fields of tasks in terms of JSON, for `cellworker tasks NAME` and the documentation."""

import json
from dataclasses import dataclass
from typing import Any

import msgspec

__all__ = ["Field", "fields_of"]

_WORDS = {
    "Str": "text",
    "Bool": "true or false",
    "None": "null",
    "Dict": "object",
    "Struct": "object",
    "Any": "anything",
}


@dataclass(frozen=True, slots=True)
class Field:
    """One field: its name (with dots where it is deeper), type and allowed values, and default as JSON or None."""

    name: str
    type: str
    default: str | None


def fields_of(body: type[msgspec.Struct], quote: str = "") -> list[Field]:
    """Return the fields of a body.

    Parameters
    ----------
    body
        The struct.
    quote
        The quotes around allowed values.
    """
    return _fields(msgspec.inspect.type_info(body), quote, "")


def _fields(kind: Any, quote: str, prefix: str) -> list[Field]:  # noqa: ANN401
    found = []
    for item in kind.fields:
        name = f"{prefix}{item.encode_name}"
        found.append(Field(name, _type_words(item.type, quote), None if item.required else _default(item)))
        for option in getattr(item.type, "types", [item.type]):
            nested = getattr(option, "item_type", option)
            if isinstance(nested, msgspec.inspect.StructType):
                found += _fields(nested, quote, f"{name}[]." if nested is not option else f"{name}.")
    return found


def _default(item: Any) -> str:  # noqa: ANN401
    if item.default is not msgspec.NODEFAULT:
        return json.dumps(item.default)
    made = item.default_factory() if item.default_factory is not msgspec.NODEFAULT else None
    return json.dumps(made if isinstance(made, list | dict | type(None)) else msgspec.to_builtins(made))


def _type_words(kind: Any, quote: str) -> str:  # noqa: ANN401
    """Describe a type with its limits."""
    match kind:
        case msgspec.inspect.UnionType(types=types):
            return " or ".join(dict.fromkeys(_type_words(option, quote) for option in types))
        case msgspec.inspect.ListType(item_type=item):
            return f"array of {_type_words(item, quote)}"
        case msgspec.inspect.LiteralType(values=values):
            return ", ".join(f"{quote}{value}{quote}" for value in values)
        case msgspec.inspect.IntType(ge=least):
            return "whole number" if least is None else f"whole number from {least}"
        case msgspec.inspect.FloatType(ge=least):
            return "number" if least is None else f"number from {least:g}"
    return _WORDS[type(kind).__name__.removesuffix("Type")]
