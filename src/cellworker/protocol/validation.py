"""Checks JSON from the wire field by field against a type.

Unknown fields are ignored. Invalid content is an ``INVALID_INPUT`` that names the field.
"""

import re
import sys
from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from cellworker.errors import ErrorCode, WorkerError

__all__ = [
    "CellId",
    "Count",
    "Direction",
    "NotJsonError",
    "NotNegative",
    "Number",
    "Positive",
    "Text",
    "Whole",
    "convert",
    "finite_number",
    "told",
]

# Every number of a request has one of these types, or its own limits at both ends. So NaN and infinity, which are
# outside, are refused on entry, and every whole number fits in JSON readers, arrays and floats.
_MAX_FLOAT = sys.float_info.max
_MAX_WHOLE = 2**53 - 1

CellId = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Count = Annotated[int, Meta(ge=0, le=_MAX_WHOLE)]
Positive = Annotated[int, Meta(ge=1, le=_MAX_WHOLE)]
Whole = Annotated[int, Meta(ge=-_MAX_WHOLE, le=_MAX_WHOLE)]
Number = Annotated[float, Meta(ge=-_MAX_FLOAT, le=_MAX_FLOAT)]
NotNegative = Annotated[float, Meta(ge=0, le=_MAX_FLOAT)]
Text = Annotated[str, Meta(min_length=1)]
Direction = Literal["ASC", "DESC", "asc", "desc"]

T = TypeVar("T", bound=Struct)


class NotJsonError(WorkerError):
    """Text that is no JSON; `reason` says where the fault is."""

    def __init__(self, what: str, reason: str) -> None:
        super().__init__(ErrorCode.INVALID_INPUT, f"{what}: not JSON ({reason}).")
        self.reason = reason


def convert(value: bytes | bytearray | Mapping[str, Any], kind: type[T], what: str) -> T:
    """Check JSON text, or a parsed value, against a type.

    Parameters
    ----------
    value
        UTF-8 JSON text or a parsed object.
    kind
        The expected `msgspec.Struct`.
    what
        The object's name in messages, for example "body".

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` naming the field, what is expected and what is found; a `NotJsonError` for text that is no
        JSON.
    """
    try:
        if isinstance(value, bytes | bytearray | memoryview):
            checked: T = _decoder(kind).decode(value)
            return checked
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise WorkerError(ErrorCode.INVALID_INPUT, told(str(error), what, kind)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise NotJsonError(what, str(error)) from None


@lru_cache(maxsize=256)
def _decoder(kind: type[Struct]) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)


_AT = re.compile(r" - at `\$(?P<path>[^`]*)`$")
_MISSING = re.compile(r"Object missing required field `(?P<name>[^`]*)`")
_BEYOND_FLOATS = re.compile(rf"a number (>=|<=) -?{re.escape(repr(_MAX_FLOAT))}")
_WORDS = {
    "int": "a whole number", "float": "a number", "int | float": "a number", "str": "text", "bool": "true or false",
    "array": "an array", "object": "an object",
}  # fmt: skip


def _plain(match: re.Match[str]) -> str:
    names = [name for name in match[1].split(" | ") if name != "null"]
    whole = " | ".join(names)
    return _WORDS.get(whole) or " or ".join(_WORDS.get(name, name) for name in names) or "null"


def told(message: str, what: str, kind: type[Struct]) -> str:
    """Turn the validator's message into one that starts with the field's name and says what is valid."""
    at = _AT.search(message)
    path = at["path"] if at else ""
    text = message[: at.start()] if at else message
    missing = _MISSING.match(text)
    if missing:
        return f"{what}{path}.{missing['name']}: is required and was not given."
    if text.startswith("Invalid enum value"):
        return f"{what}{path}: found {text.removeprefix('Invalid enum value ')}, expected {_allowed(kind, path)}."
    text = _BEYOND_FLOATS.sub("a finite number", re.sub(r"`([^`]*)`", _plain, text).replace(", got ", ", found "))
    return f"{what}{path}: {text[:1].lower()}{text[1:]}."


def finite_number(value: object) -> float | None:
    """Return an unchecked value as a number; None when it is no number, not finite, or too large for a float."""
    try:
        return msgspec.convert(value, Number)
    except msgspec.ValidationError:
        return None


def _allowed(kind: type[Struct], path: str) -> str:
    """List the valid values of the field at a path such as ``.filters[0].comparison``."""
    node: Any = msgspec.inspect.type_info(kind)
    for name in re.findall(r"[^.\[\]]+", re.sub(r"\[[^\]]*\]", ".[]", path).replace("[]", "*")):
        options = getattr(node, "types", [node])
        if name == "*":
            node = next(option.item_type for option in options if hasattr(option, "item_type"))
        else:
            fields = next(option.fields for option in options if hasattr(option, "fields"))
            node = next(item.type for item in fields if item.encode_name == name)
    literals = [value for option in getattr(node, "types", [node]) for value in getattr(option, "values", [])]
    return " or ".join(repr(value) for value in literals)
